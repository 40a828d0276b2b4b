"""The topology of a Redis Cluster: owners by slot, numbers by name, whatever map comes next."""

from hypothesis import given
from hypothesis import strategies as st

from shardcache.topology.cluster_map import ClusterMap, ClusterNode, ClusterShard
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.topology.slots import slot_of
from shardcache.topology.snapshot import NOBODY, Topology
from shardcache.urls import Address

SEEDS = ClusterSeeds((Address("seed", 7000, username="u", password="p", tls=True),))
WIRES = [b"key:%d" % n for n in range(60)] + [b"{a}:1", b"{a}:2", b"{}x", b"a{b"]
NODES = [ClusterNode(f"id{n}", f"h{n}", 6379) for n in range(6)]
REPLICA = ClusterNode("r", "hr", 6379)


def a_map(owners: list[int | None]) -> ClusterMap:
    """Return a map that gives each of the equal parts of the slots to a node, or to nobody."""
    size = 16384 // len(owners)
    ranges: dict[int, list[tuple[int, int]]] = {}
    for part, owner in enumerate(owners):
        if owner is not None:
            last = 16383 if part == len(owners) - 1 else (part + 1) * size - 1
            ranges.setdefault(owner, []).append((part * size, last))
    return ClusterMap.of(
        ClusterShard(NODES[owner], (REPLICA,) if owner == min(ranges) else (), found)
        for owner, found in ranges.items()
    )


maps = st.lists(st.integers(0, 5) | st.none(), min_size=1, max_size=8).map(a_map)


def chain(found: list[ClusterMap]) -> list[Topology]:
    """Return topologies, each of which follows the one before."""
    made: list[Topology] = []
    for one in found:
        made.append(Topology.of_cluster(one, SEEDS, made[-1] if made else None))
    return made


@given(st.lists(maps, min_size=1, max_size=5))
def test_owner_is_the_maps(found) -> None:
    """The number of an owner leads to the primary of the slot, one by one and all at once."""
    for one, topology in zip(found, chain(found), strict=True):
        numbers = topology.owner_indexes(WIRES)
        assert numbers == list(map(topology.owner_index, WIRES))
        for wire, number in zip(WIRES, numbers, strict=True):
            primary = one.primary_of(slot_of(wire))
            if primary is None:
                assert number == NOBODY
                assert topology.placement.owners(wire, 3) == ()
            else:
                name = f"{primary.host}:{primary.port}"
                assert topology.names[number] == name
                assert topology.placement.owners(wire, 1) == (name,)


@given(st.lists(maps, min_size=1, max_size=5))
def test_number_belongs_to_a_name(found) -> None:
    """A number never means another name, in no later topology; replicas have numbers too."""
    meant: dict[int, str] = {}
    for one, topology in zip(found, chain(found), strict=True):
        for number, name in enumerate(topology.names):
            assert meant.setdefault(number, name) == name
        assert set(topology.number_of) == {f"{node.host}:{node.port}" for node in one.primaries}
        assert {f"{node.host}:{node.port}" for node in one.nodes} <= set(topology.names)


def test_members_have_the_login_of_the_seeds() -> None:
    """A node that was announced is reached as the seeds are, and must be a cluster's member."""
    topology = Topology.of_cluster(a_map([0, 1]), SEEDS)
    for member in topology.known:
        assert (member.address.username, member.address.password) == ("u", "p")
        assert member.address.tls
        assert member.kind == "cluster"
        assert member.node.url == f"rediss://{member.node.name}"


def test_node_that_no_map_has() -> None:
    """A node of a redirect gets the next number, and serves no key; its map keeps that number."""
    topology = Topology.of_cluster(a_map([0, 1]), SEEDS)
    known = topology.knowing(SEEDS.member("h5", 6379))
    assert known.names == (*topology.names, "h5:6379")
    assert known.numbers == topology.numbers
    assert known.version == topology.version + 1
    later = Topology.of_cluster(a_map([0, 5]), SEEDS, known)
    assert later.number_of["h5:6379"] == known.names.index("h5:6379")
