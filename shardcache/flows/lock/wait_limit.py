"""How long one caller waits for a lock, and when the hook is told of it.

It depends on the reason for the wait. While another client holds the lock, the caller waits until
its timeout, or for ever if it gave none: that is what a lock is for. While too few voters answer,
no client can have the lock, and a caller without a timeout would hang as long as the servers. So
that wait ends after the ttl, counted from when this process first saw the outage, or from when the
caller came, if that was later. Several callers that wait in one process thus wait one ttl together,
not one ttl after the other.
"""

from collections.abc import Callable
from math import inf

from shardcache.errors import LockNotAcquired, QuorumUnavailable
from shardcache.flows.lock.lock_plan import LockPlan
from shardcache.flows.lock.voter_registry import VoterStatus

__all__ = ("TELL_AFTER", "Note", "WaitLimit")

TELL_AFTER = 1.0  # seconds of waiting after which the hook is told

Note = Callable[[LockNotAcquired], None]


class WaitLimit:
    """The wait of one caller.

    ``wait``: the timeout in seconds; None if the caller gave none, `math.inf` if it wants none.
    ``began``: when the caller came.
    ``note``: is called with the reason, when the caller has waited for a while.
    ``end``: when the caller's `deadline` ends the wait in any case; `math.inf`: there is none.
    """

    __slots__ = ("_began", "_deadline", "_end", "_note", "_plan", "_status", "_told", "_unbounded")

    def __init__(
        self,
        plan: LockPlan,
        status: VoterStatus,
        wait: float | None,
        began: float,
        note: Note | None,
        end: float = inf,
    ) -> None:
        self._plan = plan
        self._status = status
        self._unbounded = wait is None
        self._began = began
        self._end = end
        self._deadline = min(end, inf if wait is None else began + wait)
        self._note = note
        self._told: type | None = None

    def check_end(self, now: float, error: LockNotAcquired | None) -> None:
        """Raise ``error`` if a `deadline` leaves no time for another attempt.

        ``error``: why the one before has failed; None: there was none.
        """
        if error is not None and now >= self._end:
            raise error

    def left(self, now: float) -> float:
        """Return the seconds until the timeout is over; `math.inf` if there is none."""
        return self._deadline - now

    def nap(self, now: float, seconds: float) -> float:
        """Return ``seconds``, or less if the hook is to be told before that."""
        if self._note is None or self._told is not None:
            return seconds
        return min(seconds, max(self._began + TELL_AFTER - now, 0.01))

    def goes_on(self, now: float, error: LockNotAcquired, *, passing: bool) -> None:
        """Note why an attempt failed, and tell the hook. Raises ``error`` if the wait is over.

        ``passing``: the reason ends by itself before long, as the guard of a restarted voter does.
        """
        if not isinstance(error, QuorumUnavailable) or passing:
            self._status.out_since = None
        else:
            if self._status.out_since is None:
                self._status.out_since = now
            if self._unbounded and now >= max(self._status.out_since, self._began) + self._plan.ttl:
                raise QuorumUnavailable(
                    error.name,
                    f"{error.reason}; without a timeout a majority is waited for as long as "
                    f"the ttl, {self._plan.ttl:g} s",
                    error.votes,
                ) from error.__cause__
        if (
            self._note is not None
            and now >= self._began + TELL_AFTER
            and type(error) is not self._told
        ):
            self._told = type(error)
            self._note(error)
