"""The topology of a client whose source of nodes has not answered yet.

It has one node, called by the name of the source, whose shard has the number `UNKNOWN` and refuses
all calls. So a call that cannot wait for the source any longer ends as it does when its shard is
out of service: by "degrade" or "raise". As soon as there are nodes, a flow that was given this
topology sees their shards, perhaps from one look to the next.

A key of a cluster has its slot whether the nodes are known or not. So no command of a flow has keys
of several slots, whenever the nodes become known.
"""

from collections.abc import Iterable

from shardcache.placement import HashRing
from shardcache.placement.node import Node
from shardcache.topology.current import CurrentTopology
from shardcache.topology.nodes import Member
from shardcache.topology.slots import slots_of
from shardcache.topology.snapshot import Topology
from shardcache.urls import Address

__all__ = ("UNKNOWN", "unknown_topology")

UNKNOWN = -1  # the version of the topology, and the number of its shard


def unknown_topology(source: str, *, cluster: bool = False) -> CurrentTopology:
    """Return what holds such a topology.

    ``source``: the name of the source.
    ``cluster``: whether that is a Redis Cluster; default False.
    """

    def owner_index(wire: bytes) -> int:
        now = current.now
        return UNKNOWN if now is unknown else now.owner_index(wire)

    def owner_indexes(wires: list[bytes]) -> list[int]:
        now = current.now
        return [UNKNOWN] * len(wires) if now is unknown else now.owner_indexes(wires)

    def shards_of(slots: Iterable[int]) -> list[int]:
        now = current.now
        return [UNKNOWN for _ in slots] if now is unknown else now.shards_of(slots)

    member = Member(Node(source), Address(), None, named=True)
    unknown = Topology(
        UNKNOWN,
        HashRing([member.node]),
        (UNKNOWN,),
        (member,),
        (source,),
        owner_index,
        owner_indexes,
        slots_of if cluster else _no_slots,
        shards_of,
    )
    current = CurrentTopology(unknown)
    return current


def _no_slots(_: list[bytes]) -> None:
    """Return None: these are independent nodes."""
