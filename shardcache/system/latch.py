"""A latch: threads wait until it is opened.

Theory
------
Foreign code can run in the middle of this code: a `__del__` that the garbage collector calls, at
nearly any allocation, and a signal handler, between any two steps of the main thread. A handler
may raise, and both may call the client again. So the state that threads share here

- is changed by single atomic operations (of an attribute, a deque, a dict), under no lock: a lock
  that the same thread holds already, in an outer call, would never be released;
- is valid at every moment: if a thread is interrupted in the middle, nothing is harmed, or the
  next thread sees and mends it;
- is made when it is first used: made before gevent has patched the process, it would stop the
  whole process, and made before a fork, it might be held by a thread that the child does not have.

The standard library's Event, Condition and Semaphore have none of these properties: they hold a
plain lock while Python code runs, and a handler that raises as they acquire it leaves it held.
"""

import threading
import time
from collections import deque
from contextlib import suppress

__all__ = ("SLICE", "Latch")

# Seconds after which a waiting thread looks for itself, because the thread that should have woken
# it may have been interrupted.
SLICE = 1.0


class Latch:
    """Closed until it is opened, and open from then on."""

    __slots__ = ("_waiting", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        # A lock for each waiting thread, held until that thread is to look again.
        self._waiting: deque[threading.Lock] = deque()

    def open(self) -> None:
        """Let all waiting threads go on. Opening it again has no effect."""
        self.is_open = True
        while self._waiting:
            try:
                self._waiting.popleft().release()
            except (IndexError, RuntimeError):  # another thread was faster
                continue

    def wait(self, timeout: float | None) -> bool:
        """Return whether it is open within ``timeout`` seconds (None: without a limit)."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.is_open:
            left = SLICE if end is None else min(end - time.monotonic(), SLICE)
            if left <= 0:
                return self.is_open
            self._pause(left)
        return True

    def _pause(self, seconds: float) -> None:
        """Wait until a thread opens it, for ``seconds`` at most."""
        lock = threading.Lock()
        try:
            lock.acquire()
            self._waiting.append(lock)
            # Looked at after the append: `open` sets the attribute before it reads the deque.
            if not self.is_open:
                lock.acquire(timeout=seconds)
        finally:
            # It is not in there if it was woken, or interrupted before the append.
            with suppress(ValueError, IndexError):
                self._waiting.remove(lock)
