"""Which node of a Redis Cluster serves which slot, as one immutable map.

`topology/cluster_replies.py` makes it of a server's reply. Two maps are equal if a client would do
the same by them: replication offsets and the epoch do not count.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, NamedTuple

from shardcache.topology.slot_tags import SLOTS
from shardcache.topology.slots import slot_of, slots_of

__all__ = ("UNSERVED", "ClusterMap", "ClusterNode", "ClusterShard", "Health", "SlotRange")

Health = Literal["online", "loading", "fail"]
HostPort = tuple[str, int]
SlotRange = tuple[int, int]  # the first and the last slot
# In the table: nobody serves the slot. No index is as high, so a careless look-up raises.
UNSERVED = 65535


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """One member of a cluster.

    ``id``: the node id, which stays the same when the address changes.
    ``host``, ``port``: where to connect to.
    ``health``: what the member that was asked says of it. A node that is "loading" has no data yet.
    ``announced``: the addresses under which other members may name it, in redirects for example.
    ``offset``: bytes of the replication stream; None if unknown.
    """

    id: str
    host: str
    port: int
    health: Health = "online"
    announced: frozenset[HostPort] = frozenset()
    offset: int | None = field(default=None, compare=False)


class ClusterShard(NamedTuple):
    """A primary with its replicas, and the slots that it serves."""

    primary: ClusterNode
    replicas: Sequence[ClusterNode] = ()
    ranges: Sequence[SlotRange] = ()


@dataclass(frozen=True, slots=True)
class ClusterMap:
    """The members of a cluster, and the primary of each slot. `of` makes it.

    ``primaries``: those that serve slots, by their ids. Their places here are their *indexes*.
    ``replicas``: the replicas of each of them.
    ``ranges``: the slots of each of them, in order and as few ranges as possible.
    ``unserved``: the slots that nobody serves, as ranges.
    ``idle``: members that serve no slots, with the replicas of such.
    ``table``: the index of each slot's primary, or `UNSERVED`.
    ``epoch``: of two views of one cluster, the one with the higher epoch is the newer.
    """

    primaries: tuple[ClusterNode, ...]
    replicas: tuple[tuple[ClusterNode, ...], ...]
    ranges: tuple[tuple[SlotRange, ...], ...]
    unserved: tuple[SlotRange, ...]
    idle: tuple[ClusterNode, ...]
    table: tuple[int, ...] = field(repr=False, compare=False)
    epoch: int = field(compare=False)
    _by_address: dict[HostPort, ClusterNode] = field(repr=False, compare=False)

    @classmethod
    def of(cls, shards: Iterable[ClusterShard], epoch: int = 0) -> "ClusterMap":
        """Return the map of these shards, in whatever order they come.

        Raises ValueError if a slot does not exist or is served twice, or if a node is there twice.
        """
        given = sorted(shards, key=lambda shard: shard.primary.id)
        nodes = list(chain.from_iterable((one.primary, *one.replicas) for one in given))
        _check_once(nodes)
        serving = [shard for shard in given if shard.ranges]
        table = _table([shard.ranges for shard in serving])
        ranges = _ranges(table)
        return cls(
            primaries=tuple(shard.primary for shard in serving),
            replicas=tuple(_by_id(shard.replicas) for shard in serving),
            ranges=tuple(tuple(ranges.get(index, ())) for index in range(len(serving))),
            unserved=tuple(ranges.get(UNSERVED, ())),
            idle=_by_id(
                chain.from_iterable((one.primary, *one.replicas) for one in given if not one.ranges)
            ),
            table=tuple(table),
            epoch=epoch,
            _by_address=_by_address(nodes),
        )

    @property
    def nodes(self) -> tuple[ClusterNode, ...]:
        """All members: primaries, replicas, and those that serve nothing."""
        return (*self.primaries, *chain.from_iterable(self.replicas), *self.idle)

    def owner_index(self, wire: bytes) -> int:
        """Return the index of the primary of a wire key, or `UNSERVED`."""
        return self.table[slot_of(wire)]

    def owner_indexes(self, wires: Iterable[bytes]) -> list[int]:
        """Return the index, or `UNSERVED`, for each of many wire keys."""
        return list(map(self.table.__getitem__, slots_of(wires)))

    def primary_of(self, slot: int) -> ClusterNode | None:
        """Return the node that serves a slot; None if nobody does."""
        index = self.table[slot]
        return None if index == UNSERVED else self.primaries[index]

    def replicas_of(self, slot: int) -> tuple[ClusterNode, ...]:
        """Return the replicas of the node that serves a slot."""
        index = self.table[slot]
        return () if index == UNSERVED else self.replicas[index]

    def lag(self, index: int, replica: ClusterNode) -> int | None:
        """Return how many bytes a replica is behind its primary; None if that is unknown.

        ``index``: that of the primary.
        """
        offset = self.primaries[index].offset
        return None if offset is None or replica.offset is None else max(offset - replica.offset, 0)

    def node_at(self, host: str, port: int) -> ClusterNode | None:
        """Return the member that has this address, or announces it; None if there is none.

        A redirect may name a member by its IP address where the map has its host name, and by its
        plain port where the map has that of TLS.
        """
        return self._by_address.get((host.lower(), port))


def _check_once(nodes: Iterable[ClusterNode]) -> None:
    seen: set[str] = set()
    for node in nodes:
        if node.id in seen:
            raise ValueError(f"node {node.id} is there more than once")
        seen.add(node.id)


def _table(owners: Iterable[Sequence[SlotRange]]) -> list[int]:
    """Return for each slot the place of its owner.

    ``owners``: the slots of each.
    """
    table = [UNSERVED] * SLOTS
    for index, ranges in enumerate(owners):
        for first, last in ranges:
            if not 0 <= first <= last < SLOTS:
                raise ValueError(
                    f"there are no slots {first!r:.20} to {last!r:.20}: they go from 0 to "
                    f"{SLOTS - 1}"
                )
            if any(one != UNSERVED for one in table[first : last + 1]):
                raise ValueError(f"some of the slots {first} to {last} are served twice")
            table[first : last + 1] = [index] * (last + 1 - first)
    return table


def _by_address(nodes: Iterable[ClusterNode]) -> dict[HostPort, ClusterNode]:
    """Return each node by the addresses that it has and announces; the former count for more."""
    own: dict[HostPort, ClusterNode] = {}
    announced: dict[HostPort, ClusterNode] = {}
    twice: set[HostPort] = set()
    for node in nodes:
        own.setdefault((node.host, node.port), node)
        for address in node.announced:
            if announced.setdefault(address, node) is not node:
                twice.add(address)
    # What two nodes announce tells neither.
    return {where: node for where, node in announced.items() if where not in twice} | own


def _by_id(nodes: Iterable[ClusterNode]) -> tuple[ClusterNode, ...]:
    return tuple(sorted(nodes, key=lambda node: node.id))


def _ranges(table: Sequence[int]) -> dict[int, list[SlotRange]]:
    """Return the ranges of slots by what the table has for them."""
    found: dict[int, list[SlotRange]] = {}
    first = 0
    for slot in range(1, len(table) + 1):
        if slot == len(table) or table[slot] != table[first]:
            found.setdefault(table[first], []).append((first, slot - 1))
            first = slot
    return found
