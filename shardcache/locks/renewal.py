"""The thread that renews one lease of a `QuorumLock`."""

import threading
import weakref
from typing import Protocol

from shardcache.locks.hold import Hold

__all__ = ("Renewal",)


class Renews(Protocol):
    """A lock that can be told to renew."""

    @property
    def name(self) -> str: ...

    def _renew(self, hold: Hold) -> float | None: ...


class Renewal(threading.Thread):
    """Renews until the lease ends, or nobody has the lock any more: what nobody can release shall end by its ttl."""

    def __init__(self, lock: Renews, hold: Hold, pause: float) -> None:
        super().__init__(name=f"shardcache renewal of {lock.name}", daemon=True)
        self._lock = weakref.ref(lock)
        self._hold = hold
        self._first = pause
        self._ended = threading.Event()

    def end(self) -> None:
        """Renew no more. What is under way is not waited for."""
        self._ended.set()

    def run(self) -> None:
        pause: float | None = self._first
        while pause is not None and not self._ended.wait(pause):
            lock = self._lock()
            if lock is None:
                return
            pause = lock._renew(self._hold)
            del lock  # or it would never be nobody's
