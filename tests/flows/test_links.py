"""When a command that goes on elsewhere has the nodes asked for again."""

from collections.abc import Callable, Hashable

import pytest

from shardcache.flows.cluster_links import ClusterLinks
from shardcache.topology.cluster_map import ClusterMap, ClusterNode, ClusterShard
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.topology.current import CurrentTopology
from shardcache.topology.replica_numbers import replica_number
from shardcache.topology.snapshot import Topology
from shardcache.urls import parse_many

SEEDS = ClusterSeeds.of(parse_many("redis+cluster://127.0.0.1:1"))
ONE, TWO, THREE = (ClusterNode(f"n{port}", "127.0.0.1", port) for port in (1, 2, 3))
WIRE = b"k"


def map_of(owner: ClusterNode, other: ClusterNode, replica: ClusterNode) -> ClusterMap:
    """Return a map in which one node, with a replica, serves all slots and another one none."""
    shards = (ClusterShard(owner, (replica,), ((0, 16383),)), ClusterShard(other))
    return ClusterMap.of(shards)


class Watched:
    """Links whose polls are counted."""

    def __init__(self) -> None:
        self.current = CurrentTopology(Topology.of_cluster(map_of(ONE, TWO, THREE), SEEDS))
        self.links = ClusterLinks(self.current, SEEDS, None)
        self.open: dict[Hashable, Callable[[], bool]] = {}
        self.refreshes = 0
        self.links.refresh_unless = self.open.__setitem__
        self.links.refresh = self._refresh

    def _refresh(self) -> None:
        self.refreshes += 1

    def put(self, found: ClusterMap) -> None:
        self.current.swap(lambda former: Topology.of_cluster(found, SEEDS, former))


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_moved(watched: Watched) -> None:
    """A poll is asked for until the map in service says the same."""
    two = watched.current.now.names.index("127.0.0.1:2")
    watched.links.moved(WIRE, two)
    [settled] = watched.open.values()
    assert not settled()
    watched.put(map_of(TWO, ONE, THREE))
    assert settled()
    watched.open.clear()
    watched.links.moved(WIRE, two)
    assert watched.open == {}


def test_replica_that_fails(watched: Watched) -> None:
    """One that the newest map has no more for the key is not asked about."""
    [replica] = watched.current.now.replicas[watched.links.owner_of(WIRE)]
    assert replica == replica_number(watched.current.now.names.index("127.0.0.1:3"))
    watched.links.failed_at(replica, WIRE)
    assert watched.refreshes == 1
    watched.put(map_of(ONE, THREE, TWO))
    watched.links.failed_at(replica, WIRE)
    assert watched.refreshes == 1
