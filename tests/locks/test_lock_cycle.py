"""A finalizer or a signal handler wants the lock that its own thread is taking or releasing."""

import itertools
import pickle
import uuid
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from shardcache import ShardCache
from shardcache.errors import LockConflict, LockCycle, LockLost, LockNotAcquired
from tests.interruptions import with_call_between

LONG = 60  # seconds that a call would wait: longer than the whole test


@pytest.fixture
def cache(voters) -> Iterator[ShardCache]:
    with ShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20) as cache:
        cache.lock("warm").acquire()
        yield cache


def attempt(lock, timeout: float) -> str:
    """Take the lock and let go of it; return what came of that."""
    try:
        taken = lock.acquire(timeout=timeout)
    except LockCycle as error:
        return "cycle" if "in an outer call" in str(error) and error.votes else str(error)
    if taken:
        lock.release()
    return "taken" if taken else "waited"


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_acquire_is_not_waited_for(cache, several) -> None:
    """At every step of it: the lock is free, or `LockCycle` says at once that it will not be."""
    found: Counter[str] = Counter()
    for at in itertools.count(1, 7):
        name = f"l{at}"
        inner = cache.lock(name, 600)
        lock = cache.lock_many([name, "z"], 600, timeout=LONG) if several else cache.lock(name, 600)

        def between(inner=inner) -> None:
            found[attempt(inner, LONG)] += 1

        ended = not with_call_between(lock.acquire, at, between)
        lock.release()
        if ended:
            break
    assert found["cycle"] > 10
    assert sorted(found) == ["cycle", "taken"]


@pytest.mark.parametrize("outer", ["extend", "release", "adopt"])
def test_nor_is_what_a_holder_does(cache, outer) -> None:
    """The same for extend, release and adopt, from the moment at which they have begun."""
    found: Counter[str] = Counter()
    for at in itertools.count(1, 7):
        lock, inner = cache.lock(f"l{at}", 600), cache.lock(f"l{at}", 600)
        lock.acquire()
        arguments = [lock.handover()] if outer == "adopt" else []

        def between(inner=inner) -> None:
            found[attempt(inner, 0.1)] += 1

        if not with_call_between(partial(getattr(lock, outer), *arguments), at, between):
            break
    assert found["cycle"] > 10
    assert found["waited"] < 6


def test_who_does_not_wait_is_told_false(cache) -> None:
    """``blocking=False`` tries, and says whether it got the lock."""
    found = set()
    for at in itertools.count(1, 11):
        lock, inner = cache.lock(f"l{at}", 600), cache.lock(f"l{at}", 600)

        def between(inner=inner) -> None:
            found.add(inner.acquire(blocking=False))
            if inner.held:
                inner.release()

        if not with_call_between(lock.acquire, at, between):
            break
    assert found == {True, False}


def test_other_threads_and_names_are_waited_for(cache) -> None:
    """Only the own thread's calls are in the way, and only for the same name."""
    for at in itertools.count(1, 29):
        lock, other = cache.lock(f"l{at}", 600), cache.lock(f"other {at}", 600)

        def between(other=other) -> None:
            assert other.acquire(timeout=LONG) is True

        if not with_call_between(lock.acquire, at, between):
            break
        assert lock.held is True
        # The outer call is over, so this is a conflict as any other.
        with pytest.raises(LockConflict), cache.lock(f"l{at}", timeout=0):
            pass


def test_on_lost_may_take_the_lock_again(cache, plain) -> None:
    """What is called when an extension finds the lock lost is not within that extension."""
    got = []
    lock = cache.lock("l", 600, on_lost=lambda _: got.append(again.acquire(timeout=LONG)))
    again = cache.lock("l", 600)
    lock.acquire()
    plain.wipe(lock)
    other = cache.lock("l", 0.5)
    other.acquire()
    with pytest.raises(LockLost):
        lock.extend()
    assert got == [True]


def test_error() -> None:
    """It is a `LockNotAcquired`, and can be pickled."""
    error = LockCycle.of(LockConflict("l", "held", (), 3.0))
    assert isinstance(error, LockNotAcquired)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
