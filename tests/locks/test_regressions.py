"""What went wrong in other libraries' locks, each as a test named after it, with its source.

The numbers are those of the collection of bugs that these tests were made from. Left out are the
bugs about loading a value once, that is, about `get_or_set`: B10 (aiocache's stampede lock), B11
(cashews' shared task), B23 (Symfony's LockRegistry), B24 (Rails' race_condition_ttl), B25
(Laravel's flexible), B26 (dogpile's creator lock), B28 (diskcache's memoize_stampede), B29
(FusionCache's eager refresh) and B30 (bentocache's lockTimeout). Of B25, B26 and B27 the part that
is about a lock (no end, no owner) is here.
"""

import asyncio
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from shardcache import AsyncShardCache, Options
from shardcache.embedded import LocalShards
from shardcache.errors import InvalidOption, LockConflict, LockLost, LockNotHeld, QuorumUnavailable
from shardcache.flows.lock import Lease
from shardcache.flows.lock.lock_plan import drift
from shardcache.locks import lease_holder as base
from shardcache.system import clock
from tests.waiting import until


@pytest.fixture
def run(voters: LocalShards) -> Callable[[Any], Any]:
    """Run a coroutine function with an asyncio client."""

    def runs(main: Any) -> Any:
        async def whole() -> Any:
            async with AsyncShardCache(
                voters.urls, namespace=uuid.uuid4().hex, timeout=20
            ) as cache:
                return await main(cache)

        return asyncio.run(whole())

    return runs


def test_b1_minority_blocks_its_own_retry(cache, plain) -> None:
    """node-redlock #168, #282, PR #369: a retry kept its minority, and refused its own keys."""
    lock = cache.lock("l", 30)
    for name in lock.voters[:3]:
        plain[name].set(lock._holder.plan.keys.lock, b"another", px=150)
    assert (lock.acquire(timeout=20), lock.held) == (True, True)


def test_b1_failed_attempt_keeps_no_minority(cache, plain) -> None:
    """node-redlock #369: after a failure the keys that were granted stayed for the whole ttl."""
    lock = cache.lock("l", 600)
    for name in lock.voters[:3]:
        plain[name].set(lock._holder.plan.keys.lock, b"another", px=600_000)
    assert lock.acquire(blocking=False) is False
    until(lambda: plain.having(lock) == list(lock.voters[:3]))


def test_b2_expired_lock_is_returned(make) -> None:
    """node-redlock #296, #166: acquiring took longer than the ttl, and returned an ended lock."""
    ticks = iter(range(10**6))
    lock = make(timeout=3600).lock("l", 5)
    # 6 s pass between any two looks at it.
    getattr(lock, "_target", lock)._holder.clock = lambda: next(ticks) * 6.0
    with pytest.raises(QuorumUnavailable, match=r"a majority granted it, but .* for a ttl of 5 s"):
        lock.acquire(blocking=False)
    assert lock.held is False


def test_b3_one_node_down(make, mortal, look) -> None:
    """redlock-py PR #27, redlock-rb #60: with a quorum and a dead node it raised, still locked."""
    cache, plain = make(mortal.urls), look(mortal)
    lock = cache.lock("l", 600)
    dead = lock.voters[1]
    # All voters are met here. In a fleet that is younger than a minute, a voter that has not been
    # heard may remember what others forgot.
    with lock:
        pass
    next(server for server in mortal.servers if server.name == dead).kill()
    with lock:
        assert lock.held is True
    until(lambda: plain.having(lock, [name for name in lock.voters if name != dead]) == [])


def test_b4_median_of_the_times_left(cache, plain) -> None:
    """Pottery AIORedlock.locked(): the median said 9.88 s of a quorum that ended in 1.0 s."""
    lock = cache.lock("l", 100)
    lock.acquire()
    for name, left in zip(lock.voters, (100_000, 90_000, 5000, 4000, 3000), strict=True):
        plain[name].pexpire(lock._holder.plan.keys.lock, left)
    assert 4 < lock.owner().remaining <= 5
    assert Lease(b"t", 3, [100.0, 90.0, 5.0, 4.0, 3.0]).valid_until == 5.0
    # Where only a majority has it, the weakest of that majority counts, not the one in the middle.
    assert Lease(b"t", 3, [100.0, 90.0, 1.0, 0.0, 0.0]).valid_until == 1.0


