"""Renewing the locks of loads that run: one thread of a client, while there is one to renew."""

import heapq
import queue
from collections.abc import Callable
from contextlib import suppress
from itertools import count

from shardcache.errors import ThreadNotStarted
from shardcache.events import Hook
from shardcache.system.threads import Worker

__all__ = ("LeaseRenewer", "LoadRenewal")

_IDLE = 5.0  # seconds after which the thread ends


class LoadRenewal:
    """One load that runs.

    ``renew``: called every ``gap`` seconds, until it returns False or ``stopped`` is set.
    ``due``: when next, in seconds of the renewer's clock.
    """

    __slots__ = ("due", "gap", "renew", "stopped")

    def __init__(self, gap: float, renew: Callable[[], bool]) -> None:
        self.gap = gap
        self.renew = renew
        self.due = 0.0
        self.stopped = False


class LeaseRenewer:
    """Calls what is due. Most loads are over before they are.

    Nothing here is locked. Loads put their renewals into a queue, which is allowed anywhere, and
    the thread alone has them in order. Should two loads that come at once start a thread each,
    each thread renews what it takes from the queue.
    """

    __slots__ = ("_clock", "_hook", "_numbers", "_queues", "_worker")

    def __init__(self, clock: Callable[[], float], hook: Hook | None = None) -> None:
        self._clock = clock
        self._hook = hook
        # One, made when it is first used (see `latch.py`).
        self._queues: dict[str, queue.SimpleQueue[LoadRenewal]] = {}
        self._numbers = count()
        self._worker: Worker | None = None

    @property
    def _new(self) -> "queue.SimpleQueue[LoadRenewal]":
        return self._queues.get("new") or self._queues.setdefault("new", queue.SimpleQueue())

    def add(self, renewal: LoadRenewal) -> None:
        """Begin to renew.

        Without a thread that does not happen before a later load has one: an event tells.
        """
        renewal.due = self._clock() + renewal.gap
        self._new.put(renewal)
        # Looked at behind the put: a thread that ends says so before it looks for the last time.
        if self._worker is None or not self._worker.is_alive():
            self._worker = worker = Worker("keeper of load locks", lambda: self._run(worker))
            with suppress(ThreadNotStarted):
                worker.begin(self._hook, "renew")

    def _run(self, worker: Worker) -> None:
        due: list[tuple[float, int, LoadRenewal]] = []
        while True:
            while due and due[0][2].stopped:
                heapq.heappop(due)
            wait = due[0][0] - self._clock() if due else _IDLE
            renewal = self._next(wait)
            if renewal is not None:
                heapq.heappush(due, (renewal.due, next(self._numbers), renewal))
            elif due:
                self._renew(due)
            else:
                if self._worker is worker:
                    self._worker = None
                # One may have come before anybody could see that this thread ends.
                renewal = self._next(0)
                if renewal is None:
                    return
                heapq.heappush(due, (renewal.due, next(self._numbers), renewal))

    def _next(self, wait: float) -> LoadRenewal | None:
        """Return what is new within ``wait`` seconds."""
        try:
            return self._new.get(timeout=max(wait, 0.0))
        except queue.Empty:
            return None

    def _renew(self, due: list[tuple[float, int, LoadRenewal]]) -> None:
        """Renew what is due first, if it is due."""
        if due[0][0] > self._clock():
            return
        renewal = heapq.heappop(due)[2]
        if renewal.stopped:
            return
        try:
            goes_on = renewal.renew()
        # A failed renewal is tried again: there are two more within the ttl of the lock.
        except Exception:  # noqa: BLE001
            goes_on = True
        if goes_on and not renewal.stopped:
            heapq.heappush(due, (self._clock() + renewal.gap, next(self._numbers), renewal))
