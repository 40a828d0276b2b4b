"""The judge: it sees true time and the clock of every client, and looks for violations.

violation    what it means
-----------  -------------------------------------------------------------------------------------
two-holders  two leases were valid at the same true time, each by its holder's own clock
same-fence   two acquisitions have the same fencing token
fence-order  an acquisition that began after another one was complete has no higher token
fence-late   an acquisition that was complete after another one has no higher token
stale-write  the fenced store took a write of an older holder after one of a newer holder
left-behind  some time after the end of all clients, a key of the lock is still there
no-end       an acquire took longer than its wait and a few messages, or the history has no end
error        a flow raised an exception that it must not raise
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from shardcache.flows.lock import Lease
from shardcache.testing.simulation.world import World

if TYPE_CHECKING:
    from shardcache.testing.simulation.client import Client

__all__ = ("KINDS", "Grant", "Judge", "Kind", "Violation")

Kind = Literal[
    "two-holders",
    "same-fence",
    "fence-order",
    "fence-late",
    "stale-write",
    "left-behind",
    "no-end",
    "error",
]
KINDS: tuple[Kind, ...] = (
    "two-holders",
    "same-fence",
    "fence-order",
    "fence-late",
    "stale-write",
    "left-behind",
    "no-end",
    "error",
)


class Violation(NamedTuple):
    """One violation.

    ``kind``: its kind, see above.
    ``at``: true time, in seconds.
    ``what``: what happened, in words.
    """

    kind: Kind
    at: float
    what: str


@dataclass(slots=True, eq=False)
class Grant:
    """One acquisition.

    ``client``: the holder.
    ``lease``: its lease.
    ``began``: true time of its first request.
    ``completed``: true time at which it was complete.
    """

    client: "Client"
    lease: Lease
    began: float
    completed: float


class Judge:
    """Keeps all acquisitions and writes of a history, and the violations among them."""

    __slots__ = (
        "_store",
        "_world",
        "_writers",
        "grants",
        "refused",
        "valid",
        "violations",
        "written",
    )

    def __init__(self, world: World) -> None:
        self._world = world
        self.grants: list[Grant] = []
        self.valid: list[Grant] = []  # acquisitions whose holders may still believe in them
        self.violations: list[Violation] = []
        self._store = 0  # highest token that the fenced store has seen
        self._writers: list[Grant] = []
        self.written = 0
        self.refused = 0

    def found(self, kind: Kind, what: str) -> None:
        self.violations.append(Violation(kind, self._world.now, what))
        if self._world.notes is not None:
            self._world.note("judge", f"*** {kind}: {what}")

    def holds(self, grant: Grant) -> None:
        """Note that a lease is valid from now on: it was acquired, adopted or extended.

        No other lease may be valid at the same time.
        """
        if not grant.client.believes(grant):
            return  # it was over before its holder could look at it
        others = [
            other
            for other in self.valid
            if other.lease is not grant.lease and other.client.believes(other)
        ]
        for other in others:
            left = other.lease.valid_until - other.client.clock()
            self.found(
                "two-holders",
                f"{grant.client.name} holds it with token {grant.lease.fence} while "
                f"{other.client.name} holds it with token {other.lease.fence} for {left:.4f} s "
                "more",
            )
        self.valid = [*others, grant]

    def lets_go(self, grant: Grant) -> None:
        """Note that the holder of a lease does not believe in it any more."""
        if grant in self.valid:
            self.valid.remove(grant)

    def acquired(self, grant: Grant) -> None:
        """Note that an acquisition is complete."""
        fence = grant.lease.fence
        for other in self.grants:
            seen = other.lease.fence
            if seen < fence:
                continue
            said = f"{grant.client.name} has token {fence}, {other.client.name} had {seen}"
            if seen == fence:
                self.found("same-fence", said)
            if other.completed < grant.began:
                self.found("fence-order", f"{said} and was complete before the other began")
            else:
                self.found("fence-late", f"{said} and was complete before")
        self.grants.append(grant)
        self.holds(grant)

    def writes(self, grant: Grant) -> bool:
        """Let a write reach the fenced store; return whether the store takes it."""
        if grant.lease.fence < self._store:
            self.refused += 1
            return False
        self._store = grant.lease.fence
        self.written += 1
        for other in self._writers:
            if other.began > grant.completed:
                self.found(
                    "stale-write",
                    f"{grant.client.name} wrote after {other.client.name}, a later holder",
                )
        if grant not in self._writers:
            self._writers.append(grant)
        return True
