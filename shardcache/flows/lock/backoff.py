"""How a client that did not get a lock waits before its next attempt.

===============================  ==========================  ====================================
why it has failed                sleep first                 then listen for a release
===============================  ==========================  ====================================
too few voters can vote          up to 0.1 s                 no
held                             no                          until it must be free
held, and we had some voters     2 ms per attempt, at most   until it must be free
free, and we had some voters     2 ms per attempt, at most   no
free                             no                          20 to 40 ms: others came before us
===============================  ==========================  ====================================

The waits are random, so that clients which came at the same time do not come again together. None
is longer than the time that is left. What we gave back wakes all waiters, also us: without a sleep
in between this would spin.
"""

from collections.abc import Callable
from typing import NamedTuple

from shardcache.errors import LockConflict, LockNotAcquired
from shardcache.flows.lock.ballot import Ballot

__all__ = ("Backoff", "next_backoff", "outage_wait")

# Seconds at most, times the number of attempts so far, between attempts of contenders that took
# voters from each other; and the number of attempts after which it grows no more.
_SPLIT_WAIT = 0.002
_LONG_SPLIT, _LONG_SPLIT_FREE = 50, 10
# Contenders are given so many times as long as an attempt took, at least, to give their votes back.
_SPLIT_TRIPS = 2
_OTHERS_FIRST = 0.02  # seconds in which others that have waited longer take a free lock
_HELD_JITTER = 0.01  # seconds after the end of a lease, at most, in which waiters come
_OUTAGE_WAIT = 0.1  # seconds, at most, between attempts while voters are out


class Backoff(NamedTuple):
    """What to do before the next attempt; None: nothing of that kind.

    ``sleep``: seconds.
    ``listen``: after that, seconds in which a release ends the wait,
    ``jitter``: and so many more, by chance,
    ``most``: but so many at most.
    ``unheard``: seconds, at most, to sleep if the voter that the client listens at is out.
    """

    sleep: float | None = None
    listen: float | None = None
    jitter: float = 0.0
    most: float = 0.0
    unheard: float | None = None


def next_backoff(
    error: LockNotAcquired,
    ballot: Ballot,
    left: float,
    *,
    attempt: int,
    took: float,
    random: Callable[[], float],
) -> Backoff:
    """Return how to wait.

    ``error``: why the attempt has failed.
    ``ballot``: its votes.
    ``left``: the seconds that there are.
    ``attempt``: how many attempts there were.
    ``took``: the seconds that the last one took.
    ``random``: returns a number from 0 to 1.
    """
    if not isinstance(error, LockConflict):
        return Backoff(sleep=outage_wait(left, random))
    # Some voters granted to us: contenders came at once, and shared the voters.
    split = bool(ballot.fences or ballot.guarded)
    free_in = error.retry_after or 0.0
    if free_in <= 0:
        if split:
            apart = _SPLIT_WAIT * random() * min(attempt, _LONG_SPLIT_FREE)
            return Backoff(sleep=min(left, apart))
        return Backoff(listen=_OTHERS_FIRST, jitter=_OTHERS_FIRST, most=left)
    # No majority for anybody: contenders give back at once, but dead ones do not.
    if ballot.nobody:
        left = min(left, _SPLIT_TRIPS * (1 + random()) * took)
    pause = min(left, _SPLIT_WAIT * random() * min(attempt, _LONG_SPLIT)) if split else None
    left -= pause or 0.0
    return Backoff(
        sleep=pause,
        listen=free_in,
        jitter=_HELD_JITTER,
        most=left,
        unheard=min(left, free_in),
    )


def outage_wait(most: float, random: Callable[[], float]) -> float:
    """Return the seconds to wait while voters are out, ``most`` at most."""
    return min(most, _OUTAGE_WAIT * (0.5 + random() / 2))
