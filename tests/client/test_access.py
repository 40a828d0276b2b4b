"""A user of an ACL that allows one namespace.

All works inside of it; outside each call says at once which keys it needs.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from shardcache import AsyncQuorumLock, Event, Options, QuorumLock, ShardCache
from shardcache.embedded import LocalShards
from shardcache.errors import AccessDenied, LockConflict, QuorumUnavailable

COMMANDS = "+@read +@write +@connection +eval +time +info +blpop"
USERS = {
    "shop": f"on >pw ~shop:* {COMMANDS}",
    "locks": f"on >pw ~locks:* {COMMANDS}",
    "values": f"on >pw ~shop:[a-z]* {COMMANDS}",  # not the library's own keys
    "nobody": f"on >pw ~other:* {COMMANDS}",
}


@pytest.fixture(scope="module")
def guarded(program: str) -> Iterator[LocalShards]:
    """Three servers with users."""
    with LocalShards(3, tcp=True, binary=program) as servers:
        for url in servers.urls.values():
            with redis.Redis.from_url(url) as plain:
                for name, rules in USERS.items():
                    plain.execute_command("ACL", "SETUSER", name, *rules.split())
        yield servers


@pytest.fixture
def urls(guarded: LocalShards) -> Callable[[str], dict[str, str]]:
    """The servers' URLs with the login of a user."""
    return lambda user: {
        name: url.replace("://", f"://{user}:pw@") for name, url in guarded.urls.items()
    }


@pytest.fixture
def empty(guarded: LocalShards) -> None:
    for url in guarded.urls.values():
        with redis.Redis.from_url(url) as plain:
            plain.flushdb()


@pytest.mark.usefixtures("empty")
def test_the_namespace_is_enough(make, urls, guarded) -> None:
    """With the namespace's pattern alone: values, loads, tags, locks, scan and clear; no event."""
    events: list[Event] = []
    cache = make(urls("shop"), namespace="shop", options=Options(on_event=events.append))
    assert (cache.set("a", 1), cache.get("a"), cache.incr("n", initial=0)) == (True, 1, 1)
    assert (cache.set_many({"b": 2, "c": 3}), cache.get_many(["b", "c"])) == ([], {"b": 2, "c": 3})
    assert cache.get_or_set("loaded", 5, ttl=60, tags=["t"]) == 5
    assert (cache.get("loaded"), cache.invalidate_tags(["t"]), cache.get("loaded")) == (5, 1, None)
    assert cache.get_or_set_many(["x", "y"], lambda keys: dict.fromkeys(keys, 7)) == {
        "x": 7,
        "y": 7,
    }
    lock = cache.lock("job", ttl=5)
    assert (lock.acquire(), lock.locked(), lock.extend()) == (True, True, True)
    assert cache.lock("job", ttl=5).acquire(blocking=False) is False
    assert sorted(cache.scan()) == ["a", "b", "c", "loaded", "n", "x", "y"]
    assert (cache.clear(), list(cache.scan()), lock.locked()) == (7, [], True)
    assert lock.release() is None
    assert (cache.stats().loading.not_stored, events) == (0, [])
    for url in guarded.urls.values():
        with redis.Redis.from_url(url) as plain:
            assert {key[:5] for key in plain.scan_iter()} <= {b"shop:"}


@pytest.mark.usefixtures("empty")
def test_a_lock_without_a_cache_has_its_namespace(colour, urls) -> None:
    """A lock made from servers keeps to "locks:", or to the namespace that it is given."""
    kind = QuorumLock if colour is ShardCache else colour.like(AsyncQuorumLock)
    for user, settings in (("locks", {}), ("shop", {"namespace": "shop"})):
        lock = kind("job", ttl=5, nodes=urls(user), **settings)
        assert (lock.acquire(timeout=10), lock.release()) == (True, None)
        lock.close()


