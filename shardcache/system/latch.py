"""Waiting for something to be so, in threads.

Theory
------
Foreign code runs in the middle of ours: a `__del__` that the garbage collector calls, at nearly any allocation, and signal handlers,
between any two steps of the main thread, which may raise. Either may call the client again. So whatever threads share here

- is changed by single steps that the interpreter carries out whole (an attribute, a deque, a dict), under no lock: a lock that
  this very thread holds further out would never come free;
- is true at every moment: what somebody was broken off in the middle of harms nobody, or is seen by the next one;
- is made when it is first used: made before gevent has patched the process, it would stop all of it, and made before a fork, it
  might be held by a thread that has not come along.

The standard library's Event, Condition and Semaphore keep none of this: they hold a plain lock while Python code runs, and a handler that
raises as they take it leaves it held.
"""

import threading
import time
from collections import deque
from contextlib import suppress

__all__ = ("SLICE", "Latch")

SLICE = 1.0  # seconds after which who waits looks for itself: who was to wake it may have been broken off


class Latch:
    """Closed until it is opened, and open from then on."""

    __slots__ = ("_waiting", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        self._waiting: deque[threading.Lock] = (
            deque()
        )  # a lock for each who waits, held until it is to look again

    def open(self) -> None:
        """Let everybody go on. Opening it twice is opening it."""
        self.is_open = True
        while self._waiting:
            try:
                self._waiting.popleft().release()
            except (IndexError, RuntimeError):  # somebody else was faster
                continue

    def wait(self, timeout: float | None) -> bool:
        """Return whether it is open within ``timeout`` seconds (None: however long it takes)."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.is_open:
            left = SLICE if end is None else min(end - time.monotonic(), SLICE)
            if left <= 0:
                return self.is_open
            self._pause(left)
        return True

    def _pause(self, seconds: float) -> None:
        """Wait until somebody opens it, for ``seconds`` at most."""
        lock = threading.Lock()
        try:
            lock.acquire()
            self._waiting.append(lock)
            if (
                not self.is_open
            ):  # looked at behind the append: who opens looks at the deque behind that
                lock.acquire(timeout=seconds)
        finally:
            with suppress(
                ValueError, IndexError
            ):  # it was woken, or broken off before it was in there
                self._waiting.remove(lock)
