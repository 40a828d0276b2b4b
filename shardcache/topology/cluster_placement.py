"""Which node of a Redis Cluster owns a key, as a placement: by the map, and not by a hash ring."""

from collections.abc import Sequence

from shardcache.keys import Key
from shardcache.placement.node import Node
from shardcache.topology.cluster_map import UNSERVED, ClusterMap
from shardcache.topology.slots import slot_of

__all__ = ("ClusterPlacement",)


class ClusterPlacement:
    """The primaries of one cluster map. Immutable.

    ``map``: the map.
    ``nodes``: its primaries, in its order.
    """

    __slots__ = ("map", "nodes")

    def __init__(self, found: ClusterMap, names: Sequence[str]) -> None:
        self.map = found
        self.nodes = tuple(Node(name, 1.0, f"redis://{name}") for name in names)

    def owner_index(self, wire_key: bytes, /) -> int:
        """Return the index of the primary of a wire key, or `UNSERVED`."""
        return self.map.owner_index(wire_key)

    def owner_indexes(self, wire_keys: list[bytes], /) -> list[int]:
        """Return ``[owner_index(key) for key in wire_keys]``, faster."""
        return self.map.owner_indexes(wire_keys)

    def owners(self, key: Key, n: int, /) -> tuple[str, ...]:
        """Return the names of up to ``n`` primaries: the owner, then those that follow by number.

        There are none if nobody serves the slot of the key.
        """
        raw = key.encode() if isinstance(key, str) else key
        index = self.map.table[slot_of(raw)]
        if index == UNSERVED:
            return ()
        return tuple(node.name for node in (*self.nodes[index:], *self.nodes[:index])[:n])
