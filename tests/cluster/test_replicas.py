"""Reads from replicas: which operation goes to which server, and replicas that cannot answer."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import pytest

from shardcache import Miss, Options, ShardCache, deadline, errors
from shardcache.embedded import LocalCluster, LocalServer
from tests.programs import is_before_7
from tests.replica_reads import FROM_PRIMARY, FROM_REPLICA, ask, locked, pipelined, reads_of
from tests.waiting import until

KEYS = [f"k{number}" for number in range(60)]
REPLICA, NEAREST = Options(read_from="replica"), Options(read_from="nearest")


@pytest.fixture(scope="module")
def cluster(program) -> Iterator[LocalCluster]:
    """Three masters with a replica each; tests leave them as they are."""
    with LocalCluster(3, replicas=1, binary=program) as cluster:
        settle(cluster, program)
        yield cluster


def settle(cluster: LocalCluster, program: str) -> None:
    """Wait until all say of all replicas that they are well: until a write has come to them."""
    with ShardCache(cluster.url, timeout=20) as cache:
        assert cache.set_many(dict.fromkeys(KEYS, 0)) == []
    if is_before_7(program):  # it calls no replica loading
        return
    until(
        lambda: all("loading" not in str(ask(one, "CLUSTER", "SHARDS")) for one in cluster.servers)
    )


class Pair(NamedTuple):
    """The servers of a key."""

    primary: LocalServer
    replica: LocalServer


def servers_of(cluster: LocalCluster, cache: Any, key: str) -> Pair:
    """Return the primary of a key and its replica."""

    def replicas() -> Any:
        cache.contains(key)
        if not cache.explain(key).replicas:  # a busy server may look dead for a moment
            cache._discovery.refresh()
        return cache.explain(key).replicas

    until(replicas)
    found = cache.explain(key)
    by_port = {str(server.port): server for server in cluster.servers}
    return Pair(*(by_port[name.rpartition(":")[2]] for name in (found.shard, *found.replicas)))


class Reader(NamedTuple):
    """A client that reads from replicas, and a key with its servers."""

    cache: Any
    key: str
    servers: Pair


@pytest.fixture
def reader(cluster, make) -> Reader:
    """A key that its replica has; no server has carried out a command since."""
    cache = make(on_unavailable="raise", options=REPLICA)
    key = "k"
    assert cache.set(key, 1) is True
    until(lambda: cache.get(key) == 1)
    servers = servers_of(cluster, cache, key)
    with cache.lock("first", ttl=20):  # voters are verified once
        pass
    for server in cluster.servers:
        ask(server, "CONFIG", "RESETSTAT")
    return Reader(cache, key, servers)


@pytest.mark.parametrize("limit", [nullcontext, partial(deadline, 3600)], ids=["", "deadline"])
@pytest.mark.parametrize("name", FROM_REPLICA)
def test_asked_of_the_replica(reader, name, limit) -> None:
    """The primary gets nothing of it, within a caller's `deadline` either."""
    cache, key, servers = reader
    with limit():
        assert FROM_REPLICA[name](cache, key) == 1
    assert (reads_of(servers.primary), reads_of(servers.replica)) == (0, 1)


@pytest.mark.parametrize("run", [*FROM_PRIMARY.values()], ids=[*FROM_PRIMARY])
def test_asked_of_the_primary(cluster, reader, run) -> None:
    """No replica gets anything of it but the stream of its primary."""
    run(reader.cache, reader.key)
    assert [reads_of(replica) for replica in cluster.replicas] == [0, 0, 0]


@pytest.mark.parametrize("run", [pipelined, locked])
def test_blocks_are_asked_of_the_primary(cluster, make, namespace, run) -> None:
    """Neither do a pipeline and a lock ask a replica."""
    with ShardCache(cluster.url, namespace=namespace, timeout=20, options=REPLICA) as cache:
        cache.set("k", 1)
        until(lambda: cache.get("k") == 1)
        for server in cluster.servers:
            ask(server, "CONFIG", "RESETSTAT")
        run(cache, "k")
        assert [reads_of(replica) for replica in cluster.replicas] == [0, 0, 0]
        assert sum(map(reads_of, cluster.masters)) > 0


def test_tags_are_asked_of_the_primary(cluster, reader) -> None:
    """A value of a replica is a miss as soon as its tag is invalidated at the primary."""
    cache, key, _ = reader
    assert cache.set(key, 2, tags=["t"]) is True
    until(lambda: cache.get(key) == 2)
    for server in cluster.servers:
        ask(server, "CONFIG", "RESETSTAT")
    assert cache.get(key) == 2
    assert cache.get_many([key]) == {key: 2}
    assert sum(map(reads_of, cluster.replicas)) == 2  # the value
    assert sum(map(reads_of, cluster.masters)) == 2  # its tag
    assert cache.invalidate_tags(["t"]) == 1
    assert cache.get(key) is None
    assert cache.get_many([key]) == {}


