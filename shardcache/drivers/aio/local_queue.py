"""A line of tasks before each lock: one of those that wait for it competes with the fleet."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

__all__ = ("AsyncLocalQueue",)

_SLOW = 1.0  # seconds of waiting after which the caller is told


async def _came(turn: asyncio.Event, timeout: float | None) -> bool:
    try:
        async with asyncio.timeout(timeout):
            return await turn.wait()
    except TimeoutError:
        return False


class AsyncLocalQueue:
    """As `LocalQueue` of `system/queue.py`, for tasks; each event loop has lines of its own."""

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
        """Wait for this task's turn, as `LocalQueue.wait_turn` does for a thread's."""
        turn = asyncio.Event()
        lines = self._waiting.setdefault(asyncio.get_running_loop(), {})
        line = lines.setdefault(key, deque())
        try:
            line.append(turn)
            yield line[0] is turn or await _wait(turn, timeout, on_slow)
        finally:
            if turn in line:
                line.remove(turn)
            if line:
                line[0].set()
            else:
                lines.pop(key, None)


async def _wait(
    turn: asyncio.Event, timeout: float | None, on_slow: Callable[[], None] | None
) -> bool:
    """Return whether ``turn`` came within ``timeout`` seconds (None or inf: without a limit)."""
    if timeout == math.inf:
        timeout = None
    first = _SLOW if timeout is None else min(timeout, _SLOW)
    if await _came(turn, first):
        return True
    if first == timeout:
        return False
    if on_slow is not None:
        on_slow()
    return await _came(turn, None if timeout is None else timeout - first)
