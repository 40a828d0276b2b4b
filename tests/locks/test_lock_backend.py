"""What a client hands out to the locks that use its connections."""

import gc
import weakref

import pytest

from shardcache import AsyncQuorumLock, QuorumLock, ShardCache
from shardcache.client_base import backend_of
from shardcache.errors import InvalidArgument
from shardcache.locks.lock_base import holder_of


def test_client_has_one_backend(make, events) -> None:
    """A client hands out its driver, its hook and its one planner, and closes them itself."""
    cache = make()
    backend = backend_of(getattr(cache, "_target", cache))
    assert backend is backend_of(getattr(cache, "_target", cache))
    assert backend.driver is cache._runner
    assert backend.hook == events.append
    assert tuple(backend.planner.shards) == tuple(cache.ping())
    assert backend.owned is False


def test_lock_has_the_backend_of_its_client(cache) -> None:
    """A lock of a client, and a set of them, work with what the client hands out."""
    backend = backend_of(getattr(cache, "_target", cache))
    lock, locks = cache.lock("l"), cache.lock_many(["a", "b"])
    for one in (lock, *locks.locks.values()):
        assert holder_of(getattr(one, "_target", one)).backend == backend


def test_lock_alone_makes_its_backend_once(voters, alone, namespace) -> None:
    """Who makes the connections closes them; a lock that shares them does not."""
    first = alone("l", 600, nodes=voters.urls, namespace=namespace)
    own = holder_of(getattr(first, "_target", first)).backend
    assert own.owned is True
    second = alone("m", 600, nodes=getattr(first, "_target", first))
    shared = holder_of(getattr(second, "_target", second)).backend
    assert shared == own._replace(owned=False)
    second.close()
    assert first.acquire() is True
    first.release()
    first.close()


def test_lock_of_the_other_colour(voters) -> None:
    """The connections of a lock of the other colour are refused by name."""
    lock = AsyncQuorumLock("l", nodes=voters.urls)
    with pytest.raises(InvalidArgument, match="a QuorumLock may be a ShardCache, got AsyncQuorum"):
        QuorumLock("m", nodes=lock)


def test_handle_goes_at_once() -> None:
    """Nothing that a handle has refers to it: it goes without the collector of garbage."""
    with ShardCache({"a": "redis://127.0.0.1:1"}) as cache:
        gc.disable()
        try:
            seen = weakref.ref(cache.lock("l", auto_renew=True, reentrant=True))
            assert seen() is None
        finally:
            gc.enable()
