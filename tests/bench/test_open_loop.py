"""Mixes at a fixed rate: which calls are due when, and what latencies come down to."""

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.bench.figure import Absent, Figure
from shardcache.bench.open_loop import drivers
from shardcache.bench.open_loop.drivers import by_tasks, by_threads
from shardcache.bench.open_loop.latency import NOT_SERVED, Served, percentile, summarized
from shardcache.bench.open_loop.mix import DueCall, Mix, Outage, due_calls
from shardcache.bench.open_loop.subject import run_mix
from shardcache.bench.open_loop.table import MIXES
from shardcache.bench.peers.registry import PEERS
from shardcache.bench.race import Race
from shardcache.bench.scenarios.case import Case

SMALL = Mix(Case(shards=2, threads=2, timeout=5), (), rate=1000, seconds=0.05, keys=10)


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 100))
def test_percentile(values: list[float], percent: float) -> None:
    """At least so many do not exceed it, and no smaller value will do."""
    ordered = sorted(values)
    found = percentile(ordered, percent)

    def share(limit: float) -> float:
        return 100 * sum(value <= limit for value in ordered) / len(ordered)

    assert share(found) >= percent - 1e-9
    assert all(share(value) < percent for value in ordered if value < found)


def test_summary_counts_what_was_not_served() -> None:
    """In percent, beside milliseconds."""
    served = [Served(0.001, True), Served(0.002, True), Served(0.003, True), Served(0.5, False)]
    found = summarized(served)
    assert found == {"p50": 2, "p90": 500, "p99": 500, "p99.9": 500, NOT_SERVED: 25}


@given(st.integers(0, 9), st.floats(0, 1))
def test_calls_are_the_same_for_each_peer(seed: int, writes: float) -> None:
    """Evenly spaced, at the rate of the mix, with the smallest ranks most often."""
    mix = Mix(Case(), (), rate=500, seconds=2, writes=writes, keys=100)
    calls = due_calls(mix, seed)
    assert calls == due_calls(mix, seed)
    assert [call.due for call in calls] == [number / 500 for number in range(1000)]
    assert all(0 <= call.key < 100 for call in calls)
    assert sum(call.key < 10 for call in calls) > sum(call.key >= 90 for call in calls)
    assert writes not in (0, 1) or {call.write for call in calls} == {bool(writes)}


def test_threads_wait_counts_from_when_a_call_was_due() -> None:
    """A call behind one that stalls has waited since it was due."""
    calls = [DueCall(0, 0, write=False), DueCall(0, 1, write=False)]
    go = threading.Timer(0.05, lambda: None)
    go.start()

    def serve(call: DueCall) -> bool:
        if call.key == 0:
            go.join()
        return call.key == 1

    stalled, behind = by_threads(calls, serve, 1)
    assert behind.seconds >= stalled.seconds
    assert (stalled.fine, behind.fine) == (False, True)


def test_task_does_not_wait_for_another() -> None:
    """Each call begins when it is due, whatever became of the one before it."""

    async def main() -> list[Served]:
        go = asyncio.Event()

        async def serve(call: DueCall) -> bool:
            if call.key == 0:
                await go.wait()
            else:
                go.set()
            return True

        return await by_tasks([DueCall(0, 0, write=False), DueCall(0, 1, write=False)], serve)

    first, second = asyncio.run(main())
    assert first.seconds >= second.seconds


def test_call_that_never_ends_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window ends all the same, and the others are what they are."""
    monkeypatch.setattr(drivers, "GRACE", 0.05)

    async def serve(call: DueCall) -> bool:
        if call.key == 0:
            await asyncio.Event().wait()
        return True

    calls = [DueCall(0, 0, write=False), DueCall(0, 1, write=False)]
    found = asyncio.run(by_tasks(calls, serve))
    assert [one.fine for one in found] == [False, True]


@pytest.mark.parametrize("name", MIXES)
def test_table_names_what_exists(name: str) -> None:
    """Each peer of a mix takes part in it; and what is to be killed is a server of ours."""
    mix = MIXES[name]
    for peer in mix.peers:
        assert PEERS[peer].refuses(mix.case) == ""
        assert mix.outage is None or PEERS[peer].kind != "memcached"


@pytest.mark.parametrize(
    "mix",
    [
        pytest.param(SMALL, id="threads"),
        pytest.param(
            Mix(Case(tasks=1, shards=2, timeout=5), (), rate=1000, seconds=0.05, keys=10),
            id="tasks",
        ),
        pytest.param(
            Mix(**{**vars(SMALL), "outage": Outage("dies", 0.01, 0.05), "seconds": 0.2}), id="dies"
        ),
        pytest.param(
            Mix(**{**vars(SMALL), "outage": Outage("hangs", 0.01, 0.05), "seconds": 0.2}),
            id="hangs",
        ),
    ],
)
def test_mix_runs(mix: Mix) -> None:
    """Each measure is a figure, whatever happens to a shard."""
    found = list(run_mix(mix, Race(3)))
    assert not [one for one in found if isinstance(one, Absent)]
    figures = {one.what: one for one in found if isinstance(one, Figure)}
    names = ["p50", "p90", "p99", "p99.9", NOT_SERVED]
    assert list(figures) == [f"shardcache: {name}" for name in names]
    if mix.outage is None:
        assert figures[f"shardcache: {NOT_SERVED}"].measured.middle == 0
