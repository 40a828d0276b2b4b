"""What is wrong is told in the user's terms: which shard, which key, what to do.

It is told the same by every way of reading.
"""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from shardcache import MISS, Failed, Miss, Options
from shardcache.embedded import LocalShards
from shardcache.errors import (
    AccessDenied,
    AuthenticationFailed,
    CommandRefused,
    KeyMissing,
    OutOfMemory,
    ShardUnavailable,
    WrongType,
)

FOREIGN = {
    "list": lambda plain, key: plain.rpush(key, "a"),
    "hash": lambda plain, key: plain.hset(key, "a", "b"),
    "set": lambda plain, key: plain.sadd(key, "a"),
    "zset": lambda plain, key: plain.zadd(key, {"a": 1}),
    "stream": lambda plain, key: plain.xadd(key, {"a": "b"}),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_kinds(make: Any, raw: Any, namespace: str, events: list[Any], kind: str) -> None:
    """A foreign list or hash is a damaged value, except for MGET, and a load replaces it."""
    cache = make(options=Options(on_event=events.append))
    cache.set("good", 1)
    plain, key = raw(cache, "k"), f"{namespace}:k"
    FOREIGN[kind](plain, key)
    assert cache.get("k", MISS) is MISS
    found = cache.fetch_many(["good", "k", "none"])
    assert (found["none"], found.hits) == (Miss(), {"good": 1})
    failed = found["k"]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, WrongType)
    own_shard = cache.explain("k").shard
    assert str(failed.error) == (
        f"shard '{own_shard}': fetch_many of '{key}': the key holds a {kind}, "
        "which this cache has not put there"
    )
    with cache.pipeline() as pipe:
        pipe.get("k")
    assert (pipe.results, cache.get_many(["k", "good"])) == ([None], {"good": 1})
    assert plain.type(key).decode() == kind
    assert cache.get_or_set("k", lambda: "loaded") == cache.get("k") == "loaded"
    plain.delete(key)
    FOREIGN[kind](plain, key)
    assert cache.get_or_set_many(["k"], lambda keys: dict.fromkeys(keys, "loaded")) == {
        "k": "loaded"
    }
    damaged = [event for event in events if event.kind == "damaged"]
    assert [event.operation for event in damaged] == [
        "get",
        "fetch_many",
        "get",
        "get_or_set",
        "get_or_set_many",
    ]
    assert {(event.shard, type(event.error)) for event in damaged} == {(own_shard, WrongType)}
    assert (cache.stats().damaged, cache.stats().degraded_reads) == (5, 0)


def test_foreign_kinds_raise(make: Any, raw: Any, namespace: str) -> None:
    """Under "raise" the same errors are raised, with method, key and shard, or are outcomes."""
    cache = make(on_unavailable="raise")
    raw(cache, "k").hset(f"{namespace}:k", "a", "b")
    calls: dict[str, Callable[[], Any]] = {
        "get": lambda: cache.get("k"),
        "get_or_set": lambda: cache.get_or_set("k", lambda: 1),
        "get_or_set_many": lambda: cache.get_or_set_many(["k"], lambda keys: {}),
        "incr": lambda: cache.incr("k"),
    }
    for name, call in calls.items():
        with pytest.raises(
            WrongType,
            match=f"shard '{cache.explain('k').shard}': {name} of '{namespace}:k': the key holds",
        ):
            call()
    assert cache.fetch_many(["k"]).failures.keys() == {"k"}


def test_text_does_not_count(cache: Any, namespace: str) -> None:
    """Incr of a text says so, of which key and where, and in no words of a script."""
    cache.set("k", "text")
    with pytest.raises(WrongType) as caught:
        cache.incr("k")
    assert str(caught.value) == (
        f"shard '{cache.explain('k').shard}': incr of '{namespace}:k': the "
        "value is no whole number of 64 bits, "
        "so nothing can be added to it (ERR value is not an integer or out of range)"
    )


@pytest.mark.parametrize("method", ["incr", "decr"])
def test_missing_counter_is_named(cache: Any, namespace: str, method: str) -> None:
    """Counting on an absent key says which method, which key and where; alone and in a pipeline."""
    said = (
        f"shard '{cache.explain('n').shard}': {method} of '{namespace}:n': "
        "the key to count on is not there; give initial=… to start it"
    )
    with pytest.raises(KeyMissing) as caught:
        getattr(cache, method)("n")
    pipe = cache.pipeline()
    getattr(pipe, method)("n")
    with pytest.raises(KeyMissing) as queued:
        pipe.execute()
    assert (str(caught.value), str(queued.value)) == (said, said)


