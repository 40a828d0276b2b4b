"""What users of django-redis call: the same tests for our backend and for django-redis."""

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.exceptions import LockError, LockNotOwnedError

HOUR = 3600


@pytest.fixture(params=["backend", "django_redis"])
def new_cache(request: pytest.FixtureRequest) -> Any:
    """Make a cache: ours, or that of django-redis."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def cache(new_cache: Any) -> Any:
    return new_cache()


def test_time_left(cache) -> None:
    """None: no expiry; 0: not there; else seconds, or milliseconds."""
    cache.set("forever", 1, None)
    cache.set("hour", 1, HOUR)
    cache.set("moment", 1, 0.4)
    assert (cache.ttl("forever"), cache.ttl("absent"), cache.ttl("moment")) in (
        (None, 0, 1),
        (None, 0, 0),
    )
    assert (cache.pttl("forever"), cache.pttl("absent")) == (None, 0)
    assert HOUR - 60 < cache.ttl("hour") <= HOUR
    assert (HOUR - 60) * 1000 < cache.pttl("hour") <= HOUR * 1000


def test_timeouts_that_change(cache) -> None:
    """Each method says whether the key was there."""
    cache.set("k", 1, HOUR)
    assert (cache.persist("k"), cache.ttl("k")) == (True, None)
    for change in (
        lambda key: cache.expire(key, HOUR),
        lambda key: cache.pexpire(key, HOUR * 1000),
        lambda key: cache.expire_at(key, datetime.now(UTC) + timedelta(hours=1)),
        lambda key: cache.expire_at(key, int(time.time()) + HOUR),
        lambda key: cache.pexpire_at(key, int(time.time() * 1000) + HOUR * 1000),
        lambda key: cache.pexpire_at(key, datetime.now(UTC) + timedelta(hours=1)),
    ):
        cache.persist("k")
        assert (change("k"), change("absent")) == (True, False)
        assert HOUR - 60 < cache.ttl("k") <= HOUR + 60
    assert not cache.persist("absent")


def test_patterns(new_cache: Any, cache: Any) -> None:
    """Keys come as the callers know them, and only those of this prefix and version."""
    cache.set_many({f"{kind}:{number}": 1 for kind in "ab" for number in range(30)})
    new_cache(VERSION=2).set("a:other", 1)
    assert sorted(cache.keys("a:?")) == [f"a:{number}" for number in range(10)]
    assert set(cache.iter_keys("b:*", itersize=5)) == {f"b:{number}" for number in range(30)}
    assert (cache.delete_pattern("a:*", itersize=10), len(cache.keys("*"))) == (30, 30)
    assert cache.keys("*", version=2) == ["a:other"]


def test_conditional_set(cache) -> None:
    """As nx only what is absent is stored, as xx only what is present."""
    assert (cache.set("k", 1, xx=True), cache.set("k", 1, nx=True)) == (False, True)
    assert (cache.set("k", 2, nx=True), cache.set("k", 3, xx=True), cache.get("k")) == (
        False,
        True,
        3,
    )


def test_count_of_an_absent_key(cache) -> None:
    """Where asked for, counting begins at 0."""
    assert (cache.incr("n", ignore_key_check=True), cache.ttl("n")) == (1, None)


def test_lock(cache) -> None:
    """One holder at a time, with the methods and errors of redis-py's lock."""
    with cache.lock("l", timeout=HOUR) as held:
        other = cache.lock("l", timeout=HOUR, blocking_timeout=0.1)
        assert (held.locked(), held.owned(), other.owned()) == (True, True, False)
        assert other.acquire(blocking=False) is False
        with pytest.raises(LockError), other:
            pass
        assert held.extend(HOUR)
        assert held.extend(HOUR, replace_ttl=True)
    assert not held.locked()
    for lost in (held.release, lambda: held.extend(1)):
        with pytest.raises(LockError):
            lost()


def test_lock_without_timeout(cache) -> None:
    """It is held until it is released, here by another thread."""
    lock = cache.lock("l", thread_local=False)
    assert lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert not lock.locked()


def test_lost_lock(backend: Any) -> None:
    """The error says that it is not owned, which is a `LockError` too."""
    lock = backend().lock("l", timeout=HOUR)
    assert lock.acquire()
    lock.release()
    for lost in (lock.release, lambda: lock.extend(1)):
        with pytest.raises(LockNotOwnedError):
            lost()


def test_what_django_redis_does_not_take(backend: Any) -> None:
    """All keys without a pattern; and what excludes each other is an error."""
    cache = backend()
    cache.set("k", 1)
    assert cache.keys() == ["k"]
    with pytest.raises(ValueError, match="exclude"):
        cache.set("k", 1, nx=True, xx=True)


def test_asyncio(backend: Any) -> None:
    """The same on asyncio, where django-redis has Django's own methods only."""
    cache = backend()
    cache.set_many({f"b:{number}": 1 for number in range(30)}, HOUR)

    async def walk() -> None:
        assert len({key async for key in cache.aiter_keys("b:*")}) == 30
        assert await cache.adelete_pattern("b:1*") == 11
        assert 0 < await cache.attl("b:2") <= HOUR
        assert await cache.aset("b:2", 4, nx=True) is False
        async with cache.alock("l", timeout=HOUR):  # the library's own
            assert cache.lock("l").acquire(blocking=False) is False

    asyncio.run(walk())
    assert len(cache.keys()) == 19
