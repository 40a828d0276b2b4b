"""A signal handler raises at any step of a call, and again as it tidies up: nothing is left."""

import gc
import random
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import pytest

from shardcache import ShardCache
from shardcache.errors import LockNotHeld
from tests.interruptions import Fault, interrupted
from tests.waiting import until

# A connection that is in use when the fault comes may be closed by its finalizer.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def cache(voters) -> Iterator[ShardCache]:
    with ShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20) as cache:
        cache.lock("warm").acquire()  # the voters are known, and connections are there
        yield cache
    gc.collect()  # what a traceback had to itself goes now, with its warnings


def steps(stride: int) -> Iterator[tuple[int, int]]:
    """Yield numbers for `interrupted`, until the caller ends it."""
    rng = random.Random(1)
    first = rng.randint(1, stride)
    while True:
        yield first, 0
        yield first, rng.randint(1, 40)
        first += rng.randint(1, 2 * stride - 1)


def each(stride: int, prepare: Callable[[str], tuple[Callable[[], Any], Callable[[], Any]]]) -> int:
    """Interrupt what ``prepare`` returns at its steps; then do what it returns as the second."""
    faults = 0
    for number, (first, second) in enumerate(steps(stride)):
        work, then = prepare(f"l{number}")
        found = interrupted(work, first, second)
        then()
        if not found:
            return faults
        faults += found
    raise AssertionError


def next_call(cache) -> None:
    """Use the client: that undoes what is still to be undone."""
    with cache.lock("another", 600):
        pass


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_what_a_handle_says(cache, several) -> None:
    """A handle that has a lock behind a broken off acquire keeps it, whatever is called next."""

    def prepare(name: str):
        names = [name, f"{name} too"] if several else [name]
        lock = cache.lock_many(names, 600) if several else cache.lock(name, 600)

        def then() -> None:
            if lock.remaining() > 0:
                next_call(cache)
                lock.ensure_held()
                lock.release()
            # What it does not have is given back by the next call at the latest.
            lock.acquire(timeout=20)
            lock.release()

        return lock.acquire, then

    assert each(3, prepare) > 50


def test_what_a_heir_says(cache) -> None:
    """So does one that has adopted a lease."""

    def prepare(name: str):
        lock, heir = cache.lock(name, 600), cache.lock(name, 600)
        lock.acquire()
        text = lock.handover()

        def then() -> None:
            if not heir.held:
                heir.adopt(text)
            next_call(cache)
            assert heir.extend() is True
            heir.release()

        return lambda: heir.adopt(text), then

    assert each(3, prepare) > 50


@pytest.mark.parametrize("step", ["Entry.__exit__", "Entry.commit"])
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_interrupted_behind_the_taking(cache, step, several) -> None:
    """The handle does not have the lock then, and the next call gives it back."""
    lock = cache.lock_many([step], 600) if several else cache.lock(step, 600)

    def fault(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_qualname == step:
            raise Fault

    sys.setprofile(fault)
    try:
        with pytest.raises(Fault):
            lock.acquire()
    finally:
        sys.setprofile(None)
    assert lock.remaining() == 0.0
    next_call(cache)
    assert lock.acquire(blocking=False) is True
    next_call(cache)
    lock.release()


def test_rounds_leave_no_guards(cache) -> None:
    """Also where the block itself releases the lock, or hands it over, or never begins."""
    lock, heir = cache.lock("rounds", 600), cache.lock("rounds", 600)
    guards = cache._runner.undo_log._handles
    for _ in range(3):
        with lock:
            lock.release()
        with lock:
            heir.adopt(lock.handover())
            heir.release()
    assert not guards
    steps = 1
    while interrupted(lock.__enter__, steps):
        next_call(cache)
        assert not guards
        steps += 1
    lock.release()


def test_acquire(cache, plain) -> None:
    """An acquire that is broken off is not held, or its handle says so."""

    def prepare(name: str):
        lock = cache.lock(name, 600, auto_renew=True)

        def then() -> None:
            next_call(cache)
            if lock.held:
                lock.release()
            until(lambda: plain.having(lock) == [])

        return lock.acquire, then

    assert each(5, prepare) > 50


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_with_block(cache, plain, several) -> None:
    """A block that is broken off, as it begins or ends, lets go of its locks."""

    def prepare(name: str):
        names = [name, f"{name} too"] if several else [name]

        def work() -> None:
            with cache.lock_many(names, 600) if several else cache.lock(name, 600):
                pass

        def then() -> None:
            next_call(cache)
            until(lambda: not any(plain.having(cache.lock(one)) for one in names))

        return work, then

    assert each(9, prepare) > 50


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_the_end_of_a_block_whose_handle_is_kept(cache, several) -> None:
    """Once `__exit__` has begun, one fault at its first steps does not leave the lock held."""
    for step in range(1, 41):
        name = f"kept {step}"
        lock = cache.lock_many([name], 600) if several else cache.lock(name, 600)
        lock.__enter__()
        # The step that is left out is the beginning of `__exit__`.
        assert interrupted(partial(lock.__exit__, None, None, None), 1 + step) == 1
        next_call(cache)
        assert lock.remaining() == 0.0
        assert lock.acquire(timeout=20) is True
    assert not cache._runner.undo_log._handles


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_release(cache, plain, several) -> None:
    """A release that has begun lets go, whatever happens to it."""

    def prepare(name: str):
        names = [name, f"{name} too"] if several else [name]
        lock = cache.lock_many(names, 600) if several else cache.lock(name, 600)
        lock.acquire()

        def then() -> None:
            next_call(cache)
            with suppress(LockNotHeld):
                lock.release()  # it may not have begun at all
            until(lambda: not any(plain.having(cache.lock(one)) for one in names))

        return lock.release, then

    assert each(4, prepare) > 50


def test_extend(cache, plain) -> None:
    """An extension that is broken off leaves a lease that can be extended and released."""

    def prepare(name: str):
        lock = cache.lock(name, 600)
        lock.acquire()

        def then() -> None:
            assert lock.extend() is True
            lock.release()
            until(lambda: plain.having(lock) == [])

        return lock.extend, then

    assert each(4, prepare) > 50


def test_adopt(cache, plain) -> None:
    """An adoption that is broken off leaves the lease to be adopted."""

    def prepare(name: str):
        lock, heir = cache.lock(name, 600), cache.lock(name, 600)
        lock.acquire()
        text = lock.handover()

        def then() -> None:
            next_call(cache)
            if not heir.held:
                heir.adopt(text)
            heir.release()
            until(lambda: plain.having(lock) == [])

        return lambda: heir.adopt(text), then

    assert each(4, prepare) > 50


@pytest.mark.parametrize("leave", [False, True], ids=["entered", "left"])
def test_rounds_of_a_reentrant_lock(cache, plain, leave) -> None:
    """An inner round that is broken off as it is entered does not count; the outer one goes on."""

    def prepare(name: str):
        lock = cache.lock(name, 600, reentrant=True)
        lock.acquire()
        if leave:
            lock.acquire()
        entered: list[bool] = []

        def then() -> None:
            next_call(cache)
            assert lock.held is True
            # One that was to be left may not have begun to.
            for _ in range(1 + len(entered) + (leave and len(lock._holder.hold._inner))):
                assert lock.held is True
                lock.release()
            assert lock.held is False
            until(lambda: plain.having(lock) == [])

        return lock.release if leave else lambda: entered.append(lock.acquire()), then

    assert each(1, prepare) > 20
