"""The masters of a Redis Cluster as commands show them, by the map that the client has."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from shardcache.cli.text import bars, paint, say
from shardcache.client import ShardCache
from shardcache.topology.cluster_map import ClusterMap, ClusterNode, Health, SlotRange
from shardcache.topology.slot_tags import SLOTS

__all__ = ("Master", "Replica", "draw_slots", "in_order_of_slots", "masters_of")

T = TypeVar("T")


class Replica(NamedTuple):
    """A replica.

    ``name``: its ``host:port``.
    ``health``: what the member that was asked says of it.
    ``lag``: how many bytes it is behind its master; None if that is unknown.
    """

    name: str
    health: Health
    lag: int | None


class Master(NamedTuple):
    """A master that serves slots.

    ``name``: its ``host:port``.
    ``slots``: how many slots it serves.
    ``replicas``: those of this master.
    """

    name: str
    slots: int
    replicas: tuple[Replica, ...]


def masters_of(cache: ShardCache) -> list[Master]:
    """Return the masters in the order of their slots; none where the nodes are no cluster."""
    context = cache._context
    found, seeds = context.topology.map, context.seeds
    if found is None or seeds is None:
        return []

    def name(node: ClusterNode) -> str:
        return seeds.member(node.host, node.port).node.name

    return [
        Master(
            name(found.primaries[index]),
            _count(found.ranges[index]),
            tuple(
                Replica(name(replica), replica.health, found.lag(index, replica))
                for replica in found.replicas[index]
            ),
        )
        for index in sorted(range(len(found.primaries)), key=found.ranges.__getitem__)
    ]


def in_order_of_slots(found: Mapping[str, T], masters: Sequence[Master]) -> dict[str, T]:
    """Return what was found of shards, that of the masters in the order of their slots first."""
    names = dict.fromkeys([*(one.name for one in masters), *found])
    return {name: found[name] for name in names if name in found}


def draw_slots(cache: ShardCache, key: str = "", owner: str = "") -> None:
    """Show each master's slots as a bar, with its replicas, and the slots that nobody serves.

    ``cache``: a client that has the map of its cluster.
    ``key``: printed beside ``owner``, the name of a master.
    """
    rows = [
        (
            (
                paint(f"{one.name} <- {key}", "strong") if key and one.name == owner else one.name,
                *_share(one.slots),
                _replicas(len(one.replicas)),
            ),
            one.slots / SLOTS,
        )
        for one in masters_of(cache)
    ]
    found: ClusterMap | None = cache._context.topology.map
    missing = 0 if found is None else _count(found.unserved)
    if missing:
        rows.append(((paint("nobody", "bad"), *_share(missing), ""), missing / SLOTS))
    for line in bars(rows):
        say(line)


def _count(ranges: tuple[SlotRange, ...]) -> int:
    return sum(last + 1 - first for first, last in ranges)


def _share(slots: int) -> tuple[str, str]:
    return f"{slots:6,} slots", f"{slots / SLOTS:7.2%}"


def _replicas(count: int) -> str:
    return f"{count} replica" if count == 1 else f"{count} replicas"