def test_b5_cancelled_acquire_strands_the_key(run, plain) -> None:
    """Pottery AIORedlock, redis-py #3847: a cancelled acquire left its keys (see test_cancel)."""

    async def main(cache: AsyncShardCache) -> None:
        lock = cache.lock("l", 600)
        task = asyncio.ensure_future(lock.acquire())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert await cache.lock("l").acquire(timeout=20) is True

    run(main)


def test_b6_cancelled_context_cannot_release(run) -> None:
    """redsync, blnk #354: the release used the cancelled context, so it never went out."""

    async def main(cache: AsyncShardCache) -> None:
        async def work() -> None:
            async with cache.lock("l", 600):
                inside.set()
                await asyncio.sleep(60)

        inside = asyncio.Event()
        task = asyncio.ensure_future(work())
        await inside.wait()
        task.cancel()
        await asyncio.wait([task])
        assert await cache.lock("l").acquire(timeout=20) is True

    run(main)


def test_b7_token_shared_by_tasks(run) -> None:
    """redis-py #656, aredis #119: by a threading.local a task released another task's lock."""

    async def main(cache: AsyncShardCache) -> None:
        mine, theirs = cache.lock("l", 30), cache.lock("l", 30)
        await mine.acquire()

        async def other() -> None:
            with pytest.raises(LockNotHeld):
                await theirs.release()
            assert theirs.held is False

        await asyncio.create_task(other())
        assert (mine.held, await mine.extend()) == (True, True)

    run(main)


def test_b8_release_forgets_before_it_is_done(make, meet, mortal, look) -> None:
    """redis-py #4258, #3847: the token was cleared too soon; after an error none could release."""
    cache, plain = (
        make(mortal.urls, options=Options(first_probe=0.01, max_probe=0.02)),
        look(mortal),
    )
    lock = cache.lock("l", 600, voter_timeout=0.2)
    meet(cache)
    lock.acquire()
    until(lambda: len(plain.having(lock)) == 5)
    for server in mortal.servers:
        server.pause()
    with pytest.raises(QuorumUnavailable):
        lock.release()
    for server in mortal.servers:
        server.resume()

    def released() -> bool:
        try:
            lock.release()
        except QuorumUnavailable:
            return False
        return True

    until(released)
    until(lambda: plain.having(lock) == [])


@pytest.mark.parametrize("ttl", [0, 0.0, None, -1], ids=str)
def test_b9_lock_without_an_end(cache, ttl) -> None:
    """redis-py timeout=0.0, Laravel, dogpile: a lock without an end. Here every lock has one."""
    with pytest.raises(InvalidOption, match=r"a lock's ttl must be from 0\.02"):
        cache.lock("l", ttl)


def test_b9_every_key_has_an_end(cache, plain) -> None:
    """B25, B26: a crashed holder blocked for ever. Each key that a lock sets expires by itself."""
    lock = cache.lock("l", 0.5)
    lock.acquire()
    cache.lock("l").acquire(timeout=0.05)
    for name in lock.voters:
        for key in lock._holder.plan.keys:
            assert plain[name].pttl(key) != -1


def test_b12_valid_after_its_end(cache) -> None:
    """Redsync #71, #72: Valid() stayed true after the expiry, and Extend looked at no clock."""
    lock = cache.lock("l", 30)
    lock.acquire()
    lock._holder.hold.lease.until[:] = [clock.boottime() - 1] * 5
    assert (lock.held, lock.remaining()) == (False, 0.0)
    with pytest.raises(LockLost):
        lock.extend()


def test_b12_failed_extend_keeps_the_rest(make, mortal) -> None:
    """Redsync #149, #151: an extension that failed on some nodes released the good ones."""
    cache = make(mortal.urls)
    lock = cache.lock("l", 600, voter_timeout=5)
    lock.acquire()
    for server in mortal.servers:
        if server.name in lock.voters[:2]:
            server.pause()
    assert (lock.extend(), lock.held) == (True, True)
    for server in mortal.servers:
        server.resume()


