"""Runs a scenario: starts servers, opens and checks the peers, and races them case by case."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from shardcache.bench.figure import Absent, Figure
from shardcache.bench.peers.peer import Calls, Peer, unchanged
from shardcache.bench.peers.shardcache import ASYNC, SYNC
from shardcache.bench.race import Laps, Race, Racer
from shardcache.bench.scenarios.case import Case, Scenario
from shardcache.bench.scenarios.eligibility import Unfit, installed, reason_of, refusal
from shardcache.bench.scenarios.servers import Servers
from shardcache.bench.scenarios.values import sample
from shardcache.bench.scenarios.workers import EventLoop, Threads, shares

__all__ = ("race_scenario",)

MOST_KEYS = 1_000
MOST_BYTES = 5_000_000  # of all values that a peer stores
CALLS = 640  # of all workers in one lap, of one key each
SLOW_FROM = 1_000  # keys of a call
SLOW_SHARE = 0.3  # of the rounds, where a call takes long


def race_scenario(scenario: Scenario, race: Race) -> Iterator[Figure | Absent]:
    """Yield the ratio of the client to each peer in each case, and which peers are absent."""
    ours = ASYNC if scenario.base.tasks else SYNC
    there: list[Peer] = []
    for peer in installed(scenario.peers):
        if isinstance(peer, Absent):
            yield peer
        else:
            there.append(peer)
    with Servers() as servers:
        for label, case in scenario.cases():
            refusals = {peer: refusal(peer, case, servers) for peer in (ours, *there)}
            for peer, reason in refusals.items():
                if reason:
                    yield Absent(label if peer is ours else peer.name, reason)
            if not refusals[ours]:
                taking_part = [peer for peer, reason in refusals.items() if not reason]
                yield from race_case(label, case, taking_part, servers, race)


def race_case(
    label: str, case: Case, peers: Sequence[Peer], servers: Servers, race: Race
) -> Iterator[Figure | Absent]:
    """Race the first of the peers against the others."""
    calls = max(1, CALLS // case.workers // case.keys)
    crowded = case.workers > 1 or case.tasks > 0
    with ExitStack() as stack:
        crowd = EventLoop() if case.tasks else Threads(case.threads)
        stack.callback(crowd.close)
        run = crowd.run if isinstance(crowd, EventLoop) else unchanged
        racers = []
        # Each peer stores its own keys: formats differ.
        for number, peer in enumerate(peers):
            keys = [f"{number:02}:user:{at}:profile" for at in range(key_count(case))]
            try:
                opened: Calls = run(peer.open(servers.find(peer.kind, case), case))
                stack.callback(_close, run, opened)
                call = getattr(opened, case.operation)
                if call is None:
                    raise Unfit(f"has no {case.operation}")
                _fill(opened, peer, case, keys, run)
                inputs, one = _inputs(case, opened, keys)
                racer = Racer(peer.name, one(call), inputs)
                if crowded:
                    racer = crowd.racer(*racer[:2], shares(inputs, case.workers, calls))
                racer.call(racer.inputs[0])  # all workers have their connections
            except Exception as error:  # noqa: BLE001  # what is wrong with one is no end of the run
                yield Absent(peer.name, reason_of(error))
                continue
            racers.append(racer)
        # Without the client itself there is nothing to compare with.
        if racers and racers[0].name == peers[0].name:
            share = SLOW_SHARE if case.keys >= SLOW_FROM else 1.0
            try:
                laps = race(racers, share=share)
            except Exception as error:  # noqa: BLE001  # a case that fails does not end the run
                yield Absent(label, reason_of(error))
            else:
                yield from figures(label, laps, case.workers * calls if crowded else 1)


def _close(run: Callable[[Any], Any], opened: Calls) -> None:
    run(opened.close())


def figures(label: str, laps: Laps, calls: int) -> Iterator[Figure]:
    """Yield the first client as a multiple of each other one; each time is of ``calls`` calls."""
    ours, *others = laps.seconds
    for peer in others:
        costs = f"{laps.micros(ours) / calls:.1f} / {laps.micros(peer) / calls:.1f} µs"
        yield Figure(
            f"{label}: {ours} / {peer}",
            laps.ratio(ours, peer),
            costs=costs,
            per_call=laps.costs(ours, peer, calls=calls),
        )


def key_count(case: Case) -> int:
    """Return how many keys each peer stores: several calls' worth, but not too many bytes."""
    room = MOST_BYTES // case.size if case.value in ("bytes", "str") else MOST_KEYS
    return max(case.keys, min(MOST_KEYS, max(20, room)))


def _fill(
    opened: Calls, peer: Peer, case: Case, keys: Sequence[str], run: Callable[[Any], Any]
) -> None:
    """Store all keys, and see that a peer reads what it was given."""
    if case.operation == "lock":
        return
    value = 0 if case.operation == "incr" else sample(case)
    for key in keys:
        run(opened.set(key, value))
    if peer.floor or case.operation == "incr":
        return
    found = [run(opened.get(keys[0]))]
    if opened.get_many:
        found.append(run(opened.get_many(keys[:1])).get(keys[0]))
    for one in found:
        if one != value:
            raise Unfit(f"returned {one!r:.40} for {value!r:.40}")


def _inputs(
    case: Case, opened: Calls, keys: Sequence[str]
) -> tuple[list[Any], Callable[[Callable[..., Any]], Callable[[Any], Any]]]:
    """Return what is called with, and what makes the call one of a single argument."""
    value = sample(case)
    groups = [list(keys[at : at + case.keys]) for at in range(0, len(keys), case.keys)]
    plain: list[Any] = list(keys)
    if case.operation == "get_many":
        plain = groups
    elif case.operation == "set_many":
        plain = [dict.fromkeys(group, value) for group in groups]
    elif case.operation == "set":
        return plain, lambda call: lambda key: call(key, value)
    return [opened.prepare(one) for one in plain], lambda call: call
