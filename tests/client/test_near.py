"""Values that are kept in this process, in both colours, on real servers."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from shardcache import LoadPolicy, NearCache, Options, ShardCache
from shardcache.drivers import invalidation_listener, near_values
from shardcache.drivers.invalidation_listener import InvalidationListener
from shardcache.embedded import LocalShards
from shardcache.errors import ClientClosed, CommandRefused, DamagedPayload, InvalidOption
from shardcache.results import Hit
from shardcache.testing import FaultProxy, Stall
from shardcache.topology.nodes import members
from tests.waiting import until


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalShards]:
    """Two servers of this module."""
    with LocalShards(2, tcp=True) as shards:
        yield shards


@pytest.fixture
def other(servers: LocalShards, unique: str) -> Iterator[ShardCache]:
    """Another client, which keeps nothing: it stands for another process."""
    with ShardCache(servers.urls, namespace=unique, timeout=20) as cache:
        yield cache


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A namespace of this test."""
    return f"near-{os.getpid()}-{abs(hash(request.node.nodeid))}"


@pytest.fixture
def cache(colour: Any, servers: LocalShards, unique: str) -> Iterator[Any]:
    """A client with a near cache, all of whose shards are heard."""
    with colour(servers.urls, namespace=unique, timeout=20, near=NearCache()) as made:
        listen(made)
        yield made


def listen(cache: Any) -> None:
    """Wait until values of every shard are kept."""
    for shard in cache.stats().shards:
        key = next(key for key in map(str, range(1000)) if cache.explain(key).shard == shard)
        cache.set(key, 1)
        until(lambda key=key: near(cache, key))
    cache.clear()


def near(cache: Any, key: str) -> bool:
    """Read a key; return whether it came from memory."""
    hits = cache.stats().near.hits
    cache.get(key)
    return bool(cache.stats().near.hits > hits)


def test_hit_and_invalidation(cache: Any, other: ShardCache) -> None:
    """What was read once is in memory, until another process writes or deletes it."""
    other.set("k", "one")
    assert cache.get("k") == "one"
    until(lambda: near(cache, "k"))
    other.set("k", "two")
    until(lambda: cache.get("k") == "two")
    until(lambda: near(cache, "k"))
    other.delete("k")
    until(lambda: cache.get("k") is None)
    assert cache.stats().near.invalidations >= 2


WRITES: dict[str, Callable[[Any], object]] = {
    "set": lambda cache: cache.set("k", 2),
    "delete": lambda cache: cache.delete("k"),
    "incr": lambda cache: cache.incr("k"),
    "command": lambda cache: cache.command("k", "SET", "2"),
    "set_many": lambda cache: cache.set_many({"k": 2}),
    "delete_many": lambda cache: cache.delete_many(["k"]),
    "clear": lambda cache: cache.clear(),
}


@pytest.mark.parametrize("write", WRITES)
def test_own_writes_are_seen_at_once(cache: Any, write: str) -> None:
    """After each write of this process the next read has it, without waiting for the server."""
    for _ in range(20):
        cache.set("k", 1)
        cache.get("k")
        cache.get("k")
        WRITES[write](cache)
        assert cache.get("k") in (2, None)


def test_values_are_the_callers_own(cache: Any) -> None:
    """A list that a caller changes is not what the next one gets."""
    cache.set("k", [1])
    until(lambda: near(cache, "k"))
    cache.get("k").append(2)
    assert (near(cache, "k"), cache.get("k")) == (True, [1])


def test_share(colour: Any, servers: LocalShards, unique: str) -> None:
    """With share=True, all get the same object."""
    settings = NearCache(share=True)
    with colour(servers.urls, namespace=unique, timeout=20, near=settings) as cache:
        cache.set("k", [1])
        until(lambda: near(cache, "k"))
        assert cache.get("k") is cache.get("k")


