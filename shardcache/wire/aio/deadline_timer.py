"""One timer for the deadlines of all calls on a connection.

All calls have the same time to live, so the oldest is the first to be overdue: no timer per call.
"""

import asyncio
import math
from collections import deque
from typing import Protocol

from shardcache.flows.own_pause import held_up, longer
from shardcache.wire.aio.pending_reply import PendingReply, lose

__all__ = ("DeadlineTimer", "Timed")


class Timed(Protocol):
    """What the timer is of: an `AsyncConnection`.

    ``queue``: the calls that are owed replies.
    ``timeout``: seconds that a call waits for a reply.
    """

    queue: deque[PendingReply]
    timeout: float

    def wake_at(self, due: float) -> None:
        """Set the timer."""

    def end(self, error: Exception) -> None:
        """End the connection."""

    def room(self) -> None:
        """Say that there may be room for more calls."""


class DeadlineTimer:
    """Ends the calls whose deadline has passed, and the connection when its server hangs.

    It hangs if the oldest call is overdue for a whole further deadline. That counts from when this
    process could listen again, if it stood still.

    ``due``: when the timer is due; infinite if it does not run.
    """

    __slots__ = ("_connection", "_listening", "_loop", "_timer", "due")

    def __init__(self, connection: Timed, loop: asyncio.AbstractEventLoop) -> None:
        self.due = math.inf
        self._connection = connection
        self._listening = -math.inf  # since when: when this process was last found to stand still
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def set(self, due: float) -> None:
        """Wake up at this time, and at no other."""
        self.clear()
        self.due = due
        self._timer = self._loop.call_at(due, self._tick)

    def clear(self) -> None:
        """Wake up no more."""
        self.due = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        """The oldest call may be due: read what has come in meanwhile, then judge.

        The loop runs timers before it reads, if it was held up. So the judgement waits until it has
        read once; or for a moment more, if this timer comes so late that the process must have
        stood still.
        """
        now, due = self._loop.time(), self.due
        self.clear()
        self.due = -math.inf  # no other timer meanwhile
        if held_up(now, due):
            self._listening = now
        due = now + longer(now, due)
        self._timer = self._loop.call_at(due, self._judge, due)

    def _judge(self, due: float) -> None:
        """Time out the calls whose deadline has passed; look again when the next may be due."""
        self.clear()
        now = self._loop.time()
        if held_up(now, due):  # once more, just before this
            self.due = due
            self._tick()
            return
        # A connection whose oldest call is overdue for a whole further deadline is given up.
        connection = self._connection
        queue = connection.queue
        if queue and (gone := max(queue[0][1], self._listening) + connection.timeout) <= now:
            connection.end(TimeoutError("no reply before the deadline"))
            return
        due = math.inf
        late = []
        for pending in queue:
            if pending[1] > now:
                due = min(due, pending[1])
            else:
                late.append(pending)
        if queue:
            # A millisecond more, so that thousands of calls that are due one after the other are
            # timed out in batches.
            connection.wake_at(min(max(due, now + 0.001), gone))
        for pending in late:
            lose(pending, TimeoutError("no reply before the deadline"))
        if late:
            connection.room()
