"""What a holder can do with its lease: extend it, have it renewed, learn of its end."""

import threading
from contextlib import suppress

import pytest

from shardcache.errors import InvalidOption, LockLost, LockNotHeld, QuorumUnavailable
from shardcache.testing import FaultProxy, Stall
from tests.waiting import until


def test_extend(cache) -> None:
    """An extension starts the ttl anew."""
    lock = cache.lock("l", 10)
    lock.acquire()
    lock._holder.hold.lease.until[:] = [until - 5 for until in lock._holder.hold.lease.until]
    before = lock.remaining()
    assert (before < 5, lock.extend(), lock.remaining() > 9, lock.ttl) == (True, True, True, 10.0)


def test_extend_to_longer(cache, plain) -> None:
    """Another ttl holds from now on."""
    lock = cache.lock("l", 5)
    lock.acquire()
    assert (lock.extend(50), lock.ttl, lock.remaining() > 45) == (True, 50.0, True)
    assert sum(plain[name].pttl(lock._holder.plan.keys.lock) > 45_000 for name in lock.voters) >= 3


def test_extend_to_shorter(cache) -> None:
    """A shorter ttl shortens what the holder believes at once: the voters will let go then."""
    lock = cache.lock("l", 50)
    lock.acquire()
    assert (lock.extend(1), lock.remaining() < 1) == (True, True)


def test_a_longer_ttl_is_known_to_the_register(cache, plain) -> None:
    """Voters that restart stay out for the longest ttl in use, one of an extension too."""
    lock = cache.lock("l", 5)
    lock.acquire()
    lock.extend(3600)
    known = [
        int(plain[name].hget(lock._holder.plan.register, "longest") or 0) for name in lock.voters
    ]
    assert sum(ttl >= 3_600_000 for ttl in known) >= 3


@pytest.mark.parametrize("ttl", [0, -1, 0.001, 10**9, "5", True, float("nan")], ids=str)
def test_extend_by_what_is_no_ttl(cache, ttl) -> None:
    """A ttl that no lock can have is refused, and changes nothing."""
    lock = cache.lock("l", 10)
    lock.acquire()
    with pytest.raises(
        InvalidOption, match=r"a lock's ttl must be from 0.02 to 604800 seconds, got"
    ):
        lock.extend(ttl)
    assert (lock.ttl, lock.held) == (10.0, True)


def test_extend_below_the_voter_timeout(cache) -> None:
    """A ttl that the voters may take longer than to answer is refused."""
    lock = cache.lock("l", 10, voter_timeout=2)
    lock.acquire()
    with pytest.raises(
        InvalidOption, match=r"voter_timeout must be .* below the ttl of 1 s, got 2"
    ):
        lock.extend(1)
    assert lock.ttl == 10.0


def test_extend_without_a_lease(cache) -> None:
    """What is not held cannot be extended."""
    with pytest.raises(LockNotHeld, match="is not held, so it cannot be extended"):
        cache.lock("l").extend()


def test_extend_after_the_end(cache, plain, events) -> None:
    """An extension never takes the lock again: the holder is told that it has lost it, once."""
    seen = []
    lock = cache.lock("l", on_lost=seen.append)
    lock.acquire()
    plain.wipe(lock)
    for _ in range(2):
        with pytest.raises(LockLost):
            lock.extend()
    assert (plain.having(lock), lock.held, lock.remaining(), lock.lost.is_set(), len(seen)) == (
        [],
        False,
        0.0,
        True,
        1,
    )
    assert [(event.kind, event.operation) for event in events] == [("lock_lost", "lock")]


def test_extend_when_another_has_it(cache, plain) -> None:
    """An extension does not touch the next holder's lease."""
    first, second = cache.lock("l", 5), cache.lock("l", 5)
    first.acquire()
    plain.wipe(first)
    second.acquire()
    before = second.remaining()
    with pytest.raises(LockLost, match="a majority of the voters does not have it any more"):
        first.extend(600)
    assert (second.remaining() <= before, second.extend()) == (True, True)


def test_lost_voters_come_back(cache, plain) -> None:
    """Where the key has gone it is put back by an extension, while a majority still has it."""
    lock = cache.lock("l", 10)
    lock.acquire()
    until(lambda: len(plain.having(lock)) == 5)
    gone = lock.voters[:2]
    plain.wipe(lock, gone)
    until(lambda: lock.extend() and plain.having(lock) == list(lock.voters))
    fences = {int(plain[name].get(lock._holder.plan.keys.fence)) for name in gone}
    assert fences == {lock.fencing_token}


def test_ensure_held(cache, plain) -> None:
    """ensure_held raises LockLost once the lease has ended, LockNotHeld without one."""
    lock = cache.lock("l", 10)
    with pytest.raises(LockNotHeld):
        lock.ensure_held()
    lock.acquire()
    lock.ensure_held()
    fence = lock.fencing_token
    lock._holder.hold.lease.until[:] = [0.0] * 5
    with pytest.raises(LockLost, match="the lease has ended"):
        lock.ensure_held()
    assert (lock.lost.is_set(), lock.fencing_token) == (True, fence)
    plain.wipe(lock)
    lock.acquire(timeout=20)
    assert lock.lost.is_set() is False


