"""Runs a mix: peers take turns, one window each, with the same calls due at the same times."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from shardcache.bench.figure import Absent, Figure
from shardcache.bench.open_loop.drivers import by_tasks, by_threads
from shardcache.bench.open_loop.latency import NOT_SERVED, Served, summarized
from shardcache.bench.open_loop.mix import DueCall, Mix, Outage, due_calls
from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.peers.shardcache import ASYNC, SYNC
from shardcache.bench.race import Race, Spread
from shardcache.bench.scenarios.eligibility import Unfit, installed, reason_of
from shardcache.bench.scenarios.servers import Addresses, Servers
from shardcache.bench.scenarios.values import sample
from shardcache.bench.scenarios.workers import EventLoop

__all__ = ("run_mix",)

LEAST, MOST = 3, 9  # windows, whatever the rounds of a race
PER_WINDOW = 6  # rounds of a race
RECOVERY = 10.0  # seconds that a client has to find a shard that is back
PAUSE = 0.05  # seconds between two tries of that


class Contestant:
    """A peer with its connections and keys.

    ``peer``: the peer.
    ``at``: its servers.
    ``mix``: what it is asked.
    """

    def __init__(self, peer: Peer, at: Addresses, mix: Mix) -> None:
        self.peer = peer
        self._at = at
        self._mix = mix
        self._loop = EventLoop() if peer.asyncio else None
        self._value = sample(mix.case)
        self._keys = [f"user:{number}:profile" for number in range(mix.keys)]
        self._calls: Calls = self._run(peer.open(at, mix.case))

    def window(self, calls: Sequence[DueCall]) -> list[Served]:
        """Store all keys; then make the calls when they are due."""
        for index in range(len(self._keys)):
            self._store(DueCall(0, index, write=True))
        with happening(self._mix.outage, self._at):
            if self._loop:
                served: list[Served] = self._loop.run(by_tasks(calls, self._serve_async))
                return served
            return by_threads(calls, self._serve, self._mix.case.threads)

    def close(self) -> None:
        self._run(self._calls.close())
        if self._loop:
            self._loop.close()

    def _store(self, call: DueCall) -> None:
        deadline = time.monotonic() + RECOVERY
        while time.monotonic() < deadline:
            if self._loop.run(self._serve_async(call)) if self._loop else self._serve(call):
                return
            time.sleep(PAUSE)
        raise Unfit(f"could not store for {RECOVERY:g} s")

    def _run(self, done: Any) -> Any:
        return self._loop.run(done) if self._loop else done

    def _serve(self, call: DueCall) -> bool:
        key = self._keys[call.key]
        try:
            if call.write:
                return self._calls.set(key, self._value) is not False
            return self._calls.get(key) is not None
        except Exception:  # noqa: BLE001  # any error of any library: the call was not served
            return False

    async def _serve_async(self, call: DueCall) -> bool:
        key = self._keys[call.key]
        try:
            if call.write:
                return await self._calls.set(key, self._value) is not False
            return await self._calls.get(key) is not None
        except Exception:  # noqa: BLE001  # any error of any library: the call was not served
            return False


@contextmanager
def happening(outage: Outage | None, at: Addresses) -> Iterator[None]:
    """Let the outage happen in its time; at the end the shard is back."""
    if outage is None:
        yield
        return
    server = at.servers[0]
    dies = outage.kind == "dies"

    def happen() -> None:
        time.sleep(outage.start)
        (server.kill if dies else server.pause)()
        time.sleep(outage.length)
        (server.restart if dies else server.resume)()

    thread = threading.Thread(target=happen)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def run_mix(mix: Mix, race: Race) -> Iterator[Figure | Absent]:
    """Yield percentiles of each peer's latency, and the share of its calls that were not served."""
    ours = ASYNC if mix.case.tasks else SYNC
    windows = max(LEAST, min(MOST, race.rounds // PER_WINDOW))
    with Servers() as servers, ExitStack() as stack:
        contestants = []
        for peer in (ours, *installed(mix.peers)):
            if isinstance(peer, Absent):
                yield peer
                continue
            try:
                contestant = Contestant(peer, servers.find(peer.kind, mix.case), mix)
            except Exception as error:  # noqa: BLE001  # one that fails does not end the run
                yield Absent(peer.name, reason_of(error))
                continue
            stack.callback(contestant.close)
            contestants.append(contestant)
        yield from measured(mix, contestants, windows)


def measured(
    mix: Mix, contestants: Sequence[Contestant], windows: int
) -> Iterator[Figure | Absent]:
    """Let all run one window after the other, and yield what each of them came down to."""
    found: dict[str, list[dict[str, float]]] = {}
    fit = list(contestants)
    for seed in range(windows):
        calls = due_calls(mix, seed)
        for contestant in random.Random(seed).sample(fit, len(fit)):
            name = contestant.peer.name
            try:
                found.setdefault(name, []).append(summarized(contestant.window(calls)))
            except Unfit as error:
                fit.remove(contestant)
                yield Absent(name, str(error))
    # In the order of the table, not in that of the windows.
    for contestant in contestants:
        name = contestant.peer.name
        for measure in (found.get(name) or [{}])[0]:
            unit = " %" if measure == NOT_SERVED else " ms"
            spread = Spread.of(window[measure] for window in found[name])
            yield Figure(f"{name}: {measure}", spread, unit=unit)
