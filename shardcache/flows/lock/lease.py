"""A lease: what a holder may believe, and until when.

Theory
------
A voter that set our key with PX ``ttl`` keeps it for ttl, by its own clock, from the moment at
which the request reached it. That was after the request left. So the key is ours there until
``sent + ttl - drift`` on our clock, even if the reply was lost. The lock is ours as long as a
majority holds our key at the same time: until the quorum-th *largest* of these times. (The median
of those that answered, or the latest of them, is later than the end of the majority: pottery's
``locked()`` said 9.88 s of a quorum that ended after 1.0 s.)
"""

from dataclasses import dataclass, field

from shardcache.flows.lock.lock_plan import Voters, drift

__all__ = ("Lease", "quorum_th")


def quorum_th(times: list[float], quorum: int) -> float:
    """Return the time until which a quorum of voters is held, given when each of them ends."""
    return sorted(times, reverse=True)[quorum - 1]


@dataclass(slots=True)
class Lease:
    """One acquisition: its token is in the key on each voter that granted it.

    ``fence``: the fencing token. It grows with each acquisition; 0 if the lock has none.
    ``until``: for each voter, the time on the holder's clock up to which our key is there for
        certain; 0.0 if that is not known.
    ``ended``: the lock is lost or released, and will not be extended again.
    ``voters``: the voters that granted it, if the voters of the lock may change.
    ``verified``: the voters that have had our key since a life of theirs in which they may vote.
    ``granted``: the voters that said that they have our key.
    ``unsure``: the voters that were asked and have not answered: they may grant late.
    """

    token: bytes
    quorum: int
    until: list[float]
    fence: int = 0
    ended: bool = field(default=False)
    voters: Voters | None = None
    verified: set[int] = field(default_factory=set)
    granted: set[int] = field(default_factory=set)
    unsure: frozenset[int] = frozenset()

    @property
    def valid_until(self) -> float:
        """The time on the holder's clock until which no other client can hold the lock."""
        return 0.0 if self.ended else quorum_th(self.until, self.quorum)

    def held(self, places: list[int], sent: float, ttl: float) -> None:
        """Note that the voters at ``places`` granted ``ttl`` to a request that left at ``sent``."""
        end = sent + ttl - drift(ttl)
        until = self.until
        for place in places:
            until[place] = max(until[place], end)

    def within(self, sent: float, ttl: float) -> None:
        """Note that a request for ``ttl``, perhaps a shorter one, leaves at ``sent``.

        From now on no voter is counted as ours for longer than that.
        """
        end = sent + ttl - drift(ttl)
        self.until[:] = [min(until, end) for until in self.until]
