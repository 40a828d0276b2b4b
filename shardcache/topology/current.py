"""The topology that a client uses now, and how another one takes its place.

Theory of operation
-------------------
``now`` is read by each call, so it is a plain attribute. It is swapped under no lock, because a
signal handler or a finalizer may swap while a swap is under way in the same thread. A swap *claims*
its version by one atomic step, `dict.setdefault`. A swap that does not get its version takes the
topology that has it for the former one, and begins again. Whoever sets ``now`` then looks whether
the next version is claimed by now: so the last to set it sets the newest.
"""

from collections.abc import Callable

from shardcache.topology.snapshot import Topology

__all__ = ("CurrentTopology",)

_REMEMBERED = 64  # versions: far more than swaps can be under way at once


class CurrentTopology:
    """Holds one topology.

    ``now``: that topology. A call reads it once, and keeps what it has read.
    """

    __slots__ = ("_claims", "now")

    def __init__(self, first: Topology) -> None:
        self.now = first
        self._claims = {first.version: first}

    def swap(self, make: Callable[[Topology], Topology]) -> tuple[Topology, Topology]:
        """Put another topology in service; return the former one and the new one.

        ``make``: makes the new one out of the former, or returns the former to leave it. It may be
            called more than once.
        """
        while True:
            former = self.now
            new = make(former)
            if new is former:
                return former, former
            claimed = self._claims.setdefault(new.version, new)
            self.put(claimed)
            if claimed is new:
                self._claims.pop(new.version - _REMEMBERED, None)
                return former, new

    def put(self, topology: Topology) -> None:
        """Put a copy of the present topology in its place, or a newer one if there is one."""
        found: Topology | None = topology
        while found is not None:
            self.now = found
            found = self._claims.get(found.version + 1)
