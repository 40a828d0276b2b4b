"""What the cache client asks of a placement."""

from typing import Protocol

from shardcache.keys import Key
from shardcache.placement.node import Node

__all__ = ("Placement",)


class Placement(Protocol):
    """Maps wire keys to nodes. Immutable: a change of nodes makes another object."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, in the order that the indexes below count in."""

    def owner_index(self, wire_key: bytes, /) -> int:
        """Return the index into ``nodes`` of the owner of ``wire_key``."""

    def owner_indexes(self, wire_keys: list[bytes], /) -> list[int]:
        """Return ``[owner_index(key) for key in wire_keys]``, faster."""

    def owners(self, key: Key, n: int, /) -> tuple[str, ...]:
        """Return the names of up to ``n`` distinct nodes: the owner, then those that follow."""
