"""Callers that wait for a connection, or for room on it.

They are served in the order of their coming, and one timer serves all of them.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
from copy import copy

from shardcache.flows.own_pause import LOOK, held_up
from shardcache.wire.aio.pending_reply import PendingReply

__all__ = ("SendQueue",)


class SendQueue:
    """A queue of calls that are yet to be sent. Deadlines grow from head to tail.

    ``on_gone``: is told of each that leaves for another reason than its turn: its deadline
        (TimeoutError), or the error that `fail_all` was given.
    """

    __slots__ = ("_due", "_loop", "_on_gone", "_timer", "waiting")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_gone: Callable[[PendingReply, Exception], None]
    ) -> None:
        self._loop = loop
        self._on_gone = on_gone
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf
        self.waiting: deque[PendingReply] = deque()

    def __len__(self) -> int:
        return len(self.waiting)

    def wait(self, pending: PendingReply) -> None:
        """Put a call behind those that wait."""
        self.waiting.append(pending)
        self._watch(pending[1])

    def put_back(self, calls: Iterable[PendingReply]) -> None:
        """Put calls that have had their turn before those that wait, in their order."""
        for pending in reversed(list(calls)):
            self.waiting.appendleft(pending)
            self._watch(pending[1])

    def take(self, wanted: Callable[[PendingReply], bool]) -> list[PendingReply]:
        """Take out those that are ``wanted``, in their order, wherever they stand."""
        taken = [pending for pending in self.waiting if wanted(pending)]
        if taken:
            self.waiting = deque(pending for pending in self.waiting if not wanted(pending))
        return taken

    def next(self) -> PendingReply | None:
        """Return the first call that is still awaited, or None. Its turn has come."""
        found = None
        while self.waiting and found is None:
            pending = self.waiting.popleft()
            if not pending[0].done():
                found = pending
        if not self.waiting:
            self._rest()
        return found

    def fail_all(self, error: Exception) -> None:
        """End the waiting of all calls with ``error``."""
        waiting, self.waiting = self.waiting, deque()
        self._rest()
        for pending in waiting:
            if not pending[0].done():
                again = copy(error)  # each gets its own, for a raise adds to the traceback
                again.__cause__ = error.__cause__
                self._on_gone(pending, again)

    def _watch(self, deadline: float) -> None:
        if deadline < self._due:
            self._rest()
            self._due = deadline
            self._timer = self._loop.call_at(deadline, self._tick)

    def _rest(self) -> None:
        self._due = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        """The first call may be due: end it.

        If this timer comes so late that the process must have stood still, wait for a moment more.
        """
        now, due = self._loop.time(), self._due
        self._rest()
        if held_up(now, due):
            self._due = -math.inf  # no other timer meanwhile
            self._timer = self._loop.call_at(now + LOOK, self.expire)
        else:
            self.expire()

    def expire(self) -> None:
        """End the waiting of those whose deadline has passed."""
        self._rest()
        now = self._loop.time()
        waiting = self.waiting
        overdue = []
        while waiting and (waiting[0][1] <= now or waiting[0][0].done()):
            overdue.append(waiting.popleft())
        if waiting:
            self._watch(max(waiting[0][1], now + 0.001))
        for pending in overdue:
            if not pending[0].done():
                self._on_gone(
                    pending, TimeoutError("no room on the connection before the deadline")
                )
