"""An acquire that is broken off at any point leaves no key behind.

A task is cancelled, a thread is interrupted, or a block's lease ends.
"""

import asyncio
import signal
import threading
import uuid

import pytest

from shardcache import AsyncShardCache, ShardCache
from shardcache.drivers.sync import broadcast, checkout
from shardcache.errors import LockLost
from shardcache.locks import lease_holder
from shardcache.wire import Transfer
from tests.interruptions import Calls
from tests.waiting import until

MANY = 80  # turns of the event loop, more than an acquire takes


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def gone(plain, lock) -> None:
    for _ in range(5000):
        if not plain.having(lock):
            return
        await asyncio.sleep(0.001)
    pytest.fail(f"a key was left on {plain.having(lock)}")


@pytest.mark.parametrize("warm", [True, False], ids=["connected", "not connected"])
def test_cancelled_after_each_turn(voters, plain, warm) -> None:
    """An acquire cancelled after any number of turns has the lock, or leaves no key behind."""

    async def main() -> None:
        had = cancelled = 0
        cache = AsyncShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20)
        for number in range(MANY):
            if not warm:
                await cache.close()
                cache = AsyncShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20)
            lock = cache.lock(f"l{number}", 600)
            task = asyncio.ensure_future(lock.acquire())
            await turns(number)
            task.cancel()
            try:
                assert await task is True
            except asyncio.CancelledError:
                cancelled += 1
                await gone(plain, lock)
                assert lock.held is False
            else:
                had += 1
                await lock.release()
        await cache.close()
        assert cancelled > 0
        assert had + cancelled == MANY

    asyncio.run(main())


def test_cancelled_while_it_waits(voters, plain) -> None:
    """A waiter that is cancelled leaves the line, and the lock to the next."""

    async def main() -> None:
        async with AsyncShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20) as cache:
            held = cache.lock("l", 600)
            await held.acquire()
            for number in (1, 3, 10, 40):
                waiting = [asyncio.ensure_future(cache.lock("l", 600).acquire()) for _ in range(3)]
                await turns(number)
                for task in waiting:
                    task.cancel()
                await asyncio.wait(waiting)
                assert [task.cancelled() for task in waiting] == [True] * 3
            assert await held.extend() is True
            await held.release()
            await gone(plain, held)
            assert await cache.lock("l", 600).acquire(timeout=20) is True

    asyncio.run(main())


def test_set_cancelled_after_each_turn(voters, plain) -> None:
    """Several locks that are broken off leave none."""

    async def main() -> None:
        async with AsyncShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20) as cache:
            for number in range(0, MANY, 2):
                locks = cache.lock_many([f"a{number}", f"b{number}", f"c{number}"], 600)
                task = asyncio.ensure_future(locks.acquire())
                await turns(number)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    for lock in locks.locks.values():
                        await gone(plain, lock)
                else:
                    await locks.release()

    asyncio.run(main())


def test_timeout_around_it(voters, plain) -> None:
    """asyncio.timeout around an acquire strands no key."""

    async def main() -> None:
        async with AsyncShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20) as cache:
            lock = cache.lock("l", 600)
            for seconds in (0, 0.0002, 0.0005, 0.001, 0.002):
                try:
                    async with asyncio.timeout(seconds):
                        await lock.acquire()
                except TimeoutError:
                    await gone(plain, lock)
                else:
                    await lock.release()

    asyncio.run(main())


def test_release_that_is_cancelled(voters, plain) -> None:
    """A release is on its way before it is waited for, so cancelling it keeps no key."""

    async def main() -> None:
        async with AsyncShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20) as cache:
            for number in range(1, 6):
                lock = cache.lock(f"l{number}", 600)
                await lock.acquire()
                task = asyncio.ensure_future(lock.release())
                await turns(number)
                task.cancel()
                await asyncio.wait([task])
                await gone(plain, lock)
                assert await cache.lock(f"l{number}", 600).acquire(blocking=False) is True

    asyncio.run(main())


def test_release_of_several_that_is_cancelled(voters, plain) -> None:
    """It goes out for all locks in one step, so cancelling it keeps no key of any."""

    async def main() -> None:
        async with AsyncShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20) as cache:
            for number in range(1, 12):
                locks = cache.lock_many([f"{letter}{number}" for letter in "abc"], 600)
                await locks.acquire()
                task = asyncio.ensure_future(locks.release())
                await turns(number)
                task.cancel()
                await asyncio.wait([task])
                for lock in locks.locks.values():
                    await gone(plain, lock)

    asyncio.run(main())


INTERRUPTS = range(1, 80)
INTERRUPTED = {
    broadcast._Round: ("_ask", "_send", "_note_turn", "_note", "_leave"),
    checkout.Checkout: ("acquire_in_order", "acquire", "succeed", "keep"),
    Transfer: ("start", "wait", "_advance"),
}


