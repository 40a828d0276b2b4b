"""The thread that renews one lease of a `QuorumLock`."""

import weakref
from typing import Protocol

from shardcache.locks.lease_handle import Hold
from shardcache.system.threads import Worker

__all__ = ("Renewal",)


class Renews(Protocol):
    """A lock that can be told to renew."""

    @property
    def name(self) -> str: ...

    def _renew(self, hold: Hold) -> float | None: ...

    def _pause(self, hold: Hold, outcome: str) -> float: ...


class Renewal(Worker):
    """Renews until the lease ends, or nobody has the lock any more: what nobody can release shall end by its ttl.

    Told to `look`, it reckons anew when the next time is: with another ttl it may be sooner.
    """

    def __init__(self, lock: Renews, hold: Hold, pause: float) -> None:
        super().__init__(f"renewal of {lock.name}", self._renew)
        self._lock = weakref.ref(lock)
        self._hold = hold
        self._first = pause

    def _renew(self) -> None:
        pause: float | None = self._first
        while pause is not None and (why := self.pause(pause)) != "end":
            lock = self._lock()
            if lock is None:
                return
            pause = (
                lock._renew(self._hold) if why == "over" else lock._pause(self._hold, "extended")
            )
            del lock  # or it would never be nobody's