def test_many(cache: Any, other: ShardCache) -> None:
    """Of many keys, those in memory are taken from there, and the order is that of the keys."""
    other.set_many({"a": 1, "b": [2], "c": 3})
    until(lambda: near(cache, "b"))
    hits = cache.stats().near.hits
    assert list(cache.get_many(["a", "b", "x", "c"]).items()) == [("a", 1), ("b", [2]), ("c", 3)]
    found = cache.fetch_many(["a", "b", "x"])
    assert (list(found), found["b"], found.hits) == (["a", "b", "x"], Hit([2]), {"a": 1, "b": [2]})
    assert cache.stats().near.hits >= hits + 1


@pytest.mark.parametrize("read", ["get_many", "fetch_many"])
def test_many_are_kept(cache: Any, other: ShardCache, read: str) -> None:
    """What many keys have brought is in memory, no longer than its ttl, until it is written."""
    keys = list("abcdef")
    other.set_many(dict.fromkeys(keys, 1))

    def hits() -> int:
        before = cache.stats().near.hits
        getattr(cache, read)([*keys, "absent"])
        return int(cache.stats().near.hits - before)

    until(lambda: hits() == len(keys))
    other.set("f", 1, ttl=0.5)
    until(lambda: hits() == len(keys))
    until(lambda: hits() == len(keys) - 1)
    other.set("a", 2)
    until(lambda: cache.get_many(["a", "b"]) == {"a": 2, "b": 1})


@pytest.mark.parametrize("stored", ["damaged", "tagged"])
def test_many_are_told_of_once(
    colour: Any, servers: LocalShards, unique: str, other: ShardCache, stored: str
) -> None:
    """Values in memory that are not served from there are answered and counted as without it."""
    events: list[Any] = []
    settings = {"on_unavailable": "raise", "options": Options(on_event=events.append)}
    with colour(servers.urls, namespace=unique, timeout=20, near=NearCache(), **settings) as cache:
        if stored == "tagged":
            other.set("k", [1], tags=["t"])
        else:
            other.command("k", "SET", b"\xf7\xc1")

        def read() -> None:
            with suppress(DamagedPayload):
                cache.get("k")

        until(lambda: (read(), cache.stats().near.hits)[1])
        events.clear()
        before = cache.stats()
        found = cache.fetch_many(["k"])["k"]
        after = cache.stats()
        if stored == "tagged":
            assert (found, after.hits - before.hits) == (Hit([1]), 1)
        else:
            assert isinstance(found.error, DamagedPayload)
            assert [(event.kind, event.operation) for event in events] == [
                ("damaged", "fetch_many")
            ]


def test_many_of_no_life(colour: Any, servers: LocalShards, unique: str) -> None:
    """As long as no shard is heard, and with keys that are not wanted, nothing is kept."""
    settings = NearCache(keys="x*")
    with colour(servers.urls, namespace=unique, timeout=20, near=settings) as cache:
        cache.set_many({"a": 1, "x": 2})
        until(lambda: (cache.get_many(["a", "x"]), cache.stats().near.items)[1])
        assert (near(cache, "a"), near(cache, "x")) == (False, True)


def test_tags(cache: Any, other: ShardCache) -> None:
    """A value in memory falls with its tags, at once."""
    other.set("k", 1, tags=["t"])
    until(lambda: near(cache, "k"))
    other.invalidate_tags(["t"])
    assert (cache.get("k"), cache.get_many(["k"]), cache.get("k", 5)) == (None, {}, 5)


def test_loading(cache: Any, other: ShardCache) -> None:
    """`get_or_set` is answered from memory; what it loads is seen at once; others' writes are."""
    assert cache.get_or_set("k", lambda: 1) == 1
    assert cache.get("k") == 1
    until(lambda: near(cache, "k"))
    hits = cache.stats().near.hits
    assert cache.get_or_set("k", lambda: 2) == 1
    assert cache.stats().near.hits == hits + 1
    other.set("k", 3)
    until(lambda: cache.get_or_set("k", lambda: 4) == 3)


