"""A line before each lock: of all in one process who wait for it, one competes with the rest of the fleet."""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

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
    """First come, first served, for the tasks of one event loop."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[bytes, deque[asyncio.Event]] = {}

    async def enter(self, key: bytes, timeout: float | None) -> asyncio.Event | None:
        """Wait for this task's turn; return what to `leave` with, or None if it did not come within ``timeout`` seconds."""
        turn = asyncio.Event()
        line = self._waiting.setdefault(key, deque())
        line.append(turn)
        if len(line) > 1:
            try:
                async with asyncio.timeout(timeout):
                    await turn.wait()
            except BaseException as error:
                self.leave(key, turn)
                if isinstance(error, TimeoutError):
                    return None
                raise
        return turn

    def leave(self, key: bytes, turn: asyncio.Event) -> None:
        """Let the next one have its turn."""
        line = self._waiting[key]
        line.remove(turn)
        if line:
            line[0].set()
        else:
            del self._waiting[key]
