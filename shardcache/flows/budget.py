"""The time budget of a call that also waits or loads: what all its exchanges together may take."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ("Budget",)


class Budget:
    """Seconds that the exchanges of one call may still take. Other waiting does not count.

    While the call waits for another load or holder (`wait_until`), its exchanges count as waiting,
    up to the end of that wait.

    ``seconds``: the whole budget.
    ``clock``: tells the time, in seconds.
    ``began``: when the call began, if that was before now.
    ``end``: when the caller waits no more, whatever is left; None: there is no such end.
    """

    __slots__ = ("_clock", "_end", "_seconds", "_until", "left")

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float],
        began: float | None = None,
        end: float | None = None,
    ) -> None:
        self._seconds = self.left = seconds
        if began is not None:
            self.left -= clock() - began
        self._clock = clock
        self._end = end
        self._until: float | None = None

    def wait_until(self, end: float | None) -> None:
        """Begin to wait, until ``end`` at most; None says that the wait is over."""
        self._until = end

    def until(self, end: float) -> float:
        """Return when a wait is over that would be over at ``end`` but for this budget's end."""
        return end if self._end is None else min(end, self._end)

    @property
    def over(self) -> bool:
        """Whether the caller waits no more, whatever is left."""
        return self._end is not None and self._clock() >= self._end

    def renew(self, least: float = 0.0) -> None:
        """Begin anew, for the next part of a call that is too large for one deadline.

        ``least``: the seconds that this part has at least.
        """
        self.left, self._until = max(self._seconds, least), None

    @contextmanager
    def spent(self) -> Iterator[float]:
        """Give the seconds that the next exchange may take, and count those that it takes."""
        began, until = self._clock(), self._until
        waiting = 0.0 if until is None else max(until - began, 0.0)
        limit = max(self.left, 0.0) + waiting
        try:
            yield limit if self._end is None else max(min(limit, self._end - began), 0.0)
        finally:
            until = self._until
            self.left -= max(self._clock() - (began if until is None else max(began, until)), 0.0)
