"""The map of real clusters, of Redis 7 and of Valkey: as they are, and while they change."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
import redis

from shardcache import Options
from shardcache.drivers.cluster_source import ClusterSource
from shardcache.embedded import LocalCluster, LocalShards
from shardcache.embedded.server import LocalServer
from shardcache.errors import DiscoveryFailed
from shardcache.topology.cluster_map import ClusterMap
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.topology.slot_tags import tag_of
from shardcache.topology.slots import slot_of
from shardcache.url_options import read_url
from tests.waiting import until

LONG = 20.0  # seconds: longer than anything takes
protocols = pytest.mark.parametrize("protocol", [3, 2])


@pytest.fixture(scope="module")
def calm(program) -> Iterator[LocalCluster]:
    """Three masters with a replica each that no test disturbs for long."""
    with LocalCluster(3, replicas=1, binary=program) as cluster:
        yield cluster


def source_of(*seeds: LocalServer | str, timeout: float = LONG, **options: Any) -> ClusterSource:
    hosts = ",".join(one if isinstance(one, str) else f"127.0.0.1:{one.port}" for one in seeds)
    return ClusterSource(
        ClusterSeeds.of(read_url(f"redis+cluster://{hosts}").urls),
        Options(**options),
        timeout=timeout,
        clock=time.monotonic,
    )


def until_map(
    source: Callable[[], ClusterMap], condition: Callable[[ClusterMap], Any]
) -> ClusterMap:
    """Poll until a map is as it should be; return it."""

    def poll() -> ClusterMap | None:
        with suppress(DiscoveryFailed):  # all are busy with a change
            found = source()
            return found if condition(found) else None
        return None

    return until(poll)


def ask(server: LocalServer, *command: Any) -> Any:
    with closing(redis.Redis(port=server.port)) as plain:
        return plain.execute_command(*command)


def check(found: ClusterMap, cluster: LocalCluster) -> None:
    """See that the map is that of the cluster."""
    masters = {server.port: server for server in cluster.masters}
    assert {node.port for node in found.primaries} == set(masters)
    for node, replicas, ranges in zip(found.primaries, found.replicas, found.ranges, strict=True):
        master = masters[node.port]
        assert ranges == cluster.slots(master)
        assert {one.port for one in replicas} == {one.port for one in cluster.replicas_of(master)}
        assert {one.host for one in (node, *replicas)} == {"127.0.0.1"}
    assert (found.unserved, found.idle) == ((), ())


@protocols
def test_any_member_tells_all(calm, protocol) -> None:
    """Each member tells the same map, replicas too, and it is that of the cluster."""
    # A replica is "loading" until it has been sent something, and all have heard of that.
    for ranges in source_of(calm.servers[0])().ranges:
        ask(calm.owner(ranges[0][0]), "SET", b"{%b}" % tag_of(ranges[0][0]), 1)

    def agreed() -> list[ClusterMap] | None:
        maps = [source_of(server, protocol=protocol)() for server in calm.servers]
        health = {node.health for found in maps for node in found.nodes}
        return maps if health == {"online"} and all(found == maps[0] for found in maps) else None

    maps = until(agreed)
    for found in maps:
        check(found, calm)
    assert {found.epoch for found in maps} == {maps[0].epoch}
    assert maps[0].epoch > 0
    assert all(
        found.lag(index, replica) is not None
        for found in maps
        for index, replicas in enumerate(found.replicas)
        for replica in replicas
    )


def test_keys_lie_where_the_map_says(calm) -> None:
    """The primary of a key's slot serves it without a redirect."""
    found = source_of(calm.servers[0])()
    for number in range(50):
        key = b"key-%d" % number
        node = found.primaries[found.owner_index(key)]
        with closing(redis.Redis(port=node.port)) as plain:
            assert plain.set(key, 1)


def test_seeds_that_are_not_there(calm) -> None:
    """Seeds that are dead do not keep the others from telling all."""
    dead = [f"127.0.0.1:{port}" for port in (1, 2)]
    check(source_of(*dead, calm.servers[-1])(), calm)


@pytest.mark.parametrize(
    ("kind", "host"), [("hostname", "127.0.0.1"), ("unknown-endpoint", "localhost")]
)
def test_endpoints(calm, kind, host) -> None:
    """Without a host name ("?") a node has its IP; without an endpoint, the host that was asked."""
    first = calm.servers[0]
    ask(first, "CONFIG", "SET", "cluster-preferred-endpoint-type", kind)
    try:
        found = source_of(f"localhost:{first.port}")()
    finally:
        ask(first, "CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")
    assert {node.host for node in found.nodes} == {host}
    assert {node.port for node in found.nodes} == {server.port for server in calm.servers}


