"""`deadline` around calls of locks: each wait ends by it, and nothing of it is left behind.

Timeouts, ttls and the client's own timeout are hours, so a call that ends at all has kept to it.
"""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from shardcache import deadline
from shardcache.embedded import LocalShards
from shardcache.errors import LockNotAcquired, QuorumUnavailable
from shardcache.request_deadline import time_left
from tests.waiting import until

HOUR = 3600.0


@pytest.fixture
def held(make: Callable[..., Any]) -> Any:
    """A lock "l" that another client holds."""
    lock = make().lock("l", HOUR)
    assert lock.acquire()
    return lock


@pytest.mark.parametrize("timeout", [None, -1, HOUR], ids=["none", "no end", "an hour"])
def test_held_by_others(make, held, plain, timeout) -> None:
    """The wait for another holder ends by the deadline, and leaves no vote and no place behind."""
    cache = make(timeout=HOUR)
    lock = cache.lock("l", HOUR, timeout=timeout)
    with deadline(0.05):
        assert lock.acquire() is False
    with deadline(0.05), pytest.raises(LockNotAcquired), lock:
        pass
    with deadline(0.05):
        assert cache.lock_many(["a", "l"], HOUR).acquire(timeout=timeout) is False
    held.release()
    until(lambda: plain.having(lock) == [])
    assert cache.lock_many(["a", "l"], HOUR).acquire(blocking=False)
    until(lambda: plain.having(lock) == list(lock.voters))


def test_others_of_this_process(make, held) -> None:
    """So does the wait for one's turn in this process."""
    cache = make(timeout=HOUR)
    thread = threading.Thread(target=cache.lock("l", HOUR).acquire)
    thread.start()
    line = cache.lock("l", HOUR)._driver.line
    until(lambda: any(line._waiting.values()) if hasattr(line, "_waiting") else line._lines)
    with deadline(0.05):
        assert cache.lock("l", HOUR).acquire() is False
    held.release()
    thread.join()


CALLS: dict[str, Callable[[Any], object]] = {
    "acquire": lambda cache: cache.lock("l", HOUR).acquire(),
    "one attempt": lambda cache: cache.lock("l", HOUR).acquire(blocking=False),
    "lock_many": lambda cache: cache.lock_many(["a", "l"], HOUR).acquire(),
    "locked": lambda cache: cache.lock("l", HOUR).locked(),
    "owner": lambda cache: cache.lock("l", HOUR).owner(),
}


@pytest.mark.parametrize("call", CALLS)
def test_hung_voters(make, mortal: LocalShards, call) -> None:
    """Voters that do not answer are waited for until then, and are not blamed for it."""
    cache = make(mortal.urls, timeout=HOUR)
    for server in mortal.servers:
        server.pause()
    with deadline(0.05), pytest.raises(QuorumUnavailable):
        CALLS[call](cache)
    assert {one.state for one in cache.stats().shards.values()} == {"closed"}
    for server in mortal.servers:
        server.resume()


@pytest.mark.parametrize("call", CALLS)
def test_over_before_it_began(make, call) -> None:
    """Nothing is sent, and the error says why."""
    cache = make(timeout=HOUR)
    with deadline(0), pytest.raises(QuorumUnavailable, match="deadline is over"):
        CALLS[call](cache)
    assert {one.connects for one in cache.stats().shards.values()} == {0}


def test_release_is_not_bounded(make) -> None:
    """A lock is given back and extended after the deadline too: others wait for it."""
    cache, other = make(), make()
    lock = cache.lock("l", HOUR)
    with deadline(HOUR):
        assert lock.acquire()
    with deadline(0):
        assert lock.extend()
        lock.release()
    assert other.lock("l", HOUR).acquire(blocking=False)


def test_renewal_goes_on(make) -> None:
    """What a renewal calls has no deadline: nobody waits for it."""
    cache = make()
    seen: list[float | None] = []
    with deadline(HOUR):
        lock = cache.lock("l", 0.3, auto_renew=True, on_lost=lambda _: seen.append(time_left()))
        assert lock.acquire()
    cache.lock("l").force_release()
    until(lambda: seen)
    assert seen == [None]
