"""A topology: which nodes there are, where keys lie on them, and which shard is meant by a number.

A topology never changes. A client that gets other nodes swaps one topology for another by
reference (`CurrentTopology`), and each call stays on the one that it began with.

Flows and drivers know a shard by its *number*. A number belongs to the name of a node for as long
as the client lives, and is never given to another name. So what a call, a lock or a load has noted
stays true whatever topology is in service by then.
"""

from binascii import crc_hqx
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Self

from shardcache.errors import InvalidOption
from shardcache.keys import hash_tag
from shardcache.placement import HashRing, KetamaRing, Placement
from shardcache.placement.circle import Circle, Moves
from shardcache.placement.node import Node
from shardcache.topology.cluster_map import UNSERVED, ClusterMap
from shardcache.topology.cluster_placement import ClusterPlacement
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.topology.nodes import Member
from shardcache.topology.replica_numbers import replica_number
from shardcache.topology.slot_tags import SLOTS
from shardcache.topology.slots import slots_of

__all__ = ("NOBODY", "Topology")

NOBODY = -2  # stands for the shard of keys whose slot no node of the cluster serves
_BRACE = ord("{")


def _no_slots(_: list[bytes]) -> None:
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Topology:
    """One set of nodes in service.

    ``version``: 0 for the first nodes of a client; one more with each swap. Below 0: the nodes are
        not known yet (`unknown_topology`).
    ``placement``: the placement of keys on these nodes.
    ``numbers``: for each node of the placement, in its order, the number of its shard.
    ``known``: by number, the node that last had it; it may have left by now.
    ``names``: by number, the names of these nodes.
    ``owner_index``: returns the number of the shard of a wire key.
    ``owner_indexes``: returns the numbers of the shards of many wire keys.
    ``slots_of``: returns the slots of many wire keys; None if the nodes are no cluster.
    ``shards_of``: returns the numbers of the shards of slots of a cluster.
    ``map``: which node of the cluster serves which slot; None if the nodes are no cluster.
    ``replicas``: by the number of a primary, the numbers of the shards that read from its replicas
        (`replica_number`), and only those that are well.

    The placement has the primaries; ``known`` has their replicas too. In a cluster, a key whose
    slot nobody serves belongs to `NOBODY`.
    """

    version: int
    placement: Placement
    numbers: tuple[int, ...]
    known: tuple[Member, ...]
    names: tuple[str, ...]
    owner_index: Callable[[bytes], int]
    owner_indexes: Callable[[list[bytes]], list[int]]
    slots_of: Callable[[list[bytes]], list[int] | None] = _no_slots
    shards_of: Callable[[Iterable[int]], list[int]] = list
    map: ClusterMap | None = None
    replicas: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, members: Sequence[Member], choice: Any, former: Self | None = None) -> Self:
        """Return the topology of these members.

        ``members``: at least one.
        ``choice``: `Options.placement`.
        ``former``: the topology that this one follows; its numbers stay.
        """
        followed = _followed(former)
        placement = _placement(choice, [member.node for member in members])
        by_name = {member.node.name: member for member in members}
        placed = [by_name[node.name] for node in placement.nodes]
        others = [[member.replica(address) for address in member.replicas] for member in placed]
        known = _known(followed, [*placed, *chain.from_iterable(others)])
        number = {name: at for at, name in enumerate(known)}
        numbers = tuple(number[node.name] for node in placement.nodes)
        replicas = {
            number[member.node.name]: tuple(replica_number(number[one.node.name]) for one in ones)
            for member, ones in zip(placed, others, strict=True)
            if ones
        }
        # As long as the numbers are the placement's own, no look-up pays for the difference.
        own = numbers == tuple(range(len(numbers)))
        return cls(
            0 if followed is None else followed.version + 1,
            placement,
            numbers,
            tuple(known.values()),
            tuple(known),
            placement.owner_index if own else _one(placement, numbers),
            placement.owner_indexes if own else _many(placement, numbers),
            replicas=replicas,
        )

    @classmethod
    def of_cluster(cls, found: ClusterMap, seeds: ClusterSeeds, former: Self | None = None) -> Self:
        """Return the topology of a Redis Cluster. Its nodes are called by their addresses.

        ``found``: which node serves which slot.
        ``seeds``: how all nodes are reached.
        ``former``: as for `of`.
        """
        followed = _followed(former)
        # All members have numbers; the primaries come first, and are what keys are placed on.
        members = [seeds.member(node.host, node.port) for node in found.nodes]
        names = [member.node.name for member in members[: len(found.primaries)]]
        known = _known(followed, members)
        number = {name: at for at, name in enumerate(known)}
        numbers = tuple(number[name] for name in names)
        # By slot and by primary, since every call looks up one of them.
        table = [NOBODY if index == UNSERVED else numbers[index] for index in found.table]

        replicas = {
            numbers[index]: tuple(
                replica_number(number[seeds.member(one.host, one.port).node.name])
                for one in others
                if one.health == "online"
            )
            for index, others in enumerate(found.replicas)
        }

        def owner_index(wire: bytes) -> int:
            tag = hash_tag(wire) if _BRACE in wire else wire
            return table[crc_hqx(tag, 0) % SLOTS]

        return cls(
            0 if followed is None else followed.version + 1,
            ClusterPlacement(found, names),
            numbers,
            tuple(known.values()),
            tuple(known),
            owner_index,
            lambda wires: list(map(table.__getitem__, slots_of(wires))),
            slots_of,
            lambda slots: list(map(table.__getitem__, slots)),
            found,
            replicas,
        )

    def knowing(self, member: Member) -> Self:
        """Return this topology with one more node that has a number, and is not in service.

        A redirect may name a node before it is in any map.

        ``member``: the node; its name is not known yet.
        """
        return replace(
            self,
            version=self.version + 1,
            known=(*self.known, member),
            names=(*self.names, member.node.name),
        )

    @property
    def members(self) -> tuple[Member, ...]:
        """The nodes with their addresses, in the order of the placement."""
        return tuple(self.known[number] for number in self.numbers)

    @property
    def number_of(self) -> dict[str, int]:
        """The numbers of the shards in service, by name."""
        return {self.names[number]: number for number in self.numbers}

    def has(self, members: Sequence[Member]) -> bool:
        """Whether these members, in any order, are the ones in service, with their replicas."""
        return set(members) == set(self.members)

    def moved(self, other: Self) -> Moves | None:
        """Return the shares of all keys that another topology puts elsewhere.

        It is None if the placement cannot tell.
        """
        mine, others = self.placement, other.placement
        return (
            mine.moved(others) if isinstance(mine, Circle) and type(mine) is type(others) else None
        )


