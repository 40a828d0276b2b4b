"""`deadline` around loads: what is waited for ends by it, and what others wait for does not.

The client's own timeout is an hour, so a call that ends at all has kept to the deadline.
"""

import threading
from time import monotonic
from typing import Any

import pytest

from shardcache import LoadPolicy, Options, deadline
from shardcache.drivers.loader_permits import NoTimeForTurn
from shardcache.errors import LoadWaitTimeout, TooManyLoaders
from shardcache.flows.budget import Budget
from shardcache.request_deadline import caller_end_by
from tests.waiting import until

HOUR = 3600.0


def _in_thread(call: Any, *args: Any) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call(*args)))
    thread.start()
    return thread, found


@pytest.fixture
def busy(make, gate) -> Any:
    """A client whose only loader is at work until the gate is opened."""
    cache = make(timeout=HOUR, options=Options(max_loads=1))
    thread, _ = _in_thread(cache.get_or_set, "first", gate())
    gate.begun()
    yield cache
    gate.open()
    thread.join()


def test_turn(busy, gate) -> None:
    """A loader waits for its turn until the deadline; the next caller has it."""
    with deadline(0.05), pytest.raises(TooManyLoaders, match="deadline is over"):
        busy.get_or_set("k", lambda: 1)
    with deadline(0), pytest.raises(TooManyLoaders):
        busy.get_or_set_many(["k", "l"], lambda keys: dict.fromkeys(keys, 1))
    gate.open()
    assert busy.get_or_set("k", lambda: 2) == 2


def test_turn_of_a_caller_that_joined(busy, gate) -> None:
    """The deadline of the caller that began a load is not that of the callers that joined it."""
    hurried: list[object] = []

    def hurry() -> None:
        try:
            with deadline(0.3):
                busy.get_or_set("k", lambda: 1)
        except NoTimeForTurn as error:
            hurried.append(error)

    first, _ = _in_thread(hurry)
    second, found = _in_thread(busy.get_or_set, "k", lambda: 2)
    first.join()
    gate.open()
    second.join()
    assert (len(hurried), found) == (1, [2])


def test_load_of_another_caller(make, gate) -> None:
    """Where a wait that is over raises, the error names the deadline."""
    cache = make(timeout=HOUR)
    thread, _ = _in_thread(cache.get_or_set, "k", gate())
    gate.begun()
    policy = LoadPolicy(wait=HOUR, on_wait_over="raise")
    with deadline(0.05), pytest.raises(LoadWaitTimeout, match="until the time of"):
        cache.get_or_set("k", lambda: 1, policy=policy)
    gate.open()
    thread.join()


def test_soft_timeout(make, gate) -> None:
    """A stale value is served at the deadline; the refresh goes on, and is stored."""
    cache = make()
    policy = LoadPolicy(stale_ttl=HOUR, background=False, soft_timeout=HOUR)
    cache.get_or_set("k", lambda: "old", ttl=0.01, policy=policy)

    def refreshed() -> bool:
        with deadline(0.05):
            assert cache.get_or_set("k", gate("new"), ttl=HOUR, policy=policy) == "old"
        return bool(gate.calls)

    until(refreshed)
    gate.open()
    until(lambda: cache.get("k") == "new")


def test_clocks_differ() -> None:
    """A machine that has slept has two clocks: the end is converted from one to the other."""

    def clock() -> float:
        return monotonic() + 1e6

    with deadline(HOUR):
        budget = Budget(HOUR, clock, end=caller_end_by(clock))
    assert not budget.over
    with budget.spent() as limit:
        assert HOUR - 60 < limit <= HOUR
