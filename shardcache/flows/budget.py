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
    """

    __slots__ = ("_clock", "_seconds", "_until", "left")

    def __init__(
        self, seconds: float, clock: Callable[[], float], began: float | None = None
    ) -> None:
        self._seconds = self.left = seconds
        if began is not None:
            self.left -= clock() - began
        self._clock = clock
        self._until: float | None = None

    def wait_until(self, end: float | None) -> None:
        """Begin to wait, until ``end`` at most; None says that the wait is over."""
        self._until = end

    def renew(self, least: float = 0.0) -> None:
        """Begin anew, for the next part of a call that is too large for one deadline.

        ``least``: the seconds that this part has at least.
        """
        self.left, self._until = max(self._seconds, least), None

    def limit(self) -> float:
        """Return how many seconds the next exchange may take."""
        waiting = 0.0 if self._until is None else max(self._until - self._clock(), 0.0)
        return max(self.left, 0.0) + waiting

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Count the time that passes meanwhile."""
        began = self._clock()
        try:
            yield
        finally:
            until = self._until
            self.left -= max(self._clock() - (began if until is None else max(began, until)), 0.0)