def test_stale_stays_stale(cache: Any) -> None:
    """A value in memory whose ttl is over is refreshed, as one on the server is."""
    policy = LoadPolicy(stale_ttl=60)
    values = iter(range(100))

    def read() -> Any:
        return cache.get_or_set("k", lambda: next(values), ttl=0.2, policy=policy)

    assert read() == 0
    until(lambda: near(cache, "k"))
    until(lambda: read() > 0)


def test_refresh_in_the_background_is_seen(colour: Any, servers: LocalShards, unique: str) -> None:
    """What a refresh of this process has stored is read next, where no server tells of it, too."""
    policy, values = LoadPolicy(stale_ttl=60), iter(range(100))
    settings = NearCache(mode="ttl-only")
    with colour(servers.urls, namespace=unique, timeout=20, near=settings) as cache:
        until(lambda: cache.get_or_set("k", lambda: next(values), ttl=0.2, policy=policy) > 0)


def test_lost_connection_drops_the_part(
    colour: Any, servers: LocalShards, unique: str, other: ShardCache
) -> None:
    """A lost connection is told, and what was written meanwhile is seen at once."""
    events: list[Any] = []
    name, url = next(iter(servers.urls.items()))
    with (
        FaultProxy(url) as proxy,
        colour(
            {name: proxy.url},
            namespace=unique,
            timeout=20,
            near=NearCache(),
            options=Options(on_event=events.append, max_out=0),
        ) as cache,
    ):
        cache.set("k", 1)
        until(lambda: near(cache, "k"))
        proxy.down()
        until(lambda: cache.stats().near.flushes == {name: 1})
        with ShardCache({name: url}, namespace=unique, timeout=20) as direct:
            direct.set("k", 2)
        proxy.up()
        until(lambda: cache.get("k") == 2)
        until(lambda: near(cache, "k"))
        assert "near_flushed" in {event.kind for event in events}