@pytest.mark.parametrize("at", INTERRUPTS)
def test_interrupted_at_each_step(voters, plain, monkeypatch, at) -> None:
    """A KeyboardInterrupt at any poll, read or write of an acquire leaves no key."""
    with ShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20) as cache:
        lock = cache.lock("l", 600)
        calls = Calls(monkeypatch, INTERRUPTED, at)
        try:
            lock.acquire()
        except KeyboardInterrupt:
            until(lambda: plain.having(lock) == [])
            assert lock.held is False
        else:
            assert lock.held is True
            assert calls.made > 0
            if calls.made < at:
                lock.release()
        monkeypatch.undo()
        if not lock.held:
            assert lock.acquire(timeout=20) is True
            lock.release()


def test_signal_while_it_waits(voters, plain) -> None:
    """Ctrl-C ends a blocking acquire, and leaves nothing to wait for."""
    with ShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20) as cache:
        holder, lock = cache.lock("l", 600), cache.lock("l", 600)
        holder.acquire()
        timer = threading.Timer(
            0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)
        )
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
        timer.join()
        assert holder.extend() is True
        holder.release()
        until(lambda: plain.having(lock) == [])
        assert cache.lock("l").acquire(timeout=20) is True


def guarded(voters, plain, body, ttl=0.3, **settings):
    """Run ``body`` under a lock whose block is cancelled on loss."""

    async def main():
        async with AsyncShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20) as cache:
            lock = cache.lock("l", ttl, auto_renew=True, cancel_on_loss=True, **settings)
            found = await body(cache, lock)
            assert asyncio.current_task().cancelling() == 0
            await asyncio.sleep(0)
            return found

    return asyncio.run(main())


def test_block_is_cancelled_on_loss(voters, plain) -> None:
    """The guarded block ends when the lease does, with LockLost, and nothing else is cancelled."""

    async def body(cache, lock) -> str:
        reached = "nothing"
        with pytest.raises(LockLost, match="the lease ended, and the block was cancelled"):
            async with lock:
                plain.wipe(lock)
                reached = "inside"
                await asyncio.sleep(60)
                reached = "too far"
        return reached

    assert guarded(voters, plain, body) == "inside"


def test_block_that_is_not_lost(voters, plain, monkeypatch) -> None:
    """A block that keeps its lease is left alone."""
    monkeypatch.setattr(lease_holder, "_RENEWALS", 100)  # in a ttl

    async def body(cache, lock) -> bool:
        async with lock:
            for _ in range(3):
                end = lock._holder.hold.lease.valid_until
                while lock._holder.hold.lease.valid_until == end:  # noqa: ASYNC110  it is not told
                    await asyncio.sleep(0.01)
        return lock.lost.is_set()

    assert guarded(voters, plain, body, ttl=10) is False


def test_block_that_ends_as_it_is_cancelled(voters, plain) -> None:
    """A cancellation that comes too late for the block does not hit what follows it."""

    async def body(cache, lock) -> str:
        with pytest.raises(LockLost):
            async with lock:
                plain.wipe(lock)
                lock._lose(lock._holder.hold)  # cancels this task, at its next await
        await asyncio.sleep(0.01)
        return "went on"

    assert guarded(voters, plain, body) == "went on"


def test_block_that_raises_as_it_is_cancelled(voters, plain) -> None:
    """The block's own error matters more than the loss."""

    async def body(cache, lock) -> str:
        with pytest.raises(KeyError):
            async with lock:
                plain.wipe(lock)
                lock._lose(lock._holder.hold)
                raise KeyError
        await asyncio.sleep(0.01)
        return "went on"

    assert guarded(voters, plain, body) == "went on"


def test_cancelled_from_outside_as_well(voters, plain) -> None:
    """A task cancelled from outside is cancelled, lost lease or not, and the lock is released."""

    async def main() -> None:
        async with AsyncShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20) as cache:
            lock = cache.lock("l", 600, cancel_on_loss=True)

            async def work() -> None:
                async with lock:
                    inside.set()
                    await asyncio.sleep(60)

            for lose in (True, False):
                inside = asyncio.Event()
                task = asyncio.ensure_future(work())
                await inside.wait()
                if lose:
                    lock._lose(lock._holder.hold)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() is True
                await gone(plain, lock)

    asyncio.run(main())


def test_without_renewal_the_end_is_noticed(voters) -> None:
    """cancel_on_loss watches the clock even where nothing is renewed."""

    async def main() -> None:
        async with AsyncShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20) as cache:
            with pytest.raises(LockLost):
                async with cache.lock("l", 0.1, cancel_on_loss=True, voter_timeout=0.09):
                    await asyncio.sleep(60)

    asyncio.run(main())
