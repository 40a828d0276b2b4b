"""Virtual time: one heap of events, and the notes of what happened."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, NamedTuple

__all__ = ("Note", "World")


class Note(NamedTuple):
    """One line of a history.

    ``at``: true time, in seconds.
    ``who``: the client, the server, or a part of the simulation.
    ``what``: what happened.
    """

    at: float
    who: str
    what: str

    def __str__(self) -> str:
        return f"{self.at:10.4f}  {self.who:<8} {self.what}"


class World:
    """True time, which no client can read, and the events to come.

    ``noted``: whether to note everything that happens.
    """

    __slots__ = ("_heap", "_order", "happened", "notes", "now")

    def __init__(self, *, noted: bool) -> None:
        self.now = 0.0
        self.notes: list[Note] | None = [] if noted else None
        self.happened = 0
        self._heap: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._order = 0

    def at(self, when: float, act: Callable[[Any], None], subject: Any) -> None:
        """Plan the call ``act(subject)``; calls at the same time keep the order of planning."""
        self._order += 1
        heappush(self._heap, (when, self._order, act, subject))

    def note(self, who: str, what: str) -> None:
        """Write a line; a caller makes the text only if ``notes`` is not None."""
        if self.notes is not None:
            self.notes.append(Note(self.now, who, what))

    def run(self, most: int) -> bool:
        """Carry out all events; return False if there is no end after ``most`` of them."""
        heap = self._heap
        for self.happened in range(most):
            if not heap:
                return True
            self.now, _, act, subject = heappop(heap)
            act(subject)
        return False