def test_hung_connection_drops_the_part(
    colour: Any, servers: LocalShards, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is there and silent is given up, and its part with it."""
    monkeypatch.setattr(invalidation_listener, "LEASE", 0.3)
    monkeypatch.setattr(invalidation_listener, "BEAT", 0.1)
    name, url = next(iter(servers.urls.items()))
    with (
        FaultProxy(url) as proxy,
        colour(
            {name: proxy.url},
            namespace=unique,
            timeout=0.2,
            near=NearCache(),
            options=Options(max_out=0),
        ) as cache,
    ):
        until(lambda: cache.set("k", 1))
        until(lambda: near(cache, "k"))
        proxy.set(Stall())
        until(lambda: cache.stats().near.flushes.get(name))
        assert cache.get("k") is None
        proxy.clear()
        until(lambda: near(cache, "k"))


def test_other_nodes(cache: Any, servers: LocalShards) -> None:
    """When nodes change, nothing from before is served, and values are kept anew."""
    cache.set("k", 1)
    until(lambda: near(cache, "k"))
    cache.use(dict(list(servers.urls.items())[:1]))
    assert not near(cache, "k")
    cache.set("k", 2)
    until(lambda: near(cache, "k"))
    assert cache.get("k") == 2


def test_server_that_became_a_replica(colour: Any, unique: str) -> None:
    """Nothing of it is served any more, although its connection stands."""
    with LocalShards(2, tcp=True) as shards, ExitStack() as stack:
        url, other = shards.urls.values()
        admin = stack.enter_context(redis.Redis.from_url(url))
        settings = {"namespace": unique, "timeout": 20, "near": NearCache()}
        cache = stack.enter_context(colour({"a": url}, **settings))
        cache.set("k", 1)
        until(lambda: near(cache, "k"))
        admin.execute_command("REPLICAOF", "127.0.0.1", urlsplit(other).port)
        until(lambda: cache.stats().near.flushes.get("a"))
        admin.execute_command("REPLICAOF", "NO", "ONE")
        cache.set("k", 2)
        until(lambda: near(cache, "k"))


def test_other_address(colour: Any, servers: LocalShards, unique: str) -> None:
    """What is still read at the former address of a shard is not kept."""
    first, second = servers.urls.values()
    with colour({"a": first}, namespace=unique, timeout=20, near=NearCache()) as cache:
        cache.set("k", 1)
        until(lambda: near(cache, "k"))
        # In the middle of `use`: the nodes are others, and the connections not yet.
        cache._context.use(members({"a": second}))
        with ShardCache({"a": second}, namespace=unique, timeout=20) as other:
            other.set("k", 2)
        heard = cache._near_values._listeners[0]
        cache.get("k")
        until(lambda: heard.life() is not None and heard.life().topology is cache._current.now)
        assert [near(cache, "k") for _ in range(3)] == [False] * 3
        cache.use({"a": second})
        until(lambda: cache.get("k") == 2 and near(cache, "k"))


def test_server_without_tracking(colour: Any, unique: str) -> None:
    """It is refused by a clear error, unless values may be as old as their ttl."""
    with LocalShards(1, tcp=True) as shards:
        [url] = shards.urls.values()
        with redis.Redis.from_url(url) as admin:
            admin.execute_command("ACL", "SETUSER", "default", "-client|tracking")

            def refused() -> bool:
                with pytest.raises(CommandRefused, match=r"needs CLIENT TRACKING.*ttl-only"):
                    while True:
                        cache.get("k")
                return True

            with colour(shards.urls, timeout=20, near=NearCache()) as cache:
                assert refused()
                with pytest.raises(CommandRefused, match="needs CLIENT TRACKING"):
                    cache.get_many(["k"])
                depths = set()
                for _ in range(3):
                    with pytest.raises(CommandRefused) as caught:
                        cache.get_or_set("k", 1)
                    depths.add(len(caught.traceback))
                assert len(depths) == 1  # each call raises an error of its own
                assert isinstance(cache.fetch_many(["k"])["k"].error, CommandRefused)
            with colour(shards.urls, timeout=20, near=NearCache(mode="ttl-only")) as cache:
                cache.set("k", 1)
                assert [near(cache, "k"), near(cache, "k")] == [False, True]


def test_misfits(colour: Any) -> None:
    """What cannot be is told before anything is sent."""
    for settings in (
        {"max_items": 0},
        {"max_bytes": 1.5},
        {"ttl": 0},
        {"keys": 1},
        {"share": 1},
        {"min_share": 0.0001},
        {"min_share": 2},
        {"mode": "tracking"},
        {"mode": "x"},
    ):
        with pytest.raises(InvalidOption, match=r"must be|not supported"):
            NearCache(**settings)
    for wrong in (1, "cold"):
        with pytest.raises(InvalidOption, match="near must be a NearCache, 'hot' or None, got"):
            colour("redis://h", near=wrong)


def test_closed(servers: LocalShards, unique: str) -> None:
    """After `close` nothing comes from memory."""
    cache = ShardCache(servers.urls, namespace=unique, timeout=20, near=NearCache())
    cache.set("k", 1)
    until(lambda: near(cache, "k"))
    cache.close()
    assert cache.stats().near.items == 0


def test_closed_while_a_read_begins(
    servers: LocalShards, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another thread's `close` did not see yet is closed as well."""
    made: list[InvalidationListener] = []

    def make(*arguments: Any, **settings: Any) -> InvalidationListener:
        cache.close()
        made.append(InvalidationListener(*arguments, **settings))
        return made[0]

    monkeypatch.setattr(near_values, "InvalidationListener", make)
    cache = ShardCache(servers.urls, namespace=unique, timeout=20, near=NearCache())
    with pytest.raises(ClientClosed):
        cache.get("k")
    assert made[0].life() is None
    assert made[0]._worker is None


def test_forked_child_begins_empty(servers: LocalShards, unique: str) -> None:
    """A child has nothing of its parent's, and hears for itself."""
    with ShardCache(servers.urls, namespace=unique, timeout=20, near=NearCache()) as cache:
        cache.set("k", 1)
        until(lambda: near(cache, "k"))
        child = os.fork()
        if child == 0:
            try:
                right = cache.stats().near.items == 0
                until(lambda: near(cache, "k"))
                os._exit(0 if right else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert near(cache, "k")
