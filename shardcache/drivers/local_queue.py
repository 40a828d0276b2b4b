"""A line before each lock: of all in one process who wait for it, one competes with the rest of the fleet."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from shardcache.system.queue import Place, TurnQueue

__all__ = ("AsyncLocalQueue", "LocalQueue")

_LATE = 1.0  # seconds


def _split(timeout: float | None) -> tuple[float, float | None]:
    """Return the seconds until somebody is told, and those behind that: None for no end."""
    if timeout is None or timeout == math.inf:
        return _LATE, None
    return min(timeout, _LATE), max(timeout - _LATE, 0.0)


async def _came(turn: asyncio.Event, timeout: float | None) -> bool:
    try:
        async with asyncio.timeout(timeout):
            return await turn.wait()
    except TimeoutError:
        return False


class LocalQueue:
    """First come, first served, for threads."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        self._queues: dict[bytes, TurnQueue] = {}

    def join(self, key: bytes) -> Place:
        """Return a place in the line of ``key``: to be waited for by `came`, and to be given up by `leave`."""
        while True:
            queue = self._queues.setdefault(key, TurnQueue(1))
            place = queue.join()
            if self._queues.get(key) is queue:  # else it was taken away as empty in that moment
                return place

    def wait_turn(
        self, place: Place, timeout: float | None, on_slow: Callable[[], None] | None = None
    ) -> bool:
        """Return whether the turn of ``place`` came within ``timeout`` seconds (None or inf: whenever it comes).

        ``late`` is called if that has taken a second.
        """
        first, rest = _split(timeout)
        if place.wait(first):
            return True
        if rest == 0:
            return False
        if on_slow is not None:
            on_slow()
        return place.wait(rest)

    def leave(self, key: bytes, place: Place) -> None:
        """Give a place up. Should two lines come of one that was joined in this moment, two compete for a while: no harm."""
        place.leave()
        if not len(place.queue) and self._queues.get(key) is place.queue:
            self._queues.pop(key, None)


class AsyncLocalQueue:
    """First come, first served, for tasks; each event loop has lines of its own."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[bytes, deque[asyncio.Event]]
        ]
        self._waiting = WeakKeyDictionary()

    @asynccontextmanager
    async def wait_turn(
        self, key: bytes, timeout: float | None, on_slow: Callable[[], None] | None = None
    ) -> AsyncIterator[bool]:
        """Wait for this task's turn; as `Line.turn`."""
        turn = asyncio.Event()
        lines = self._waiting.setdefault(asyncio.get_running_loop(), {})
        line = lines.setdefault(key, deque())
        try:
            line.append(turn)
            if line[0] is not turn:
                first, rest = _split(timeout)
                if not await _came(turn, first):
                    if rest == 0:
                        yield False
                        return
                    if on_slow is not None:
                        on_slow()
                    if not await _came(turn, rest):
                        yield False
                        return
            yield True
        finally:
            if turn in line:
                line.remove(turn)
            if line:
                line[0].set()
            else:
                lines.pop(key, None)
