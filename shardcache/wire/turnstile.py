"""Callers that wait for a connection or for room on it: first come, first served, one timer for all."""

import asyncio
import math
from collections import deque
from copy import copy

__all__ = ("Turnstile",)


class Turnstile:
    """A queue of waiting callers, each with a deadline. Deadlines grow from head to tail."""

    __slots__ = ("_loop", "_timer", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[asyncio.Future[None], float, int]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, deadline: float, size: int = 0) -> "asyncio.Future[None]":
        """Queue a caller with ``size`` bytes to send; return a future that ends with this caller's turn, or with TimeoutError at ``deadline``."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((future, deadline, size))
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._tick)
        return future

    def let_in(self, calls: int, room: float = math.inf) -> tuple[int, int]:
        """Give callers their turn while there are calls and bytes of room; return how many of each it took.

        Those that gave up do not count. The last one may be larger than what is left, or nobody with
        more than the whole room would ever have a turn.
        """
        waiting = self._waiting
        took = size = 0
        while took < calls and size < room and waiting:
            future, _, wanted = waiting.popleft()
            if not future.done():
                future.set_result(None)
                took += 1
                size += wanted
        if not waiting:
            self._rest()
        return took, size

    def turn_away(self, error: BaseException) -> None:
        """End everybody's waiting with ``error``."""
        waiting, self._waiting = self._waiting, deque()
        self._rest()
        for future, *_ in waiting:
            if not future.done():
                future.set_exception(copy(error))

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        waiting = self._waiting
        while waiting and (waiting[0][1] <= now or waiting[0][0].done()):
            future, *_ = waiting.popleft()
            if not future.done():
                future.set_exception(TimeoutError("no room on the connection before the deadline"))
        if waiting:
            self._timer = self._loop.call_at(max(waiting[0][1], now + 0.001), self._tick)