def test_renewed_in_the_background(cache) -> None:
    """auto_renew keeps the lock beyond its ttl."""
    lock, other = cache.lock("l", 2.0, auto_renew=True), cache.lock("l", 2.0)
    lock.acquire()
    lease = lock._holder.hold.lease
    end = lease.valid_until
    until(lambda: lease.valid_until > end + 2.0)
    assert (other.acquire(blocking=False), lock.held, lock.lost.is_set()) == (False, True, False)
    lock.release()
    assert other.acquire(timeout=20) is True


def test_renewed_with_a_shorter_ttl(cache) -> None:
    """A shorter ttl makes the next renewal come sooner."""
    lock = cache.lock("l", 60, auto_renew=True)
    lock.acquire()
    lock.extend(3.0)
    lease = lock._holder.hold.lease
    end = lease.valid_until
    until(lambda: lease.valid_until > end)
    assert (lock.held, lock.ttl) == (True, 3.0)
    lock.release()


def test_renewal_tells_of_the_loss(cache, plain, events) -> None:
    """The renewal notices that the keys are gone, and tells event, callback and hook once."""
    seen = []
    lock = cache.lock("l", 0.3, auto_renew=True, on_lost=seen.append)
    lock.acquire()
    plain.wipe(lock)
    until(lambda: seen)
    assert (len(seen), lock.lost.is_set(), lock.held) == (1, True, False)
    assert seen[0].name == "l"
    kinds = [
        event.kind for event in events
    ]  # a busy machine may have lost sight of a shard meanwhile
    assert [kind for kind in kinds if not kind.startswith("shard_")] == ["lock_lost"]
    with pytest.raises(LockLost):
        lock.release()


def test_callback_that_raises(cache, plain, caplog) -> None:
    """A callback's trouble is logged, and hurts nobody."""

    def broken(_: object) -> None:
        raise KeyError

    lock = cache.lock("l", 0.3, auto_renew=True, on_lost=broken)
    lock.acquire()
    plain.wipe(lock)
    until(
        lambda: "on_lost of lock 'l' failed" in [record.getMessage() for record in caplog.records]
    )


def test_release_is_no_loss(cache, events) -> None:
    """However a renewal and a release race, an ordinary release never looks like a loss."""
    for _ in range(20):
        lock = cache.lock("l", 0.06, auto_renew=True, voter_timeout=0.05)
        if not lock.acquire(timeout=20):
            continue
        threading.Event().wait(0.019)
        lost = lock.lost.is_set()
        try:
            lock.release()
        except (LockLost, QuorumUnavailable):  # a busy machine
            lost = True
        assert lock.lost.is_set() is lost or lost
    assert [event.kind for event in events if event.kind == "lock_kept"] == []


def extends(lock) -> None:
    """Extend a lock that somebody may be releasing."""
    with suppress(LockNotHeld, LockLost):
        lock.extend()


def test_nothing_is_put_back_after_a_release(cache, plain) -> None:
    """An extension that is under way at the release leaves no key behind."""
    lock = cache.lock("l", 30.0)
    for number in range(10):
        lock.acquire(timeout=20)
        until(lambda: len(plain.having(lock)) == 5)
        plain.wipe(lock, lock.voters[:2])
        renewing = threading.Thread(target=extends, args=(lock,))
        renewing.start()
        threading.Event().wait(0.0005 * number)
        lock.release()
        renewing.join()
        until(lambda: plain.having(lock) == [])


def test_close_ends_the_renewal(cache) -> None:
    """A closed handle renews no more, and its thread or task is gone."""
    lock = cache.lock("l", 0.3, auto_renew=True)
    lock.acquire()
    lock.close()
    renewal = lock._holder.hold.renewal
    assert (
        renewal.is_alive() if isinstance(renewal, threading.Thread) else not renewal.task.done()
    ) is False
    assert cache.lock("l").acquire(timeout=20) is True


def test_released_at_a_slow_voter_too(voters, make, plain) -> None:
    """Every release reaches a voter that has not answered many others: no key waits for its ttl."""
    slow = "shard-2"
    with FaultProxy(voters.urls[slow]) as proxy:
        cache = make({**voters.urls, slow: proxy.url})
        locks = [cache.lock(f"l{number}", 600) for number in range(20)]
        for lock in locks:
            assert lock.acquire(timeout=20) is True
            until(lambda lock=lock: plain.having(lock) == list(lock.voters))
        proxy.set(Stall())
        for lock in locks:
            lock.release()
        until(lambda: not any(plain.having(lock) for lock in locks))
        proxy.clear()