def _followed(former: Topology | None) -> Topology | None:
    """Return ``former``, unless it stands for nodes that were not known yet."""
    return None if former is None or former.version < 0 else former


def _known(former: Topology | None, members: Sequence[Member]) -> dict[str, Member]:
    """Return all nodes that have a number, by name, in the order of the numbers.

    Names that are new get the next numbers; a name that returns gets its own again.
    """
    known = {} if former is None else dict(zip(former.names, former.known, strict=True))
    known.update((member.node.name, member) for member in members)
    return known


def _one(placement: Placement, numbers: tuple[int, ...]) -> Callable[[bytes], int]:
    index = placement.owner_index
    return lambda wire: numbers[index(wire)]


def _many(placement: Placement, numbers: tuple[int, ...]) -> Callable[[list[bytes]], list[int]]:
    indexes = placement.owner_indexes
    return lambda wires: [numbers[index] for index in indexes(wires)]


def _placement(choice: Any, nodes: list[Node]) -> Placement:
    if choice == "ring":
        return HashRing(nodes)
    if choice == "ketama":
        return KetamaRing(nodes, hash_tag="{}")  # the client promises tags, whatever the placement
    placement: Placement = choice(nodes)
    placed = [node.name for node in placement.nodes]
    if sorted(placed) != sorted(node.name for node in nodes):
        raise InvalidOption(
            f"the placement must hold exactly the client's nodes, it holds {placed!r:.200}"
        )
    return placement
