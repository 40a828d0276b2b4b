"""A line before each lock: of all in one process who wait for it, one competes with the rest of the fleet."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from weakref import WeakKeyDictionary

__all__ = ("AsyncLine", "Line")


class Line:
    """First come, first served, for threads."""

    __slots__ = ("_guard", "_waiting")

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: dict[bytes, deque[threading.Event]] = {}  # the first of each line is not waiting any more

    @contextmanager
    def turn(self, key: bytes, timeout: float | None) -> Iterator[bool]:
        """Wait for this thread's turn; yield whether it came within ``timeout`` seconds."""
        turn = threading.Event()
        with self._guard:
            line = self._waiting.setdefault(key, deque())
            line.append(turn)
            if len(line) == 1:
                turn.set()
        try:
            yield turn.wait(timeout)
        finally:
            with self._guard:
                line.remove(turn)
                if line:
                    line[0].set()
                else:
                    del self._waiting[key]


class AsyncLine:
    """First come, first served, for tasks; each event loop has lines of its own."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[bytes, deque[asyncio.Event]]]
        self._waiting = WeakKeyDictionary()

    @asynccontextmanager
    async def turn(self, key: bytes, timeout: float | None) -> AsyncIterator[bool]:
        """Wait for this task's turn; yield whether it came within ``timeout`` seconds."""
        turn = asyncio.Event()
        lines = self._waiting.setdefault(asyncio.get_running_loop(), {})
        line = lines.setdefault(key, deque())
        line.append(turn)
        try:
            if line[0] is not turn:
                try:
                    async with asyncio.timeout(timeout):
                        await turn.wait()
                except TimeoutError:
                    yield False
                    return
            yield True
        finally:
            line.remove(turn)
            if line:
                line[0].set()
            else:
                del lines[key]
