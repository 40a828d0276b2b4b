"""What a command that goes on elsewhere needs to know of its client: who owns a key now."""

from collections.abc import Callable

from shardcache.topology.current import CurrentTopology

__all__ = ("Links", "NodeLinks")


def _nothing() -> None:
    """Do nothing: nobody watches the nodes yet."""


class Links:
    """The newest nodes, for commands under way.

    ``current``: the topology in service.

    ``refresh`` asks soon where the nodes are, and returns at once; whoever watches them sets it.
    """

    __slots__ = ("_current", "refresh")

    def __init__(self, current: CurrentTopology) -> None:
        self._current = current
        self.refresh: Callable[[], None] = _nothing

    def owner_of(self, wire: bytes) -> int:
        """Return the number of the shard that has a key by the newest topology."""
        return self._current.now.owner_index(wire)


class NodeLinks(Links):
    """Those of independent nodes with replicas: no server says that another one has a key."""

    __slots__ = ()