CALLS: dict[str, Callable[[Any], Any]] = {
    "get": lambda cache: cache.get("k"),
    "set": lambda cache: cache.set("k", 1),
    "add": lambda cache: cache.add("k", 1),
    "delete": lambda cache: cache.delete("k"),
    "get_many": lambda cache: cache.get_many(["k"]),
    "set_many": lambda cache: cache.set_many({"k": 1}),
    "delete_many": lambda cache: cache.delete_many(["k"]),
    "get_or_set": lambda cache: cache.get_or_set("k", 1),
    "get_or_set_many": lambda cache: cache.get_or_set_many(
        ["k"], lambda keys: dict.fromkeys(keys, 1)
    ),
    "tags": lambda cache: cache.set("k", 1, tags=["t"]),
    "invalidate_tags": lambda cache: cache.invalidate_tags(["t"]),
}
NEEDS = r"NOPERM.* This client needs the keys ~shop:\*"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_denied(make, urls, call) -> None:
    """Whoever may not touch the namespace is told so by every call, under "degrade" too."""
    cache = make(urls("nobody"), namespace="shop")
    with pytest.raises(AccessDenied, match=NEEDS):
        call(cache)


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize(
    "name", [name for name in CALLS if not name.startswith("get") or "set" in name]
)
def test_denied_the_librarys_own_keys(make, urls, name) -> None:
    """A user who may touch values alone is told by every call that needs more."""
    events: list[Event] = []
    cache = make(urls("values"), namespace="shop", options=Options(on_event=events.append))
    cache.get("k")
    with pytest.raises(AccessDenied, match=NEEDS):
        CALLS[name](cache)
    kinds = {event.kind for event in events}
    assert kinds == ({"dropped_write"} if name.startswith("get_or_set") else set())


def test_pipelined_writes_are_denied(make, urls) -> None:
    """Of a pipeline, each write that could not invalidate loads says so."""
    cache = make(urls("values"), namespace="shop")
    with cache.pipeline() as pipe:
        pipe.get("k")
        pipe.set("k", 1)
        with pytest.raises(AccessDenied, match=NEEDS):
            pipe.execute()
    assert (
        make(urls("values"), namespace="shop", options=Options(void_loads=False)).set("k", 1)
        is True
    )


@pytest.mark.parametrize("user", ["nobody", "values"])
@pytest.mark.parametrize("ask", ["acquire", "with", "locked", "owner", "force_release"])
def test_locks_are_denied_at_once(make, urls, user, ask) -> None:
    """A lock whose keys are out of reach is an error at once that names them, without a wait."""
    lock = make(urls(user), namespace="shop").lock("job", ttl=600)
    with pytest.raises(QuorumUnavailable, match=NEEDS) as caught:
        lock.__enter__() if ask == "with" else getattr(lock, ask)()
    assert not isinstance(caught.value, LockConflict)


@pytest.mark.usefixtures("empty")
def test_a_lock_whose_keys_are_taken_away(make, urls, guarded) -> None:
    """A user who loses his rights while holding a lock is told by extension and release.

    If the lock is renewed, the end of the lease tells.
    """

    def allow(keys: str) -> None:
        for url in guarded.urls.values():
            with redis.Redis.from_url(url) as plain:
                plain.execute_command("ACL", "SETUSER", "shop", "resetkeys", keys)

    events: list[Event] = []
    cache = make(urls("shop"), namespace="shop", options=Options(on_event=events.append))
    lock, renewed = cache.lock("job", ttl=60), cache.lock("renewed", ttl=1.5, auto_renew=True)
    lock.acquire()
    renewed.acquire()
    allow("~other:*")
    try:
        with pytest.raises(QuorumUnavailable, match=NEEDS):
            lock.extend()
        with pytest.raises(QuorumUnavailable, match=NEEDS):
            lock.release()
        while not renewed.lost.is_set():  # ends by the limit on each test
            time.sleep(0.01)
        assert [event.kind for event in events if event.kind == "lock_lost"] == ["lock_lost"]
    finally:
        allow("~shop:*")
    lock.release()


def test_a_minority_that_denies_is_outvoted(make, urls, guarded) -> None:
    """Two voters of three are a majority, whatever the third says."""
    mixed = {**urls("shop"), "shard-2": urls("nobody")["shard-2"]}
    with make(urls("shop"), namespace="shop").lock("mixed", ttl=5):
        # Now it is known that no voter has forgotten anything. Else they would wait until they have
        # been up for a minute.
        pass
    with make(mixed, namespace="shop").lock("mixed", ttl=5, timeout=20) as lock:
        assert lock.held


def test_namespaces_share_nothing(make, namespace) -> None:
    """One name is two locks, loads and tags in two namespaces, also if one contains the other."""
    caches = [make(namespace=name) for name in (namespace, f"{namespace}:eu", f"{namespace}2")]
    locks = [cache.lock("job", ttl=30) for cache in caches]
    assert [lock.acquire(blocking=False) for lock in locks] == [True, True, True]
    for cache in caches:
        assert (
            cache.get_or_set("k", cache.namespace if hasattr(cache, "namespace") else 1, tags=["t"])
            is not None
        )
    assert [cache.invalidate_tags(["t"]) for cache in caches[1:]] == [1, 1]
    assert [cache.get("k") is not None for cache in caches] == [True, False, False]
    assert caches[0].clear() == 2
    assert [lock.locked() for lock in locks] == [True, True, True]
    assert list(caches[0].scan()) == []
