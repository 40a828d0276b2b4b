"""How long one caller waits for a lock, and who is told that he does.

What he waits for decides. While somebody holds the lock, he waits to the end that he gave, or without one for as long as it takes: that is
what a lock is for. While too few voters answer, nobody can have it, and a caller who gave no end would hang with
the servers: so that wait ends after the ttl, counted from when the outage was first seen in this process, but not from before he came. Several who
stand in line in one process thus wait one ttl, not one after the other.
"""

from collections.abc import Callable
from math import inf

from shardcache.errors import LockNotAcquired, QuorumUnavailable
from shardcache.flows.lock.lock_plan import LockPlan
from shardcache.flows.lock.voter_registry import VoterStatus

__all__ = ("TELL_AFTER", "Note", "WaitLimit")

TELL_AFTER = 1.0  # seconds of waiting after which somebody is told

Note = Callable[[LockNotAcquired], None]


class WaitLimit:
    """The wait of one caller who came at ``began``. ``wait`` in seconds: None if he gave no end, `math.inf` if he wants none."""

    __slots__ = ("_began", "_deadline", "_note", "_plan", "_status", "_told", "_unbounded")

    def __init__(
        self,
        plan: LockPlan,
        status: VoterStatus,
        wait: float | None,
        began: float,
        note: Note | None,
    ) -> None:
        self._plan = plan
        self._status = status
        self._unbounded = wait is None
        self._began = began
        self._deadline = None if wait is None or wait == inf else began + wait
        self._note = note
        self._told: type | None = None

    def left(self, now: float, most: float) -> float:
        """Return the seconds until the end, ``most`` at most."""
        return most if self._deadline is None else min(self._deadline - now, most)

    def limit(self, now: float, least: float) -> float | None:
        """Return the seconds for which an attempt may go on: at least so many, so that the voters can be heard; None for no end."""
        return None if self._deadline is None else max(self._deadline - now, least)

    def nap(self, now: float, seconds: float) -> float:
        """Return ``seconds``, or less if somebody is to be told before that."""
        if self._note is None or self._told is not None:
            return seconds
        return min(seconds, max(self._began + TELL_AFTER - now, 0.01))

    def goes_on(self, now: float, error: LockNotAcquired, *, passing: bool) -> None:
        """Note why an attempt failed, and tell. Raises ``error`` if that was to be waited for no longer.

        ``passing``: it is over by itself before long, as a restarted voter's guard is.
        """
        if not isinstance(error, QuorumUnavailable) or passing:
            self._status.out_since = None
        else:
            if self._status.out_since is None:
                self._status.out_since = now
            if self._unbounded and now >= max(self._status.out_since, self._began) + self._plan.ttl:
                raise QuorumUnavailable(
                    error.name,
                    f"{error.reason}; without a timeout a majority is waited for as long as the ttl, {self._plan.ttl:g} s",
                    error.votes,
                ) from error.__cause__
        if (
            self._note is not None
            and now >= self._began + TELL_AFTER
            and type(error) is not self._told
        ):
            self._told = type(error)
            self._note(error)
