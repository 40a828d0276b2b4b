"""A node: a stable name with a weight, and perhaps an address."""

from dataclasses import dataclass

from shardcache.errors import InvalidNode
from shardcache.urls import shown

__all__ = ("Node",)

MAX_WEIGHT = 1000.0


@dataclass(frozen=True, slots=True)
class Node:
    """One place for keys on a ring.

    ``name``: a text that is not empty. It alone decides where the node's points lie, so the URL may
        change without moving a key (G5).
    ``weight``: the node's share relative to the other nodes, above 0 and at most 1000. Default: 1.
    ``url``: the address; a cache client needs it, a ring for other uses does not. Default: None.

    Raises `InvalidNode` for a name, weight or URL that cannot be.
    """

    name: str
    weight: float = 1.0
    url: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidNode(f"a node's name must be a non-empty str, got {self.name!r}")
        if isinstance(self.weight, bool) or not isinstance(self.weight, (int, float)):
            raise InvalidNode(f"node {self.name!r}: weight must be a number, got {self.weight!r}")
        if not 0 < self.weight <= MAX_WEIGHT:  # NaN as well
            raise InvalidNode(
                f"node {self.name!r}: weight must be above 0 and at most {MAX_WEIGHT:g}, got "
                f"{self.weight!r}"
            )
        if self.url is not None and not isinstance(self.url, str):
            raise InvalidNode(
                f"node {self.name!r}: url must be a str or None, got {type(self.url).__name__}"
            )

    def __repr__(self) -> str:
        """Show everything but the credentials in the address (G7)."""
        url = f", url={shown(self.url)!r}" if self.url is not None else ""
        return f"Node({self.name!r}, weight={self.weight!r}{url})"
