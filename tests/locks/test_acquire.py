"""Acquire and release: as a threading.Lock, over voters, with errors that say what happened."""

import threading

import pytest

from shardcache.errors import InvalidArgument, LockConflict, LockLost, LockNotAcquired, LockNotHeld
from tests.waiting import until


def test_one_at_a_time(cache) -> None:
    """What one handle has, no other gets, until it is released."""
    first, second = cache.lock("l"), cache.lock("l")
    assert (first.acquire(), second.acquire(blocking=False)) == (True, False)
    first.release()
    assert (second.acquire(blocking=False), first.held, second.held) == (True, False, True)
    second.release()


def test_all_voters_have_the_key(cache, plain) -> None:
    """The key lies on every voter while the lock is held, and on none afterwards."""
    lock = cache.lock("l")
    lock.acquire()
    until(lambda: plain.having(lock) == list(lock.voters))
    lock.release()
    until(lambda: plain.having(lock) == [])


def test_as_context_manager(cache) -> None:
    """`with` takes the lock and lets go of it, after an error in the block too."""
    with cache.lock("l") as lock:
        assert lock.held is True
    assert lock.held is False
    with pytest.raises(KeyError), cache.lock("l"):
        raise KeyError
    assert cache.lock("l").acquire(blocking=False) is True


def test_with_gives_up_after_its_timeout(cache) -> None:
    """`with` of a lock held elsewhere raises LockConflict with voters and time left."""
    with (
        cache.lock("l", 30) as held,
        pytest.raises(LockConflict) as caught,
        cache.lock("l", timeout=0),
    ):
        pass
    error = caught.value
    assert (error.name, held.held) == ("l", False)
    assert 0 < error.retry_after <= 30
    assert str(error).startswith("lock 'l': held by somebody else: ")
    assert {vote.kind for vote in error.votes} <= {"held", "late"}
    kinds = [vote.kind for vote in error.votes]
    assert kinds.count("held") >= 3
    assert all(0 < vote.left <= 30 for vote in error.votes if vote.kind == "held")
    assert [vote.voter for vote in error.votes] == list(held.voters)


def test_timeout_zero_is_one_attempt(cache) -> None:
    """A timeout of zero asks once."""
    first, second = cache.lock("l"), cache.lock("l")
    first.acquire()
    assert second.acquire(timeout=0) is False
    first.release()
    assert second.acquire(timeout=0) is True


@pytest.mark.parametrize("forever", [None, -1], ids=["None", "-1"])
def test_waits_for_ever(cache, forever) -> None:
    """Without an end, acquire waits until the holder lets go."""
    first, second = cache.lock("l", 60), cache.lock("l", 60)
    first.acquire()
    letting_go = threading.Timer(0.05, first.release)
    letting_go.start()
    assert second.acquire(timeout=forever) is True
    letting_go.join()


def test_waits_for_the_ttl(cache) -> None:
    """A holder that never lets go loses the lock at the end of its ttl."""
    assert (cache.lock("l", 0.2).acquire(), cache.lock("l", 5).acquire(timeout=20)) == (True, True)


def test_not_blocking_with_timeout(cache) -> None:
    """As threading.Lock: a timeout makes no sense for an acquire that does not block."""
    lock = cache.lock("l")
    with pytest.raises(InvalidArgument, match="does not block"):
        lock.acquire(blocking=False, timeout=1)
    assert lock.acquire(blocking=False, timeout=-1) is True


@pytest.mark.parametrize("timeout", [-2, float("nan"), float("inf"), True, "1", 1e300], ids=str)
def test_timeout_out_of_range(cache, timeout) -> None:
    """A timeout that is no length of time is refused before anything is sent."""
    lock = cache.lock("l")
    with pytest.raises(InvalidArgument, match="timeout must be a number of seconds"):
        lock.acquire(timeout=timeout)
    assert cache.lock("l").acquire(blocking=False) is True


def test_release_without_a_lease(cache) -> None:
    """What is not held cannot be released, and the error names the lock."""
    with pytest.raises(LockNotHeld, match="lock 'l': is not held, so it cannot be released"):
        cache.lock("l").release()


