"""Forks, event loops, garbage, pickles: what surrounds a lock."""

import asyncio
import copy
import gc
import os
import pickle
import subprocess
import sys
import threading
import uuid
import warnings
import weakref

import pytest

from shardcache import AsyncQuorumLock, AsyncShardCache, QuorumLock, ShardCache
from shardcache.errors import LockConflict, LockLost, LockNotHeld, QuorumUnavailable
from shardcache.votes import Vote
from tests.waiting import until

CHILD = """
import os, sys, threading
from shardcache import QuorumLock
from shardcache.errors import LockNotHeld
urls = dict(zip(sys.argv[2::2], sys.argv[3::2]))
lock = QuorumLock(sys.argv[1], 2, nodes=urls, auto_renew=True, reentrant=True, owner="me")
lock.acquire()
with lock:
    child = os.fork()
    if not child:
        wrong = []
        if lock.held or lock.remaining() or lock.lost.is_set():
            wrong.append("the child holds it")
        methods = (lock.release, lock.extend, lock.handover, lock.ensure_held)
        for forbidden in (*methods, lambda: lock.token):
            try:
                forbidden()
                wrong.append(forbidden)
            except LockNotHeld:
                pass
        if threading.active_count() != 1:
            wrong.append(threading.enumerate())
        if QuorumLock(sys.argv[1], 2, nodes=lock).acquire(timeout=2.2):
            wrong.append("the parent renews no more")
        lock.__exit__(None, None, None)
        lock.close()
        os.write(1, f"{wrong} ".encode())
        os._exit(0)
    os.waitpid(child, 0)
print(lock.held, lock.extend(), flush=True)
lock.release()
child = os.fork()
if not child:
    lock.acquire()
    os.write(1, f"{lock.held}".encode())
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork(voters) -> None:
    """A child neither owns, renews nor releases its parent's lease, and can lock for itself."""
    words = [word for pair in voters.urls.items() for word in pair]
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CHILD, uuid.uuid4().hex, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[] True True\nTrue", "")


ERRORS = [
    LockConflict("l", "held", [Vote("a", "held", 1.5)], 1.5),
    QuorumUnavailable("l", "out", [Vote("a", "timeout", reason="slow")]),
    LockLost("l", "ended"),
    LockNotHeld("l", "is not held"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "by", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy], ids=["pickle", "copy"]
)
def test_errors_travel(error, by) -> None:
    """An error comes out of a process pool as it went in."""
    found = by(error)
    assert (type(found), str(found), found.name, found.reason) == (
        type(error),
        str(error),
        error.name,
        error.reason,
    )
    assert getattr(found, "votes", None) == getattr(error, "votes", None)
    assert getattr(found, "retry_after", None) == getattr(error, "retry_after", None)


@pytest.fixture
def loops():
    """Three event loops that run in threads."""
    made = [asyncio.new_event_loop() for _ in range(3)]
    threads = [threading.Thread(target=loop.run_forever) for loop in made]
    for thread in threads:
        thread.start()
    yield made
    for loop, thread in zip(made, threads, strict=True):
        asyncio.run_coroutine_threadsafe(
            asyncio.sleep(0.02), loop
        ).result()  # what was told to close does so
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_several_event_loops(voters, loops) -> None:
    """One client serves locks on several loops at once."""
    cache = AsyncShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20)
    found = []

    async def work() -> None:
        for _ in range(4):
            async with cache.lock("l", 30, timeout=60) as lock:
                found.append(lock.fencing_token)

    for running in [asyncio.run_coroutine_threadsafe(work(), loop) for loop in loops]:
        running.result()
    asyncio.run_coroutine_threadsafe(cache.close(), loops[0]).result()
    assert (len(found), found == sorted(set(found))) == (12, True)


