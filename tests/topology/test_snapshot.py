"""Topologies: numbers of shards stay with the names of nodes, whatever nodes come and go."""

from hypothesis import given
from hypothesis import strategies as st

from shardcache import HashRing
from shardcache.topology.nodes import Member, members
from shardcache.topology.replica_numbers import replica_number
from shardcache.topology.snapshot import Topology
from shardcache.urls import Address

NAMES = "abcdefg"
WIRES = [b"key:%d" % n for n in range(40)]

node_sets = st.lists(st.sets(st.sampled_from(NAMES), min_size=1), min_size=1, max_size=8)


def of(names, port: int = 6379) -> list[Member]:
    return members({name: f"redis://h-{name}:{port}" for name in names})


def small(nodes) -> HashRing:
    """Return a ring that is quick to build."""
    return HashRing(nodes, vnodes=16)


def chain(sets) -> list[Topology]:
    """Return topologies, each of which follows the one before."""
    made: list[Topology] = []
    for names in sets:
        made.append(Topology.of(of(sorted(names)), small, made[-1] if made else None))
    return made


def test_replicas_have_numbers_of_their_own() -> None:
    """Nodes keep theirs whatever replicas come and go; the same replica keeps its own."""

    def having(*ports: int) -> list[Member]:
        replicas = tuple(Address("r", port) for port in ports)
        first, *rest = of("ab")
        return [first._replace(replicas=replicas), *rest]

    one = Topology.of(having(1, 2), small)
    two = Topology.of(having(2), small, one)
    assert one.numbers == two.numbers == (0, 1)
    assert one.replicas == {0: (replica_number(2), replica_number(3))}
    assert two.replicas == {0: (replica_number(3),)}
    assert one.names == two.names == ("a", "b", "r:1/0", "r:2/0")
    assert two.has(having(2))
    assert not two.has(having())
    assert Topology.of(having(), small, two).replicas == {}


@given(node_sets)
def test_number_belongs_to_a_name(sets) -> None:
    """A number never means another name, in no later topology."""
    meant: dict[int, str] = {}
    for topology in chain(sets):
        for number, name in enumerate(topology.names):
            assert meant.setdefault(number, name) == name


@given(node_sets)
def test_owner_is_the_rings(sets) -> None:
    """The number of an owner leads to the node that the ring names, one by one and all at once."""
    for names, topology in zip(sets, chain(sets), strict=True):
        ring = small(names)
        numbers = topology.owner_indexes(WIRES)
        assert [topology.names[number] for number in numbers] == list(map(ring.owner, WIRES))
        assert numbers == list(map(topology.owner_index, WIRES))
        assert set(numbers) <= set(topology.numbers)


@given(node_sets)
def test_members_are_those_in_service(sets) -> None:
    """Members, numbers and names are those of the nodes in service, in the placement's order."""
    for names, topology in zip(sets, chain(sets), strict=True):
        assert [member.node.name for member in topology.members] == sorted(names)
        assert topology.number_of == {
            name: number for number, name in enumerate(topology.names) if name in names
        }


@given(node_sets)
def test_versions_count_the_swaps(sets) -> None:
    """Each topology has the next version."""
    assert [one.version for one in chain(sets)] == list(range(len(sets)))


@given(st.permutations(NAMES))
def test_order_does_not_matter(names) -> None:
    """The same nodes in another order are the same topology."""
    assert Topology.of(of(NAMES), small).has(of(names))


def test_other_address_is_another_topology() -> None:
    """A node at another address, and one node less, are a change."""
    topology = Topology.of(of("abc"), "ring")
    assert not topology.has(of("abc", port=7000))
    assert not topology.has(of("ab"))


def test_address_of_a_known_name_follows() -> None:
    """A name that has another address by now keeps its number."""
    first = Topology.of(of("abc"), "ring")
    second = Topology.of(of("cb", port=7000), "ring", first)
    assert [one.address.port for one in second.known] == [6379, 7000, 7000]
    assert second.numbers == (1, 2)


def test_moves_are_the_rings() -> None:
    """What moves is exactly what the rings say."""
    first = Topology.of(of("abc"), "ring")
    second = Topology.of(of("abcd"), "ring", first)
    assert first.moved(second) == HashRing(list("abc")).moved(HashRing(list("abcd")))


def test_foreign_placement_cannot_tell_moves() -> None:
    """A placement of the caller's own has no `moved`, so that nothing is said."""

    class Foreign:
        def __init__(self, nodes) -> None:
            self.nodes = tuple(nodes)

        def owner_index(self, wire: bytes) -> int:
            return len(wire) % len(self.nodes)

        def owner_indexes(self, wires: list[bytes]) -> list[int]:
            return list(map(self.owner_index, wires))

        def owners(self, key, n: int) -> tuple[str, ...]:
            return tuple(node.name for node in self.nodes)[:n]

    first = Topology.of(of("abc"), Foreign)
    assert first.moved(Topology.of(of("ab"), Foreign, first)) is None
