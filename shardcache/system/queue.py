"""Lines of threads that wait for their turn, first come, first served.

A line is a deque of weak references to places. `latch` says why no lock is used here.
"""

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from shardcache.system.latch import SLICE, Latch

__all__ = ("Line", "LocalQueue", "Place")

_SLOW = 1.0  # seconds of waiting after which the caller is told

Line = deque["weakref.ref[Place]"]


class Place:
    """One caller's place in a line, as long as it is referred to.

    So a caller that was interrupted has left the line. The first ``most`` places have their turn at
    the same time. A thread that has a place already, in an outer call, does not wait for itself: a
    finalizer or a signal handler that runs in between has its turn at once.
    """

    __slots__ = ("__weakref__", "_latch", "_most", "line", "thread")

    def __init__(self, line: Line | None = None, most: int = 1) -> None:
        self.line: Line = deque() if line is None else line
        self.thread = threading.get_ident()
        self._most = most
        self._latch: Latch | None = None  # there is one while the caller waits

    def join(self) -> Self:
        """Stand in the line, behind all others.

        The caller has the place before this, so that it can leave whatever interrupts it here.
        """
        self.line.append(weakref.ref(self))
        return self

    def wait(self, timeout: float | None) -> bool:
        """Return whether its turn has come within ``timeout`` seconds (None: without a limit)."""
        if len(self.line) <= self._most:
            return True
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            latch = self._latch = Latch()  # made before the look, so that no wake-up is lost
            if self._has_turn():
                return True
            left = SLICE if end is None else min(end - time.monotonic(), SLICE)
            if left <= 0:
                return False
            latch.wait(left)

    def look(self) -> None:
        """Wake the caller, if it waits: its turn may have come."""
        if self._latch is not None:
            self._latch.open()

    def leave(self) -> None:
        """Give the place up, and wake the next caller. Leaving again has no effect."""
        mine = weakref.ref(self)
        with suppress(ValueError):  # it is not in there
            while True:
                try:
                    self.line.remove(mine)
                    break
                except IndexError:  # the line was changed meanwhile
                    continue
        live = _live(self.line) if self.line else []
        if len(live) >= self._most:
            live[self._most - 1].look()

    def _has_turn(self) -> bool:
        ahead = 0
        for other in _live(self.line):
            if other is self:
                break
            if other.thread == self.thread:
                return True
            ahead += 1
        return ahead < self._most


def _live(line: Line) -> list[Place]:
    """Return the places in their order, without those that no caller refers to any more."""
    while True:
        try:
            refs = tuple(line)
            break
        except RuntimeError:  # changed meanwhile, by a finalizer in this thread
            continue
    live = []
    for ref in refs:
        place = ref()
        if place is not None:
            live.append(place)
            continue
        try:
            line.remove(ref)
        except (ValueError, IndexError):
            continue
    return live


class LocalQueue:
    """A line before each lock, by its key.

    Of all threads in one process that wait for a lock, one competes with the rest of the fleet.
    """

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[bytes, Line] = {}

    def join(self, key: bytes, place: Place | None = None) -> Place:
        """Return a place in the line of ``key``, for `wait_turn` and then for `leave`.

        ``place``: a new one, if the caller wants to have it before it stands in the line.
        """
        place = Place() if place is None else place
        while True:
            place.line = line = self._lines.setdefault(key, deque())
            place.join()
            if self._lines.get(key) is line:  # else it was taken away as empty in that moment
                return place

    def wait_turn(
        self, place: Place, timeout: float | None, on_slow: Callable[[], None] | None = None
    ) -> bool:
        """Return whether the turn of ``place`` came within ``timeout`` seconds.

        ``timeout``: None or inf: without a limit.
        ``on_slow``: is called when that has taken a second.
        """
        first = _SLOW if timeout is None else min(timeout, _SLOW)
        if place.wait(first):
            return True
        if first == timeout:
            return False
        if on_slow is not None:
            on_slow()
        return place.wait(None if timeout is None else timeout - first)

    def leave(self, key: bytes, place: Place) -> None:
        """Give a place up.

        If another thread joins the line in the moment in which it is taken away as empty, two
        lines of this key exist for a while, and two threads compete: that does no harm.
        """
        place.leave()
        if not place.line and self._lines.get(key) is place.line:
            self._lines.pop(key, None)
