"""A lease: what a holder may believe, and until when.

Theory
------
A voter that set our key with PX ``ttl`` keeps it, by its own clock, for ttl from when the request reached it, which was after the
request left. So it is ours there until ``sent + ttl - drift`` on our clock, whatever happened to the reply. The lock is ours
as long as a majority holds our key at once: until the quorum-th *largest* of these times. (The median of those that answered, or the latest of
them, outlives the majority: pottery's ``locked()`` said 9.88 s of a quorum that ended after 1.0 s.)
"""

from dataclasses import dataclass, field

from shardcache.flows.lock.lock_plan import Voters, drift

__all__ = ("Lease", "quorum_th")


def quorum_th(times: list[float], quorum: int) -> float:
    """Return the time until which a quorum of voters is held, given when each of them ends."""
    return sorted(times, reverse=True)[quorum - 1]


@dataclass(slots=True)
class Lease:
    """One acquisition: its ``token`` is in the key on every voter that granted it.

    ``fence`` grows with every acquisition of the lock (0 where the lock has none). ``until`` is, for each voter, the time on the
    holder's clock to which our key is there for certain: 0.0 where we do not know of it.
    """

    token: bytes
    quorum: int
    until: list[float]
    fence: int = 0
    ended: bool = field(default=False)  # lost or released: it will not be extended again
    voters: Voters | None = None  # who granted it, if that may change
    verified: set[int] = field(
        default_factory=set
    )  # voters that have had our key since a life of theirs that may vote
    unsure: frozenset[int] = (
        frozenset()
    )  # voters that were asked and have not answered: they may grant late

    @property
    def valid_until(self) -> float:
        """The time on the holder's clock until which nobody else can hold the lock."""
        return 0.0 if self.ended else quorum_th(self.until, self.quorum)

    def held(self, places: list[int], sent: float, ttl: float) -> None:
        """Note that the voters at ``places`` answered "it is yours for ttl" to a request that left at ``sent``."""
        end = sent + ttl - drift(ttl)
        until = self.until
        for place in places:
            until[place] = max(until[place], end)

    def within(self, sent: float, ttl: float) -> None:
        """Note that a request for ``ttl``, perhaps a shorter one, leaves at ``sent``: no voter is ours for longer now."""
        end = sent + ttl - drift(ttl)
        self.until[:] = [min(until, end) for until in self.until]
