"""How long after a failover by Sentinels the first write succeeds, under load, in both colours.

``python benchmarks/failover.py [--rounds N] [--threads N] [--tasks N]``

In each round a master is killed (SIGKILL) while all callers write. What counts is the time until
the first write to that shard has succeeded: from the moment at which the replica calls itself a
master (``role``), and from that at which a Sentinel first says so (``word``). A Sentinel looks once
in a second whether the replica has obeyed, so up to a second of the first time is its own.
``raised``: exceptions out of calls, under "degrade".
"""

import argparse
import asyncio
import threading
import time
from collections.abc import Callable
from statistics import median
from typing import Self

import redis

from shardcache import AsyncShardCache, ShardCache
from shardcache.embedded import LocalSentinels, LocalServer

TIMEOUT = 0.5  # seconds
PACE = 0.005  # seconds between two writes of one caller
KEYS = [f"key{n}" for n in range(64)]


class Round:
    """What the callers of one round meet; a master is killed once they are at work."""

    def __init__(self, servers: LocalSentinels, name: str) -> None:
        self.name = name
        self.promoted = self.said = self.written = 0.0
        self.raised = 0
        self.busy = threading.Event()
        self.over = threading.Event()
        self._servers = servers
        self._thread = threading.Thread(target=self._kill)

    def note(self, shard: str, stored: bool) -> None:
        """Take in the outcome of one write, at its end."""
        if shard != self.name or not stored:
            return
        self.busy.set()
        if self.promoted and not self.written:
            self.written = time.monotonic()
            self.over.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _kill(self) -> None:
        self.busy.wait()
        [replica] = self._servers.replicas(self.name)
        self._servers.master(self.name).kill()
        self._watch(replica)
        self._ask(replica)
        if not self.over.wait(30):
            self.over.set()

    def _watch(self, replica: LocalServer) -> None:
        with redis.Redis(port=replica.port) as plain:
            while plain.execute_command("ROLE")[0] not in (b"master", "master"):
                time.sleep(0.001)
        self.promoted = time.monotonic()

    def _ask(self, replica: LocalServer) -> None:
        asked = [redis.Redis(port=one.port) for one in self._servers.sentinels]
        command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
        while all(int(one.execute_command(*command)[1]) != replica.port for one in asked):
            time.sleep(0.001)
        self.said = time.monotonic()
        for one in asked:
            one.close()


def threads(url: str, callers: int, done: Round) -> None:
    """Write from that many threads until the round is over."""
    with ShardCache.from_url(url, timeout=TIMEOUT) as cache:

        def work(number: int) -> None:
            at = number
            while not done.over.is_set():
                key = KEYS[at % len(KEYS)]
                at += 1
                try:
                    done.note(cache.explain(key).shard, cache.set(key, at))
                except Exception:
                    done.raised += 1
                time.sleep(PACE)

        crew = [threading.Thread(target=work, args=(number,)) for number in range(callers)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()


def tasks(url: str, callers: int, done: Round) -> None:
    """Write from that many tasks of one loop until the round is over."""

    async def main() -> None:
        async with AsyncShardCache.from_url(url, timeout=TIMEOUT) as cache:

            async def work(number: int) -> None:
                at = number
                while not done.over.is_set():
                    key = KEYS[at % len(KEYS)]
                    at += 1
                    try:
                        done.note(cache.explain(key).shard, await cache.set(key, at))
                    except Exception:
                        done.raised += 1
                    await asyncio.sleep(PACE)

            await asyncio.gather(*(work(number) for number in range(callers)))

    asyncio.run(main())


def measure(kind: Callable[[str, int, Round], None], callers: int, rounds: int) -> str:
    """Return one line of the table."""
    role: list[float] = []
    word: list[float] = []
    raised = 0
    for _ in range(rounds):
        with LocalSentinels(down_after=1.0) as servers, Round(servers, "a") as done:
            kind(servers.url, callers, done)
        role.append(done.written - done.promoted)
        word.append(max(done.written - done.said, 0.0))
        raised += done.raised
    return (
        f"{kind.__name__:>8} {callers:>7} {rounds:>7} "
        + " ".join(f"{median(found):>9.3f} {max(found):>7.3f}" for found in (role, word))
        + f" {raised:>7}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--tasks", type=int, default=64)
    said = parser.parse_args()
    print(" callers  number  rounds    role s     max    word s     max  raised")
    print(measure(threads, said.threads, said.rounds), flush=True)
    print(measure(tasks, said.tasks, said.rounds), flush=True)


if __name__ == "__main__":
    main()
