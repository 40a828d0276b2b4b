"""Loaders that hang: bounded, counted, named in errors; other calls go on."""

import asyncio
import threading
import time

import pytest

from shardcache import LoadPolicy, Options, errors
from tests.waiting import until

FEW = 3


class Hang:
    """A loader that hangs until the test ends.

    In the asyncio client it ignores a cancellation.
    """

    def __init__(self, is_async: bool) -> None:
        self.calls = self.ended = 0
        self.is_async = is_async
        self.over = threading.Event()

    def __call__(self):
        if self.is_async:
            return self._hang()
        self.calls += 1
        assert self.over.wait(60)
        self.ended += 1
        return "late"

    async def _hang(self):
        self.calls += 1
        while not self.over.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                continue
        self.ended += 1
        return "late"


@pytest.fixture
def hang(is_async):
    hang = Hang(is_async)
    yield hang
    hang.over.set()
    until(lambda: hang.ended == hang.calls)


@pytest.fixture
def narrow(make, events):
    return make(options=Options(max_loads=FEW, on_event=events.append))


def test_abandoned_loaders_keep_no_place(narrow, hang, counter) -> None:
    """As many hang as may load at once, each given up: the next key is loaded as usual."""
    for n in range(FEW - 1):
        with pytest.raises(errors.LoadTimeout, match=r"0\.05 s"):
            narrow.get_or_set(f"hung{n}", hang, policy=LoadPolicy(hard_timeout=0.05))
    assert [
        narrow.get_or_set(f"k{n}", counter, policy=LoadPolicy(hard_timeout=20))
        for n in range(2 * FEW)
    ] == list(range(1, 2 * FEW + 1))
    assert (narrow.stats().loading.abandoned, hang.calls) == (FEW - 1, FEW - 1)


def test_abandoned_loaders_are_bounded(narrow, hang, counter, servers) -> None:
    """No more loaders hang than ``max_loads``, then an error names them; hits go on."""
    policy = LoadPolicy(hard_timeout=0.05, lock_ttl=60)
    for n in range(FEW):
        with pytest.raises(errors.LoadTimeout):
            narrow.get_or_set(f"hung{n}", hang, policy=policy)
    with pytest.raises(errors.TooManyLoaders, match=r"hung0.*hung1.*hung2"):
        narrow.get_or_set("k", counter, policy=policy)
    assert (hang.calls, counter.calls, narrow.stats().loading.abandoned) == (FEW, 0, FEW)
    until(lambda: not servers.locked(narrow, "k"))
    assert narrow.get_or_set("other", counter) == 1
    hang.over.set()
    long = LoadPolicy(hard_timeout=20)

    def loads() -> bool:
        try:
            return narrow.get_or_set("k", counter, policy=long) == 2
        except errors.TooManyLoaders:
            return False

    until(loads)


def test_waiting_for_ones_turn_counts(narrow, gate, begin, counter) -> None:
    """Where all places are taken ``hard_timeout`` runs, and the error names the loaders."""
    calls = [begin(narrow.get_or_set, f"slow{n}", gate()) for n in range(FEW)]
    gate.begun(FEW)
    with pytest.raises(errors.LoadTimeout, match="slow") as caught:
        narrow.get_or_set("k", counter, policy=LoadPolicy(hard_timeout=0.05))
    assert f"{FEW} loaders (max_loads)" in str(caught.value)
    assert (counter.calls, narrow.stats().loading.abandoned) == (0, 0)
    gate.open()
    assert [call.result() for call in calls] == ["loaded"] * FEW
    assert narrow.get_or_set("k", counter, policy=LoadPolicy(hard_timeout=20)) == 1