def test_one_handle_on_two_loops(voters, loops) -> None:
    """A handle that one loop has used works on the next, and the first renews no more."""
    lock = AsyncQuorumLock(uuid.uuid4().hex, 0.5, nodes=voters.urls, auto_renew=True)
    asyncio.run_coroutine_threadsafe(lock.acquire(), loops[0]).result()
    first = lock._holder.hold.renewal.task
    lock._holder.hold.lease.until[:] = [0.0] * 5  # it has lost it

    async def again() -> bool:
        assert await lock.force_release() >= 3
        assert await lock.acquire(timeout=20) is True
        await asyncio.sleep(0.7)
        held = lock.held
        await lock.release()
        await lock.close()
        return held

    assert asyncio.run_coroutine_threadsafe(again(), loops[1]).result() is True
    assert first.done() is True


def test_garbage_renews_nothing(voters) -> None:
    """A forgotten handle is collected, its thread ends, and the ttl ends the lease."""
    name = uuid.uuid4().hex
    with ShardCache(voters.urls, namespace=name, timeout=20) as cache:
        lock = cache.lock("l", 0.3, auto_renew=True)
        lock.acquire()
        thread, seen, lease = lock._holder.hold.renewal, weakref.ref(lock), lock._holder.hold.lease
        first = list(lease.until)
        until(lambda: lease.until != first)  # it has been renewed
        del lock
        gc.collect()
        until(lambda: gc.collect() is not None and seen() is None)
        assert cache.lock("l").acquire(timeout=20) is True
        thread.join(20)
        assert thread.is_alive() is False


def test_garbage_renews_nothing_async(voters) -> None:
    """The same on an event loop: no task keeps the handle alive."""

    async def main() -> None:
        async with AsyncShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20) as cache:
            lock = cache.lock("l", 0.3, auto_renew=True)
            await lock.acquire()
            hold, seen = lock._holder.hold, weakref.ref(lock)
            task, lease = hold.renewal.task, hold.lease
            first = list(lease.until)
            while lease.until == first:  # noqa: ASYNC110  until it has been renewed
                await asyncio.sleep(0.01)
            del lock, hold
            # A renewal under way keeps the handle until it has its answers.
            while gc.collect() is not None and seen() is not None:  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.01)
            assert await cache.lock("l").acquire(timeout=20) is True
            await asyncio.wait([task])

    asyncio.run(main())


def test_unclosed_lock_says_so(voters) -> None:
    """An asyncio lock on URLs that nobody closed warns, and closes its sockets."""

    async def main() -> None:
        lock = AsyncQuorumLock(uuid.uuid4().hex, 30, nodes=voters.urls)
        async with lock:
            pass
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            del lock
            gc.collect()
        assert [str(one.message)[:26] for one in said] == ["unclosed <AsyncQuorumLock "]
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_connections_live_as_long_as_someone_shares_them(voters) -> None:
    """The lock that opened the connections may be forgotten while another still uses them."""
    first = QuorumLock(uuid.uuid4().hex, 30, nodes=voters.urls)
    second = QuorumLock(uuid.uuid4().hex, 30, nodes=first)
    del first
    gc.collect()
    with second:
        assert second.held is True

    async def main() -> None:
        first = AsyncQuorumLock(uuid.uuid4().hex, 30, nodes=voters.urls)
        second = AsyncQuorumLock(uuid.uuid4().hex, 30, nodes=first)
        async with first:
            pass
        root = weakref.ref(first)
        del first
        gc.collect()
        async with second:
            assert second.held is True
        await root().close()

    asyncio.run(main())


def test_entered_in_one_task_left_in_another(voters) -> None:
    """A block that another task leaves, as an exit stack may, releases the lock all the same."""

    async def main() -> None:
        async with AsyncShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20) as cache:
            lock = cache.lock("l", 600)
            await asyncio.create_task(lock.__aenter__())
            await asyncio.create_task(lock.__aexit__(None, None, None))
            assert (lock.held, await cache.lock("l").acquire(blocking=False)) == (False, True)

    asyncio.run(main())


def test_client_closed_under_a_lock(voters) -> None:
    """Who closes the client under a renewed lock learns of the loss, and no thread stays."""
    cache = ShardCache(voters.urls, namespace=uuid.uuid4().hex, timeout=20)
    lock = cache.lock("l", 0.3, auto_renew=True)
    lock.acquire()
    thread = lock._holder.hold.renewal
    cache.close()
    until(lock.lost.is_set)
    thread.join(20)
    assert (thread.is_alive(), lock.held) == (False, False)
