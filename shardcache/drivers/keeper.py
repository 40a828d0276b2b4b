"""Renewing the locks of loads that run: one thread for all of a client, and none while there is nothing to renew."""

import heapq
import threading
from collections.abc import Callable
from itertools import count

__all__ = ("Keeper", "Kept")

_IDLE = 5.0  # seconds after which the thread ends


class Kept:
    """One load that runs: ``renew`` is called every ``gap`` seconds until it returns False, raises, or `stop`."""

    __slots__ = ("gap", "renew", "stopped")

    def __init__(self, gap: float, renew: Callable[[], bool]) -> None:
        self.gap = gap
        self.renew = renew
        self.stopped = False

    def stop(self) -> None:
        """Renew no more."""
        self.stopped = True


class Keeper:
    """Calls what is due. Most loads are over before they are."""

    __slots__ = ("_clock", "_due", "_guard", "_numbers", "_running")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._guard = threading.Condition()
        self._due: list[tuple[float, int, Kept]] = []
        self._numbers = count()
        self._running = False

    def keep(self, gap: float, renew: Callable[[], bool]) -> Kept:
        """Begin to call ``renew``."""
        kept = Kept(gap, renew)
        with self._guard:
            self._push(kept)
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="shardcache keeper of load locks", daemon=True).start()
            elif self._due[0][2] is kept:
                self._guard.notify()
        return kept

    def _push(self, kept: Kept) -> None:
        heapq.heappush(self._due, (self._clock() + kept.gap, next(self._numbers), kept))

    def _next(self) -> Kept | None:
        """Wait for what is due; None when there has been nothing for a while."""
        with self._guard:
            while True:
                while self._due and self._due[0][2].stopped:
                    heapq.heappop(self._due)
                if not self._due:
                    if not self._guard.wait(_IDLE) and not self._due:
                        self._running = False
                        return None
                    continue
                wait = self._due[0][0] - self._clock()
                if wait <= 0:
                    return heapq.heappop(self._due)[2]
                self._guard.wait(wait)

    def _run(self) -> None:
        while (kept := self._next()) is not None:
            try:
                goes_on = kept.renew()
            except Exception:  # noqa: BLE001  a failed renewal is tried again: the lock has two more in its ttl
                goes_on = True
            if goes_on and not kept.stopped:
                with self._guard:
                    self._push(kept)