@pytest.mark.parametrize(
    ("command", "kind", "name", "says"),
    [
        (
            ("ZADD", "a", "b"),
            WrongType,
            "ZADD",
            "where a number belongs there is none (ERR value is not a valid float)",
        ),
        (("HGET", "a"), WrongType, "HGET", "the key holds another kind of value"),
        (("OBJECT  encoding", "a"), CommandRefused, "OBJECT ENCODING", "ERR"),
    ],
    ids=["ZADD", "HGET", "OBJECT ENCODING"],
)
def test_refused_command_is_named(
    cache: Any,
    namespace: str,
    command: tuple[str, ...],
    kind: type[Exception],
    name: str,
    says: str,
) -> None:
    """What `command` sent and the server refused is told by its name, key and shard."""
    name_of_key = "q" if name == "ZADD" else "k"
    cache.set("k", "text")
    shard = cache.explain(name_of_key).shard
    begins = f"shard '{shard}': command {name} of '{namespace}:{name_of_key}': {says}"
    with pytest.raises(kind) as caught:
        cache.command(name_of_key, *command)
    pipe = cache.pipeline()
    pipe.command(name_of_key, *command)
    with pytest.raises(kind) as queued:
        pipe.execute()
    assert [str(error)[: len(begins)] for error in (caught.value, queued.value)] == [begins, begins]


def test_damaged_value_is_named(make: Any, raw: Any, namespace: str) -> None:
    """Under "raise" a damaged value is told with method and key."""
    cache = make(on_unavailable="raise")
    raw(cache, "k").set(f"{namespace}:k", b"\xf7\xc1")
    with pytest.raises(ValueError, match=f"get of '{namespace}:k': "):
        cache.get("k")


def test_replica(mortal: LocalShards, make: Any, namespace: str) -> None:
    """A primary that has become a replica is told with key, shard, and what to do."""
    cache = make({"a": mortal.servers[0].url}, on_unavailable="raise")
    assert cache.set("k", 1)
    with redis.Redis.from_url(mortal.servers[0].url) as plain:
        plain.replicaof("127.0.0.1", "1")
    with pytest.raises(ShardUnavailable) as caught:
        cache.set("k", 2)
    assert (
        f"set of '{namespace}:k': is a replica, which takes no writes: give "
        "the address of its primary"
    ) in str(caught.value)
    with pytest.raises(ShardUnavailable, match="set_many of 'k': is a replica"):
        cache.set_many({"k": 2})


def test_full_memory(mortal: LocalShards, make: Any, namespace: str) -> None:
    """A server without memory for writes is told with key and shard."""
    cache = make({"a": mortal.servers[0].url}, on_unavailable="raise")
    with redis.Redis.from_url(mortal.servers[0].url) as plain:
        plain.config_set("maxmemory", "1")
    with pytest.raises(
        OutOfMemory, match=f"shard 'a': set of '{namespace}:k': has no memory left for writes"
    ):
        cache.set("k", 1)


@pytest.fixture(scope="module")
def guarded() -> Any:
    """``127.0.0.1:port`` of a server with a password and a user of one namespace."""
    with LocalShards(
        1, tcp=True, options={"requirepass": "hunter2", "user": "ann on >pass ~mine:* +@all"}
    ) as servers:
        yield servers.urls["shard-1"].removeprefix("redis://").removesuffix("/0")


@pytest.mark.parametrize(
    ("login", "says"),
    [
        ("", "asks for a login, and got none"),
        (":wrong@", "refuses the login"),
        ("ann:wrong@", "refuses the login"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 3])
def test_login(make: Any, guarded: str, login: str, says: str, protocol: int) -> None:
    """A missing or a wrong password is told as such, with the shard."""
    cache = make({"a": f"redis://{login}{guarded}"}, options=Options(protocol=protocol))
    with pytest.raises(AuthenticationFailed, match=f"shard 'a': {says}"):
        cache.get("k")


def test_forbidden_key(make: Any, guarded: str) -> None:
    """What an ACL forbids is told with method, key, and the pattern that is needed."""
    cache = make({"a": f"redis://ann:pass@{guarded}"}, namespace="yours")
    with pytest.raises(AccessDenied) as caught:
        cache.get("k")
    assert "shard 'a': get of 'yours:k': does not let this user do that (NOPERM" in str(
        caught.value
    )
    assert "~yours:*" in str(caught.value)