def test_b13_quorum_erodes(cache, plain) -> None:
    """Redsync #186: a lock that lost a node was not repaired; the next loss gave it to another."""
    lock = cache.lock("l", 30)
    lock.acquire()
    until(lambda: len(plain.having(lock)) == 5)
    for lost in (lock.voters[:2], lock.voters[2:4], lock.voters[1:3]):
        plain.wipe(lock, lost)
        until(lambda: lock.extend() and len(plain.having(lock)) == 5)
    assert cache.lock("l").acquire(blocking=False) is False


def test_b14_taken_again_on_extend(cache, plain) -> None:
    """RedLock.net #48, redlock-rb #36, redis-semaphore #175: an extension took an ended lock."""
    lock = cache.lock("l", 30)
    lock.acquire()
    plain.wipe(lock)
    with pytest.raises(LockLost):
        lock.extend()
    assert plain.having(lock) == []


def test_b15_drift_is_added() -> None:
    """redlock-py PR #3: the drift was added to the validity."""
    lease = Lease(b"t", 1, [0.0])
    lease.held([0], 100.0, 10.0)
    assert lease.valid_until == 100.0 + 10.0 - drift(10.0) < 110.0 - 0.1


def test_b16_lease_time_is_ignored(cache, plain) -> None:
    """Redisson RFencedLock.lockAndGetToken: the ttl was ignored. Here the server has it."""
    lock = cache.lock("l", 7)
    lock.acquire()
    until(lambda: len(plain.having(lock)) == 5)
    assert all(5000 < plain[name].pttl(lock._holder.plan.keys.lock) <= 7000 for name in lock.voters)
    assert lock.fencing_token > 0


def test_b17_units_are_converted_again(cache, plain) -> None:
    """Redisson MultiLock: a retry changed the lease time, and extended without an owner check."""
    held = cache.lock("b", 0.4)
    held.acquire()
    locks = cache.lock_many(["a", "b"], 7)
    assert locks.acquire(timeout=20) is True  # after several attempts
    for lock in locks.locks.values():
        lefts = [plain[name].pttl(lock._holder.plan.keys.lock) for name in lock.voters]
        assert max(lefts) <= 7000
        assert 0 < lock.remaining() <= 7
    locks.release()