def test_refreshes_in_the_background_are_bounded(narrow, gate, events) -> None:
    """Many stale keys and a loader that hangs: all are served, few refreshed, and it is told."""
    policy = LoadPolicy.swr(600)
    keys = [f"k{n}" for n in range(5 * FEW)]
    for key in keys:
        narrow.get_or_set(key, "old", 0.02, policy=policy)
    until(lambda: not any(narrow.ttl(key) for key in keys))
    before = threading.active_count()
    loader = gate("new")
    assert [narrow.get_or_set(key, loader, 60, policy=policy) for key in keys] == ["old"] * len(
        keys
    )
    gate.begun(FEW)
    assert threading.active_count() - before <= FEW + 1  # and the one that renews their locks
    assert (gate.calls, narrow.stats().loading.skipped) == (FEW, 4 * FEW)
    told = [event for event in events if event.kind == "load_failed"]
    assert [type(event.error) for event in told] == [errors.TooManyLoaders] * (4 * FEW)
    assert "k0" in str(told[0].error)
    gate.open()

    def refreshed() -> bool:
        return [narrow.get_or_set(key, loader, 60, policy=policy) for key in keys] == ["new"] * len(
            keys
        )

    until(refreshed)


def test_a_refresh_in_the_foreground_is_bounded_too(narrow, gate) -> None:
    """With ``soft_timeout`` a load goes on in the background; without a place it is not begun."""
    policy = LoadPolicy(stale_ttl=600, background=False, soft_timeout=0.03)
    keys = [f"k{n}" for n in range(FEW + 2)]
    for key in keys:
        narrow.get_or_set(key, "old", 0.02, policy=policy)
    until(lambda: not any(narrow.ttl(key) for key in keys))
    assert [narrow.get_or_set(key, gate("new"), 60, policy=policy) for key in keys] == [
        "old"
    ] * len(keys)
    assert gate.calls == FEW


def test_hung_refreshes_take_no_place_from_others(narrow, hang, counter) -> None:
    """As many refreshes hang as may load at once, and the next key is loaded all the same."""
    policy = LoadPolicy.swr(600)
    for n in range(FEW):
        narrow.get_or_set(f"hung{n}", "old", 0.02, policy=policy)
    until(lambda: not any(narrow.ttl(f"hung{n}") for n in range(FEW)))
    assert [narrow.get_or_set(f"hung{n}", hang, 60, policy=policy) for n in range(FEW)] == [
        "old"
    ] * FEW
    until(lambda: hang.calls == FEW)
    assert narrow.get_or_set("k", counter, policy=LoadPolicy(wait=0)) == 1


def test_the_wait_for_a_place_ends_where_nothing_else_does(
    narrow, gate, begin, counter, servers
) -> None:
    """Without ``hard_timeout``: if no loader ends for ``wait`` seconds, an error names them."""
    aside = LoadPolicy(stale_ttl=600, background=False, wait=0)
    narrow.get_or_set("stale", "old", 0.02, policy=aside)
    until(lambda: not narrow.ttl("stale"))
    calls = [begin(narrow.get_or_set, f"slow{n}", gate()) for n in range(FEW)]
    gate.begun(FEW)
    with pytest.raises(errors.TooManyLoaders, match=r"slow\d.*slow\d.*slow\d"):
        narrow.get_or_set("k", counter, policy=LoadPolicy(wait=0))
    until(lambda: not servers.locked(narrow, "k"))
    assert narrow.get_or_set("stale", counter, 60, policy=aside) == "old"
    assert counter.calls == 0
    gate.open()
    assert [call.result() for call in calls] == ["loaded"] * FEW
    assert [narrow.get_or_set(f"k{n}", counter) for n in range(FEW + 1)] == [1, 2, 3, 4]


def test_a_queue_that_moves_is_waited_for(narrow, begin, is_async) -> None:
    """Many loads, few places, a short wait: as long as loaders end, every load has its turn."""

    def slow():
        time.sleep(0.4)
        return "loaded"

    async def aslow():
        await asyncio.sleep(0.4)
        return "loaded"

    loader = aslow if is_async else slow
    calls = [
        begin(narrow.get_or_set, f"k{n}", loader, policy=LoadPolicy(wait=1)) for n in range(6 * FEW)
    ]
    assert [call.result() for call in calls] == ["loaded"] * len(calls)
