"""A line before each lock: of all in one process who wait for it, one competes with the rest of the fleet."""

import asyncio
import math
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from weakref import WeakKeyDictionary

__all__ = ("AsyncLine", "Line")

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


class Line:
    """First come, first served, for threads."""

    __slots__ = ("_guard", "_waiting")

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: dict[bytes, deque[threading.Event]] = {}  # the first of each line is not waiting any more

    @contextmanager
    def turn(self, key: bytes, timeout: float | None, late: Callable[[], None] | None = None) -> Iterator[bool]:
        """Wait for this thread's turn; yield whether it came within ``timeout`` seconds (None or inf: whenever it comes).

        ``late`` is called if that has taken a second.
        """
        turn = threading.Event()
        with self._guard:
            line = self._waiting.setdefault(key, deque())
            line.append(turn)
            if len(line) == 1:
                turn.set()
        try:
            first, rest = _split(timeout)
            came = turn.wait(first)
            if not came and rest != 0:
                if late is not None:
                    late()
                came = turn.wait(rest)
            yield came
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
    async def turn(
        self, key: bytes, timeout: float | None, late: Callable[[], None] | None = None
    ) -> AsyncIterator[bool]:
        """Wait for this task's turn; as `Line.turn`."""
        turn = asyncio.Event()
        lines = self._waiting.setdefault(asyncio.get_running_loop(), {})
        line = lines.setdefault(key, deque())
        line.append(turn)
        try:
            if line[0] is not turn:
                first, rest = _split(timeout)
                if not await _came(turn, first):
                    if rest == 0:
                        yield False
                        return
                    if late is not None:
                        late()
                    if not await _came(turn, rest):
                        yield False
                        return
            yield True
        finally:
            line.remove(turn)
            if line:
                line[0].set()
            else:
                del lines[key]
