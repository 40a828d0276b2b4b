"""A topology without nodes: one shard for all keys, until there are nodes."""

from hypothesis import given
from hypothesis import strategies as st

from shardcache.topology.nodes import members
from shardcache.topology.slots import slot_of
from shardcache.topology.snapshot import Topology
from shardcache.topology.unknown import UNKNOWN, unknown_topology

NODES = members({"a": "redis://h1", "b": "redis://h2"})


@given(st.lists(st.binary(min_size=1), min_size=1))
def test_one_shard_for_all_keys(wires) -> None:
    """Every key has the shard of the source, by whatever way it is asked."""
    topology = unknown_topology("source").now
    assert topology.owner_indexes(wires) == [UNKNOWN] * len(wires)
    assert {topology.owner_index(wire) for wire in wires} == {UNKNOWN}
    assert (topology.number_of, topology.names[UNKNOWN]) == ({"source": UNKNOWN}, "source")
    assert topology.known[UNKNOWN].node.name == "source"


@given(st.lists(st.binary(min_size=1), min_size=1))
def test_what_was_given_to_a_flow_follows(wires) -> None:
    """Once there are nodes, the topology that a flow was given names their shards."""
    current = unknown_topology("source")
    unknown = current.now
    current.swap(lambda former: Topology.of(NODES, "ring", former))
    assert unknown.owner_indexes(wires) == current.now.owner_indexes(wires)
    assert [unknown.owner_index(wire) for wire in wires] == current.now.owner_indexes(wires)


@given(st.lists(st.binary(min_size=1), min_size=1))
def test_keys_of_a_cluster_have_slots(wires) -> None:
    """Slots need no nodes, so a first call has the commands of any other; their shard refuses."""
    topology = unknown_topology("source", cluster=True).now
    slots = topology.slots_of(wires)
    assert slots == list(map(slot_of, wires))
    assert topology.shards_of(slots) == [UNKNOWN] * len(wires)
    assert unknown_topology("source").now.slots_of(wires) is None


def test_first_nodes_are_the_first_version() -> None:
    """The first nodes get the first numbers, with nothing left of the unknown one."""
    current = unknown_topology("source")
    former, new = current.swap(lambda former: Topology.of(NODES, "ring", former))
    assert former.version == UNKNOWN
    assert (new.version, sorted(new.numbers), set(new.names)) == (0, [0, 1], {"a", "b"})
    assert new.owner_index == new.placement.owner_index  # no look-up pays for what was before
    _, later = current.swap(lambda former: Topology.of(NODES[:1], "ring", former))
    assert later.version == 1
