"""Callers that wait for a connection or for room on it: first come, first served, one timer for all."""

import asyncio
from collections import deque
from copy import copy

__all__ = ("Turnstile",)


class Turnstile:
    """A queue of waiting callers, each with a deadline. Deadlines grow from head to tail."""

    __slots__ = ("_loop", "_timer", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, deadline: float) -> "asyncio.Future[None]":
        """Return a future that ends with this caller's turn, or with TimeoutError at ``deadline``."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((future, deadline))
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._tick)
        return future

    def let_in(self, count: int) -> None:
        """Give ``count`` callers their turn; those that gave up do not count."""
        waiting = self._waiting
        while count > 0 and waiting:
            future, _ = waiting.popleft()
            if not future.done():
                future.set_result(None)
                count -= 1
        if not waiting:
            self._rest()

    def turn_away(self, error: BaseException) -> None:
        """End everybody's waiting with ``error``."""
        waiting, self._waiting = self._waiting, deque()
        self._rest()
        for future, _ in waiting:
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
            future, _ = waiting.popleft()
            if not future.done():
                future.set_exception(TimeoutError("no room on the connection before the deadline"))
        if waiting:
            self._timer = self._loop.call_at(max(waiting[0][1], now + 0.001), self._tick)
