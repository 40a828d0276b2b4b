"""Reads from the replicas of masters behind Sentinels, and replicas that cannot answer."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import pytest

from shardcache import deadline
from shardcache.embedded import LocalSentinels, LocalServer
from tests.replica_reads import FROM_PRIMARY, FROM_REPLICA, ask, locked, pipelined, reads_of
from tests.waiting import until

KEYS = [f"k{number}" for number in range(30)]
# On a busy machine Sentinels hold a server for down at times, which a client need not learn of; and
# tests of servers that are down want it to learn of them soon.
REPLICA, NEAREST = ({"read_from": how, "discovery_interval": 30} for how in ("replica", "nearest"))
OFTEN = {"discovery_interval": 0.2}


def label(server: LocalServer) -> str:
    """Return what a client calls a replica."""
    return f"127.0.0.1:{server.port}/0"


class Reader(NamedTuple):
    """A client that reads from replicas; a key of the master ``a`` that its replica has."""

    cache: Any
    key: str
    primary: LocalServer
    replica: LocalServer


def reader_of(
    servers: LocalSentinels, client: Callable[..., Any], options: Any = REPLICA, **settings: Any
) -> Reader:
    settings = {"on_unavailable": "raise", **settings}
    cache = client(servers.url, options=options, **settings)
    primary = servers.master("a")
    [replica] = servers.replicas("a")
    # The Sentinels have seen the replicas.
    until(lambda: cache.contains("k") or len(cache.explain("k").replicas) == 1)
    key = next(key for key in KEYS if cache.explain(key).shard == "a")
    assert cache.set(key, 1) is True
    until(lambda: cache.get(key) == 1)
    with cache.lock("first", ttl=20):  # voters are verified once
        pass
    for server in (*servers.members["a"], *servers.members["b"], *servers.members["c"]):
        ask(server, "CONFIG", "RESETSTAT")
    return Reader(cache, key, primary, replica)


@pytest.fixture
def reader(watched: LocalSentinels, client: Callable[..., Any]) -> Reader:
    """No server has carried out a command since."""
    return reader_of(watched, client)


@pytest.mark.parametrize("limit", [nullcontext, partial(deadline, 3600)], ids=["", "deadline"])
@pytest.mark.parametrize("name", FROM_REPLICA)
def test_asked_of_the_replica(reader: Reader, name: str, limit: Any) -> None:
    """The master gets nothing of it, within a caller's `deadline` either."""
    with limit():
        assert FROM_REPLICA[name](reader.cache, reader.key) == 1
    assert (reads_of(reader.primary), reads_of(reader.replica)) == (0, 1)


@pytest.mark.parametrize("run", [*FROM_PRIMARY.values()], ids=[*FROM_PRIMARY])
def test_asked_of_the_primary(watched: LocalSentinels, reader: Reader, run: Any) -> None:
    """No replica gets anything of it but the stream of its master."""
    run(reader.cache, reader.key)
    assert [reads_of(watched.replicas(name)[0]) for name in "abc"] == [0, 0, 0]


@pytest.mark.parametrize("run", [pipelined, locked])
@pytest.mark.parametrize("colour", ["sync"], indirect=True)
def test_blocks_are_asked_of_the_primary(watched: LocalSentinels, reader: Reader, run: Any) -> None:
    """Neither do a pipeline and a lock ask a replica."""
    run(reader.cache, reader.key)
    assert [reads_of(watched.replicas(name)[0]) for name in "abc"] == [0, 0, 0]


def test_explained(reader: Reader) -> None:
    """The client says which replicas there are, and counts what it asked them."""
    found = reader.cache.explain(reader.key)
    assert found.replicas == (label(reader.replica),)
    assert found.slot is None
    assert f"replicas: {label(reader.replica)}; read from: replica" in str(found)
    reader.cache.get(reader.key)
    assert label(reader.replica) in reader.cache.stats().shards


@pytest.mark.parametrize("colour", ["async"], indirect=True)
def test_counted_while_it_comes_back(reader: Reader) -> None:
    """A replica that the topology has again, and no loop yet, is left out."""
    assert reader.cache.get(reader.key) == 1
    for found in reader.cache._driver._loops.every():
        for shard in found.shards.values():
            shard.in_service = False
    assert set(reader.cache.stats().shards) == {"a", "b", "c"}


def test_tags_are_asked_of_the_primary(reader: Reader) -> None:
    """A value of a replica is a miss as soon as its tag is invalidated at the master."""
    cache, key, *_ = reader
    assert cache.set(key, 2, tags=["t"]) is True
    until(lambda: cache.get(key) == 2)
    assert cache.invalidate_tags(["t"]) == 1
    assert cache.get(key) is None
    assert cache.get_many([key]) == {}


def test_nearest(watched: LocalSentinels, client: Callable[..., Any]) -> None:
    """Master and replica are both measured, and all answers are right."""
    cache, key, _, replica = reader_of(watched, client, NEAREST)
    until(lambda: all(cache.get(key) == 1 for _ in range(10)))
    assert {"a", label(replica)} <= set(cache.stats().shards)
    assert cache.get_many([key]) == {key: 1}


def test_replica_that_refuses(reader: Reader) -> None:
    """What a replica refuses, the master answers, before the replica is out and after that."""
    cache, key, primary, replica = reader
    # The Sentinels need no reads, and go on holding it for well.
    ask(replica, "ACL", "SETUSER", "default", "-@read")
    try:
        assert [cache.get(key) for _ in range(5)] == [1] * 5
        assert cache.get_many([key]) == {key: 1}
        assert cache.fetch_many([key]).hits == {key: 1}
    finally:
        ask(replica, "ACL", "SETUSER", "default", "+@all")
    assert reads_of(primary) == 7


@pytest.mark.long
@pytest.mark.parametrize("name", ["get", "get_many"])
def test_hung_replica(watched: LocalSentinels, client: Callable[..., Any], name: str) -> None:
    """Each read ends in time by the master, and further ones do not ask the replica."""
    cache, key, _, replica = reader_of(watched, client, REPLICA | OFTEN, timeout=4.0)

    def read() -> bool:
        if name == "get":
            return cache.get(key) == 1
        return cache.get_many([key]) == {key: 1}

    def is_in() -> bool:
        shard = cache.stats().shards.get(label(replica))
        return shard is not None and shard.state == "closed"

    assert read()
    replica.pause()
    try:
        until(lambda: read() and not is_in())  # a pause of this process may excuse the first
        assert all(read() for _ in range(20))
    finally:
        replica.resume()
    until(lambda: read() and is_in())


@pytest.mark.long
@pytest.mark.parametrize("options", [REPLICA, NEAREST], ids=["replica", "nearest"])
def test_failover(
    mortal: LocalSentinels, client: Callable[..., Any], options: dict[str, str]
) -> None:
    """The promoted replica is the master from then on, and no replica any more."""
    settings = {"timeout": 4.0, "on_unavailable": "degrade"}
    cache, key, primary, replica = reader_of(mortal, client, options | OFTEN, **settings)
    primary.kill()
    until(lambda: cache.get(key) == 1)  # of the replica, or of the same as the master
    until(lambda: _address(cache, key) == label(replica))
    assert label(replica) not in cache.explain(key).replicas
    until(lambda: cache.set(key, 2) is True)
    until(lambda: cache.get(key) == 2)


def _address(cache: Any, key: str) -> str:
    cache.get(key)
    return cache.explain(key).address.partition("//")[2]
