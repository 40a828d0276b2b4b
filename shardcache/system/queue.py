"""A queue of threads that wait for their turn, first come, first served.

`latch` says why no lock is used here.
"""

import threading
import time
import weakref
from collections import deque
from contextlib import suppress

from shardcache.system.latch import SLICE, Latch

__all__ = ("Place", "TurnQueue")


class Place:
    """One caller's place in a queue, as long as it is referred to.

    So a caller that was interrupted has left the queue.
    """

    __slots__ = ("__weakref__", "_latch", "queue", "thread")

    def __init__(self, queue: "TurnQueue") -> None:
        self.queue = queue
        self.thread = threading.get_ident()
        self._latch = Latch()

    def wait(self, timeout: float | None) -> bool:
        """Return whether its turn has come within ``timeout`` seconds (None: without a limit)."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.queue.has_turn(self):
            left = SLICE if end is None else min(end - time.monotonic(), SLICE)
            if left <= 0:
                return False
            if self._latch.wait(left):
                self._latch = Latch()  # made before the next look, so that no wake-up is lost
        return True

    def look(self) -> None:
        """Wake the caller: its turn may have come."""
        self._latch.open()

    def leave(self) -> None:
        """Give the place up. Leaving again has no effect."""
        self.queue.remove(self)


class TurnQueue:
    """The first ``most`` callers have their turn at the same time.

    A thread that has a place already, in an outer call, does not wait for itself: a finalizer or a
    signal handler that runs in between has its turn at once.
    """

    __slots__ = ("_most", "_places")

    def __init__(self, most: int) -> None:
        self._most = most
        self._places: deque[weakref.ref[Place]] = deque()

    def __len__(self) -> int:
        return len(self._places)

    def join(self) -> Place:
        """Return a place behind all others."""
        place = Place(self)
        self._places.append(weakref.ref(place))
        return place

    def has_turn(self, place: Place) -> bool:
        """Return whether it is the turn of ``place``."""
        if len(self._places) <= self._most:
            return True
        ahead = 0
        for other in self._live():
            if other is place:
                break
            if other.thread == place.thread:
                return True
            ahead += 1
        return ahead < self._most

    def remove(self, place: Place) -> None:
        """Take a place away, and wake the next caller."""
        # It is not in there, or the deque was changed meanwhile, which `_live` finds out.
        with suppress(ValueError, IndexError):
            self._places.remove(weakref.ref(place))
        live = self._live() if self._places else []
        if len(live) >= self._most:
            live[self._most - 1].look()

    def _live(self) -> list[Place]:
        """Return the places in their order, without those that no caller refers to any more."""
        while True:
            try:
                refs = tuple(self._places)
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
                self._places.remove(ref)
            except (ValueError, IndexError):
                continue
        return live
