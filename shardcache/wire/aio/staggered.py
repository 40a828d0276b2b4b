"""Several attempts at the same thing, of which one is enough (RFC 8305, section 5).

The first attempt starts at once. Each further attempt starts when those before it have failed,
or when their head start is over. The first one that succeeds ends the others.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

__all__ = ("first_success",)

T = TypeVar("T")


async def first_success(
    attempts: Sequence[Callable[[], Awaitable[T]]],
    delay: float,
    discard: Callable[[T], object],
    telling: Callable[[list[OSError]], OSError],
) -> T:
    """Return the result of the first attempt that succeeds.

    When an attempt ends with OSError, the next one starts at once. When all have, the error that
    ``telling`` chooses is raised. Any other error is raised at once.

    ``delay``: the head start of each attempt, in seconds.
    ``discard``: is called with the result of each other attempt that succeeds at the same time.
    """
    if len(attempts) == 1:
        return await attempts[0]()
    waiting = deque(attempts)
    running: set[asyncio.Task[T]] = set()
    errors: list[OSError] = []
    try:
        while waiting or running:
            # Each turn starts one more attempt, and waits until one ends or the delay is over.
            if waiting:
                running.add(asyncio.create_task(_awaited(waiting.popleft())))
            done, _ = await asyncio.wait(
                running, timeout=delay if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            # Successes come first: a failure at the same moment must not hide one.
            for task in sorted(done, key=_failed):
                try:
                    result = task.result()
                except OSError as error:
                    errors.append(error)
                    running.discard(task)
                else:
                    running.discard(task)
                    return result
        raise telling(errors)
    finally:
        # An attempt can still succeed while it is being cancelled; its result is discarded.
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        for task in running:
            if not task.cancelled() and task.exception() is None:
                discard(task.result())


def _failed(task: "asyncio.Task[Any]") -> bool:
    return task.cancelled() or task.exception() is not None


async def _awaited(attempt: Callable[[], Awaitable[T]]) -> T:
    return await attempt()