def test_nearest(cluster, make) -> None:
    """Every server is measured, with single reads and with many, and all answers are right."""
    cache = make(on_unavailable="raise", options=NEAREST)
    assert cache.set_many(dict.fromkeys(KEYS, 1)) == []
    until(lambda: all(cache.get(key) == 1 for key in KEYS * 2))
    for server in cluster.servers:
        ask(server, "CONFIG", "RESETSTAT")
    until(lambda: len(cache.get_many(KEYS)) == len(KEYS))
    assert [cache.get(key) for key in KEYS] == [1] * len(KEYS)
    assert sum(map(reads_of, cluster.servers)) >= 2 * len(KEYS)
    assert set(cache.stats().shards) == {f"127.0.0.1:{server.port}" for server in cluster.servers}


def test_another_programs_value(reader) -> None:
    """A replica tells a list from a value, as the primary does."""
    cache, _, servers = reader
    cache.command("{k}l", "RPUSH", "x")
    until(lambda: cache.contains("{k}l"))
    [failed] = cache.fetch_many(["{k}l"]).values()
    assert isinstance(failed.error, errors.WrongType)
    assert cache.fetch_many(["{k}none"])["{k}none"] == Miss()
    assert cache.get_many(["{k}l"]) == {}
    assert reads_of(servers.primary) == 0


def test_migrating_slot(cluster, program, reader) -> None:
    """A replica of Valkey says where a key went, and stays in service; one of Redis has a miss."""
    cache, key, servers = reader
    slot = cache.explain(key).slot
    target = next(one for one in cluster.masters if one is not servers.primary)
    tells = "server_name" in ask(servers.primary, "INFO", "server")  # Valkey
    steps = cluster.slot_migration(slot, target)
    try:
        while next(steps).name != "keys":
            pass
        until(lambda: ask(servers.replica, "DBSIZE") == ask(servers.primary, "DBSIZE"))
        for _ in range(5):
            assert cache.get(key) == (1 if tells else None)
            assert cache.get_many([key]) == ({key: 1} if tells else {})
        shard = cache.stats().shards[f"127.0.0.1:{servers.replica.port}"]
        assert (shard.state, shard.failures) == ("closed", 0)
    finally:
        for _ in steps:
            pass
        cluster.migrate_slot(slot, servers.primary)


@pytest.mark.long
def test_stale_map(program, make, events) -> None:
    """A replica that has another primary by now sends its readers away, and none gets an error."""
    with LocalCluster(2, replicas=1, binary=program) as own:
        settle(own, program)
        options = Options(read_from="replica", discovery_interval=3600, on_event=events.append)
        cache = make(own.url, on_unavailable="raise", options=options)
        assert cache.set("k", 1) is True
        until(lambda: cache.get("k") == 1)
        servers = servers_of(own, cache, "k")
        other = next(one for one in own.masters if one is not servers.primary)
        ask(servers.replica, "CLUSTER", "REPLICATE", ask(other, "CLUSTER", "MYID"))
        before = reads_of(servers.primary)
        assert [cache.get("k") for _ in range(20)] == [1] * 20
        assert reads_of(servers.primary) > before
        assert "; read from: replica" in str(cache.explain("k"))
        shard = cache.stats().shards.get(f"127.0.0.1:{servers.replica.port}")
        assert shard is None or shard.failures > 0  # None: the newest map has it loading
        assert cache.get_many(["k"]) == {"k": 1}


@pytest.mark.long
def test_primary_out_of_reach(reader) -> None:
    """A replica serves what it has; if it is not to serve old data, the primary is asked."""
    cache, key, servers = reader

    def status(_: object = None) -> str:
        return str(ask(servers.replica, "INFO", "replication")["master_link_status"])

    ask(servers.replica, "CONFIG", "SET", "masterauth", "wrong")
    try:
        ask(servers.replica, "CLIENT", "KILL", "TYPE", "master")
        until(lambda: status() == "down")
        assert cache.set(key, 2) is True
        assert cache.get(key) == 1  # without any bound
        assert cache.get_or_set(key, 3) == 2
        ask(servers.replica, "CONFIG", "SET", "replica-serve-stale-data", "no")
        assert [cache.get(key) for _ in range(10)] == [2] * 10
        assert cache.get_many([key]) == {key: 2}
        assert cache.stats().shards[f"127.0.0.1:{servers.replica.port}"].failures >= 3
    finally:
        ask(servers.replica, "CONFIG", "SET", "replica-serve-stale-data", "yes")
        ask(servers.replica, "CONFIG", "SET", "masterauth", "")
    until(lambda: status() == "up")
    until(lambda: reads_after(cache, key, servers.replica))
    assert cache.get(key) == 2