def test_b17_other_errors_strand_keys(cache, plain, monkeypatch) -> None:
    """Redisson RedLock: what was no timeout was not unlocked."""
    lock = cache.lock("l", 600)

    def broken(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(base.LeaseHolder, "_took", broken)
    with pytest.raises(MemoryError):
        lock.acquire()
    until(lambda: plain.having(lock) == [])


def test_b18_watchdog_dies_silently(make, mortal, monkeypatch) -> None:
    """Redisson #775, #3194, #5698: after a reconnect the watchdog stopped, and nobody knew."""
    cache = make(mortal.urls, options=Options(first_probe=0.01, max_probe=0.05))
    monkeypatch.setattr(base, "_RENEWALS", 30)  # in a ttl, so that none is late on a busy machine
    lock = cache.lock("l", 3, auto_renew=True)
    lock.acquire()
    for server in mortal.servers[:2]:
        server.restart()
    lease = getattr(lock, "_target", lock)._holder.hold.lease
    for _ in range(2):
        known = list(lease.until)
        until(lambda known=known: lease.until != known)
    assert (lock.held, lock.lost.is_set()) == (True, False)
    for server in mortal.servers:
        server.kill()
    until(lock.lost.is_set)
    assert lock.held is False


def test_b19_unlock_waits_for_its_own_watchdog(run) -> None:
    """aioredlock: unlock awaited the very watchdog that had called it. A callback may release."""

    async def main(cache: AsyncShardCache) -> None:
        done = asyncio.Event()
        tasks: list[Any] = []

        def lost(lock: Any) -> None:
            tasks.append(asyncio.ensure_future(tidy(lock)))

        async def tidy(lock: Any) -> None:
            with pytest.raises(LockLost):
                await lock.release()
            done.set()

        lock = cache.lock("l", 0.3, auto_renew=True, on_lost=lost)
        await lock.acquire()
        await cache.lock("l").force_release()
        await asyncio.wait_for(done.wait(), 20)

    run(main)


def test_b20_renewal_thread_dies_of_any_exception(cache, caplog, monkeypatch) -> None:
    """python-redis-lock #85, #91: any exception ended the renewal, and the holder was not told."""
    lock = cache.lock("l", 30, auto_renew=True)
    monkeypatch.setattr(base, "_RENEWALS", 600)  # in a ttl, so that the test need not wait for them
    monkeypatch.setattr(base, "_HURRY", 600)
    real, asked = base.extend, []

    def broken(*args: Any, **kwargs: Any) -> Any:
        asked.append(1)
        if len(asked) == 1:
            raise RuntimeError("no memory, say")
        return real(*args, **kwargs)

    monkeypatch.setattr(base, "extend", broken)
    lock.acquire()
    until(lambda: len(asked) > 2)  # one that was carried out after the one that failed
    assert lock.held is True
    assert [record.getMessage() for record in caplog.records] == ["a renewal of lock 'l' failed"]
    lock.release()


def test_b20_release_masks_the_error(cache, plain) -> None:
    """python-redis-lock, redis-py #3531: the release at the end of a block hid its error."""
    with pytest.raises(ZeroDivisionError), cache.lock("l") as lock:
        plain.wipe(lock)
        raise ZeroDivisionError


def test_b21_wall_clock_of_the_client(cache, monkeypatch) -> None:
    """rueidislock, node-redlock, redlock-py: jumps of the wall clock moved the deadlines."""
    lock = cache.lock("l", 30)
    lock.acquire()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10**6)
    assert lock.remaining() + 1 > 29
    assert (lock.held, lock.extend()) == (True, True)


def test_b22_invalid_lock_from_with(cache) -> None:
    """redlock-ng: `with` went into the block without the lock."""
    entered = []
    with cache.lock("l", 30), pytest.raises(LockConflict), cache.lock("l", timeout=0):
        entered.append(1)
    assert entered == []


def test_b27_fails_open(alone) -> None:
    """cashews: without its servers the lock let everybody in."""
    lock = alone("l", 10, nodes={"a": "redis://127.0.0.1:1"}, timeout=0)
    entered = []
    with pytest.raises(QuorumUnavailable), lock:
        entered.append(1)
    assert entered == []
    lock.close()


def test_b27_released_without_a_look_at_the_owner(cache, plain) -> None:
    """cashews, aiocache on memcached: a release took the key of whoever had it."""
    first, second = cache.lock("l", 30), cache.lock("l", 30)
    first.acquire()
    plain.wipe(first)
    second.acquire()
    with pytest.raises(LockLost):
        first.release()
    assert second.extend() is True


def test_b31_jump_of_the_servers_clock(cache, plain) -> None:
    """Valkey #2651, redis #416: a jump of the servers' clocks ends all locks.

    The fencing token, and the holder's next look, tell it.
    """
    first, second = cache.lock("l", 600), cache.lock("l", 600)
    first.acquire()
    plain.wipe(first)  # what a jump forward does
    second.acquire()
    assert second.fencing_token > first.fencing_token
    with pytest.raises(LockLost):
        first.extend()


def test_waiter_wakes_on_release_not_by_its_poll(cache, plain) -> None:
    """Pulsar #231, backend.ai #1501, portalocker #144: waiters slept through the release."""
    holder, lock = cache.lock("l", 600), cache.lock("l", 600)
    holder.acquire()
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(lock.acquire(timeout=60)))
    thread.start()
    while not any(plain[name].exists(lock._holder.plan.keys.waiting) for name in lock.voters):
        time.sleep(0.001)
    asked = sum(plain[name].info("commandstats")["cmdstat_eval"]["calls"] for name in lock.voters)
    holder.release()
    thread.join()
    more = (
        sum(plain[name].info("commandstats")["cmdstat_eval"]["calls"] for name in lock.voters)
        - asked
    )
    assert (found, more <= 60) == ([True], True)
