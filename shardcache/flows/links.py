"""What a command that goes on elsewhere needs to know of its client: who owns a key now."""

from collections.abc import Callable, Hashable

from shardcache.policy.near_store import NearStore
from shardcache.topology.current import CurrentTopology

__all__ = ("Links", "NodeLinks")


def _nothing(*_: object) -> None:
    """Do nothing: nobody watches the nodes yet."""


class Links:
    """The newest nodes, for commands under way.

    ``current``: the topology in service.

    ``refresh`` asks soon where the nodes are, and returns at once; ``refresh_unless`` is
    `NodeWatch.refresh_unless`. Whoever watches the nodes sets both.

    ``near``: the values in memory, if there is a near cache.
    """

    __slots__ = ("_current", "near", "refresh", "refresh_unless")

    def __init__(self, current: CurrentTopology) -> None:
        self._current = current
        self.near: NearStore | None = None
        self.refresh: Callable[[], None] = _nothing
        self.refresh_unless: Callable[[Hashable, Callable[[], bool]], None] = _nothing

    def sent_again(self, wires: list[bytes]) -> None:
        """Have what another server answers for these keys not be kept near.

        Nothing has told yet whether writes are heard of there.
        """
        if self.near is not None:
            self.near.drop(wires)

    def owner_of(self, wire: bytes) -> int:
        """Return the number of the shard that has a key by the newest topology."""
        return self._current.now.owner_index(wire)

    def failed_at(self, replica: int, wire: bytes) -> None:
        """Ask where the nodes are, if the newest topology still has this replica read for a key.

        ``replica``: the number of the shard that could not answer.
        """
        now = self._current.now
        if replica in now.replicas.get(now.owner_index(wire), ()):
            self.refresh()


class NodeLinks(Links):
    """Those of independent nodes with replicas: no server says that another one has a key."""

    __slots__ = ()