def test_host_names(program) -> None:
    """Nodes that announce host names are at these, and their IPs lead to them too."""
    options = {
        "cluster-announce-hostname": "localhost",
        "cluster-preferred-endpoint-type": "hostname",
    }
    with LocalCluster(2, options=options, binary=program) as cluster:
        # It takes a moment until all have heard the names of all.
        found = until_map(
            source_of(cluster.servers[0]),
            lambda found: {node.host for node in found.nodes} == {"localhost"},
        )
        node = found.primaries[0]
        assert found.node_at("127.0.0.1", node.port) is node


def test_port_forwards(calm) -> None:
    """An address map decides where every member is reached."""
    forwards = {("127.0.0.1", server.port): ("localhost", server.port) for server in calm.servers}
    source = source_of(calm.servers[0], address_map=forwards)
    assert [{node.host for node in source().nodes} for _ in range(2)] == [{"localhost"}] * 2


@protocols
def test_cluster_with_one_node(program, protocol) -> None:
    """A cluster of one node, which knows no address of its own, is at the one that was asked."""
    with LocalCluster(1, binary=program) as cluster:
        source = source_of(f"localhost:{cluster.servers[0].port}", protocol=protocol)
        found = source()
        [node] = found.primaries
        assert node.port == cluster.servers[0].port
        assert (found.unserved, found.ranges, source()) == ((), (((0, 16383),),), found)


@protocols
def test_independent_server(program, protocol) -> None:
    """A server that is not in cluster mode is refused, and told what it is."""
    with LocalShards(1, tcp=True, binary=program) as servers:
        source = source_of(servers.urls["shard-1"].removeprefix("redis://").removesuffix("/0"))
        with pytest.raises(DiscoveryFailed, match="independent server and no member"):
            source()


def test_password(program) -> None:
    """Members are asked with the login of the seeds."""
    with LocalCluster(2, password="se/cret", binary=program) as cluster:
        seeds = ClusterSeeds.of(read_url(cluster.url).urls)
        source = ClusterSource(seeds, Options(), timeout=LONG, clock=time.monotonic)
        check(source(), cluster)
        check(source(), cluster)


def test_changes(program) -> None:
    """A slot that moves, slots that nobody serves: each is seen."""
    # No node may count as failed because the machine is busy.
    options = {"cluster-node-timeout": "20000", "cluster-require-full-coverage": "no"}
    with LocalCluster(3, options=options, binary=program) as cluster:
        source = source_of(cluster.servers[0], timeout=2.0)
        found = source()
        check(found, cluster)
        _move_a_slot(cluster, source, found)
        _unserved_slots(cluster, source)


def _move_a_slot(cluster: LocalCluster, source: ClusterSource, found: ClusterMap) -> None:
    slot = slot_of(b"x")
    owner = found.primary_of(slot)
    assert owner is not None
    new = next(server for server in cluster.masters if server.port != owner.port)
    cluster.migrate_slot(slot, new)
    moved = until_map(source, lambda found: found.primary_of(slot).port == new.port)
    assert moved != found
    assert moved.unserved == ()


def _unserved_slots(cluster: LocalCluster, source: ClusterSource) -> None:
    for server in cluster.servers:
        ask(server, "CLUSTER", "DELSLOTS", 0, 1, 2)
    gone = until_map(source, lambda found: found.unserved)
    assert gone.unserved == ((0, 2),)
    ask(cluster.masters[0], "CLUSTER", "ADDSLOTS", 0, 1, 2)
    until_map(source, lambda found: not found.unserved)


@pytest.mark.long
def test_failover(program) -> None:
    """A master that hangs: its replica takes its place, and it comes back as the replica."""
    options = {"cluster-node-timeout": "1000"}
    with LocalCluster(3, replicas=1, options=options, binary=program) as cluster:
        source = source_of(cluster.servers[0], timeout=2.0)
        master = cluster.masters[1]
        [replica] = cluster.replicas_of(master)
        slot = cluster.slots(master)[0][0]
        master.pause()
        until_map(source, lambda found: found.primary_of(slot).port == replica.port)
        master.resume()
        found = until_map(
            source,
            lambda found: master.port in {node.port for node in found.replicas_of(slot)},
        )
        assert found.primary_of(slot).port == replica.port