def reads_after(cache: Any, key: str, server: LocalServer) -> bool:
    """Read, and return whether this server was asked."""
    before = reads_of(server)
    cache.get(key)
    return reads_of(server) > before


@pytest.mark.long
@pytest.mark.parametrize("name", ["get", "get_many"])
def test_hung_replica(cluster, make, name) -> None:
    """Each read ends in time by the primary, and further ones do not ask the replica."""
    cache = make(on_unavailable="raise", timeout=4, options=REPLICA)
    assert cache.set_many(dict.fromkeys(KEYS, 1)) == []
    until(lambda: all(cache.get(key) == 1 for key in KEYS))
    hung = servers_of(cluster, cache, KEYS[0]).replica

    def found() -> tuple[str, int]:
        # The cluster may have noticed by itself, and takes it off the map.
        shard = cache.stats().shards.get(f"127.0.0.1:{hung.port}")
        return ("off the map", 0) if shard is None else (shard.state, shard.timeouts)

    def read() -> bool:
        if name == "get":
            return cache.get(KEYS[0]) == 1
        return cache.get_many(KEYS) == dict.fromkeys(KEYS, 1)

    hung.pause()
    try:
        assert read()
        # A pause of this process may excuse the first.
        until(lambda: read() and found()[0] != "closed")
        timeouts = found()[1]
        assert all(read() for _ in range(20))
        assert found() in {("open", timeouts), ("off the map", 0)}
    finally:
        hung.resume()
    until(lambda: read() and found()[0] == "closed")


@pytest.mark.long
def test_hung_replica_and_a_deadline(cluster, make) -> None:
    """Of the time of a block a hung replica takes a part, and the primary has the rest."""
    cache = make(on_unavailable="raise", timeout=60, options=REPLICA)
    assert cache.set_many(dict.fromkeys(KEYS, 1)) == []
    until(lambda: all(cache.get(key) == 1 for key in KEYS))
    hung = servers_of(cluster, cache, KEYS[0]).replica
    hung.pause()
    try:
        with deadline(4):
            assert cache.get(KEYS[0]) == 1
        with deadline(4):
            assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 1)
        shard = cache.stats().shards.get(f"127.0.0.1:{hung.port}")  # None: off the map by now
        assert shard is None or shard.state == "closed"
    finally:
        hung.resume()


@pytest.mark.long
@pytest.mark.parametrize("options", [REPLICA, NEAREST], ids=["replica", "nearest"])
def test_failover(program, make, options) -> None:
    """While a master is dead its keys are read all the same, and written after the failover."""
    settings = {"cluster-node-timeout": "500"}
    with LocalCluster(3, replicas=1, binary=program, options=settings) as cluster:
        settle(cluster, program)
        cache = make(cluster.url, timeout=4, options=options)
        assert cache.set_many(dict.fromkeys(KEYS, 1)) == []
        until(lambda: all(cache.get(key) == 1 for key in KEYS * 3))
        primary, replica = servers_of(cluster, cache, KEYS[0])
        primary.kill()
        until(lambda: cache.get(KEYS[0]) == 1)
        cache.set(KEYS[0], 2)  # a write notices that the master is dead
        until(lambda: cache.explain(KEYS[0]).shard == f"127.0.0.1:{replica.port}")
        assert cache.explain(KEYS[0]).replicas in ((), (f"127.0.0.1:{primary.port}",))
        until(lambda: cache.set_many(dict.fromkeys(KEYS, 2)) == [])
        until(lambda: cache.get_many(KEYS) == dict.fromkeys(KEYS, 2))
        assert cache.get(KEYS[0]) == 2


@pytest.mark.parametrize("how", ["replica", "nearest"])
def test_other_deployments(colour, how) -> None:
    """Nodes whose replicas nobody names are refused by name, before anything is sent."""
    told = f"read_from='{how}' is for a Redis Cluster"
    with pytest.raises(errors.InvalidOption, match=told):
        colour("redis://127.0.0.1:1", options=Options(read_from=how))
    with pytest.raises(errors.InvalidOption, match=told):
        colour.from_url(f"redis://127.0.0.1:1?read_from={how}")
    with pytest.raises(errors.InvalidOption, match="read_from must be 'primary', 'replica' or"):
        colour.from_url("redis+cluster://127.0.0.1:1?read_from=slave")