def test_release_twice(cache) -> None:
    """A second release has nothing to release."""
    lock = cache.lock("l")
    lock.acquire()
    lock.release()
    with pytest.raises(LockNotHeld):
        lock.release()


def test_release_of_a_lock_that_has_ended(cache, plain) -> None:
    """Who releases too late is told, and takes nothing from the next holder."""
    first, second = cache.lock("l"), cache.lock("l")
    first.acquire()
    plain.wipe(first)
    second.acquire()
    with pytest.raises(LockLost, match="had ended before it was released"):
        first.release()
    assert (second.locked(), second.held, second.extend()) == (True, True, True)
    second.release()


def test_own_error_of_the_block_matters_more(cache, plain) -> None:
    """An error in the block is not hidden by that of the release."""
    with pytest.raises(KeyError), cache.lock("l") as lock:
        plain.wipe(lock)
        raise KeyError
    with pytest.raises(LockLost), cache.lock("l") as lock:
        plain.wipe(lock)


def test_release_inside_the_block(cache, plain) -> None:
    """A block may release early; its end adds nothing, also if the lock has a new holder."""
    with cache.lock("l") as lock:
        lock.release()
        other = cache.lock("l")
        other.acquire()
    assert other.extend() is True
    other.release()


def test_a_handle_that_is_used_again(cache, plain) -> None:
    """A handle can be used any number of times, after a loss too."""
    lock = cache.lock("l")
    fences = []
    for _ in range(3):
        lock.acquire()
        fences.append(lock.fencing_token)
        lock.release()
    lock.acquire()
    plain.wipe(lock)
    with pytest.raises(LockLost):
        lock.release()
    lock.acquire()
    fences.append(lock.fencing_token)
    assert (lock.held, sorted(set(fences))) == (True, fences)
    lock.release()


def test_remaining(cache) -> None:
    """The time left is below the ttl by the drift, and nothing without a lease."""
    lock = cache.lock("l", 10)
    assert lock.remaining() == 0.0
    lock.acquire()
    assert 0 < lock.remaining() <= 10 - 10 * 0.01 - 0.002
    lock.release()
    assert lock.remaining() == 0.0


def test_fencing_tokens_grow(cache) -> None:
    """Each acquisition has a higher token; without one there is none."""
    lock = cache.lock("l")
    with pytest.raises(LockNotHeld, match="has no fencing token"):
        lock.fencing_token  # noqa: B018
    found = []
    for _ in range(5):
        with cache.lock("l") as lock:
            found.append(lock.fencing_token)
    assert found == sorted(set(found))


def test_votes_can_be_caught_as_one(cache) -> None:
    """LockNotAcquired is what every failure to acquire is."""
    with cache.lock("l"), pytest.raises(LockNotAcquired), cache.lock("l", timeout=0):
        pass


def test_two_names_are_two_locks(cache) -> None:
    """Locks of different names have nothing to do with each other."""
    with cache.lock("a"), cache.lock("b", timeout=0):
        pass


def test_many_threads_one_after_the_other(cache) -> None:
    """A counter that only the lock protects comes out right, and nobody waits for ever."""
    found = [0]

    def count() -> None:
        for _ in range(5):
            with cache.lock("l", 30, timeout=60):
                seen = found[0]
                threading.Event().wait(0.0005)
                found[0] = seen + 1

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [30]


def test_who_waited_in_vain_blocks_nobody(cache) -> None:
    """A waiter whose time is over leaves the line, so that the next one gets the lock."""
    holder = cache.lock("l", 60)
    holder.acquire()
    waiting = [
        threading.Thread(target=cache.lock("l").acquire, kwargs={"timeout": 0.05}) for _ in range(4)
    ]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    holder.release()
    assert cache.lock("l").acquire(timeout=20) is True


def test_repr(cache) -> None:
    """A repr says name, voters and state, and no token."""
    lock = cache.lock("l", voters=["shard-1"])
    assert (
        repr(lock) == f"<{type(getattr(lock, '_target', lock)).__name__} 'l' on shard-1: not held>"
    )
    lock.acquire()
    assert "held for " in repr(lock)
    assert lock.token not in repr(lock)
    lock.release()
