"""The answer to "where does this key live, and why there?"."""

from dataclasses import dataclass

from shardcache.stats import SERVICE

__all__ = ("Explanation",)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where one key lives.

    ``hashed`` is the part of ``wire_key`` that decides (its ``{tag}``, or all of it).
    ``successors`` are the nodes clockwise from it, the owner first. ``address`` is without
    credentials; ``state`` that of the owner's breaker as this process sees it.
    """

    key: str | bytes
    wire_key: bytes
    hashed: bytes
    shard: str
    address: str
    successors: tuple[str, ...]
    state: str

    def __str__(self) -> str:
        return (
            f"{self.key!r} is stored as {self.wire_key!r}, hashed by {self.hashed!r}, "
            f"on {self.shard!r} ({self.address}, {SERVICE[self.state]}); next on the ring: "
            f"{', '.join(self.successors[1:]) or 'nobody'}"
        )
