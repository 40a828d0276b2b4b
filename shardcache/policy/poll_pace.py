"""When the source of a client's nodes is polled next.

| what happened | next poll, if nobody asks | if somebody asks |
|---|---|---|
| nothing yet | now | now |
| a poll ended with a good answer | after the interval | after the shortest pause |
| the n-th poll in a row failed | after the shortest pause times 2ⁿ⁻¹ | the same |

The last one is at most the longest pause, and at most the interval.

All of it is jittered by a quarter, up or down: many processes that were started at once, or that
lost the same server at once, do not ask at the same time.
"""

from collections.abc import Callable

__all__ = ("PollPace",)

SHORTEST_PAUSE = 0.1  # seconds between two polls, however often somebody asks
LONGEST_PAUSE = 5.0  # … after many failures


class PollPace:
    """The times of polls. It has no clock of its own: each method is told the time in seconds.

    ``interval``: seconds between two polls if nobody asks for one.
    ``random``: random numbers from 0 to 1.
    """

    __slots__ = ("_due", "_earliest", "_failures", "_interval", "_random", "_shortest")

    def __init__(self, interval: float, random: Callable[[], float]) -> None:
        self._interval = interval
        self._random = random
        self._shortest = min(SHORTEST_PAUSE, interval)
        self._failures = 0
        self._due = self._earliest = float("-inf")

    def wait(self, now: float, *, asked: bool) -> float:
        """Return the seconds until the next poll, 0 if it is due.

        ``asked``: whether somebody has asked for a poll.
        """
        return max((self._earliest if asked else self._due) - now, 0.0)

    def succeeded(self, now: float) -> None:
        """Note that a poll has ended with a good answer."""
        self._failures = 0
        self._due = now + self._jittered(self._interval)
        self._earliest = now + self._jittered(self._shortest)

    def failed(self, now: float) -> None:
        """Note that a poll has ended without one."""
        # Doubled 60 times at most: no float overflows.
        longer = self._shortest * 2.0 ** min(self._failures, 60)
        self._failures += 1
        pause = min(longer, LONGEST_PAUSE, self._interval)
        self._due = self._earliest = now + self._jittered(pause)

    def _jittered(self, seconds: float) -> float:
        return seconds * (0.75 + 0.5 * self._random())
