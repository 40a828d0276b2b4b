"""The thread that renews one lease of a `QuorumLock`."""

import weakref
from collections.abc import Callable

from shardcache.locks.lease_handle import Hold
from shardcache.system.threads import Worker

__all__ = ("Renewal",)

Renew = Callable[[Hold, bool], float | None]


class Renewal(Worker):
    """Renews a lease until it ends, or until nothing refers to the lock any more.

    ``name``: the name of the lock.
    ``renew``: a method of the lock. It is called with the lease, and with whether the time to renew
        it has come, and returns the seconds until the next time; None: there is none.
    ``hold``: the lease.
    ``pause``: seconds until the first renewal.

    A lock that nothing refers to can be released by nobody, so its ttl is to end the lease. `look`
    makes it compute the next time anew: with another ttl it may be sooner.
    """

    def __init__(self, name: str, renew: Renew, hold: Hold, pause: float) -> None:
        super().__init__(f"renewal of {name}", self._renew_on)
        self._renew = weakref.WeakMethod(renew)
        self._hold = hold
        self._first = pause

    def _renew_on(self) -> None:
        pause: float | None = self._first
        while pause is not None and (why := self.pause(pause)) != "end":
            renew = self._renew()
            if renew is None:
                return
            pause = renew(self._hold, why == "over")
            del renew  # otherwise this thread would keep the lock alive
