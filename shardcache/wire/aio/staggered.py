"""Several attempts at the same thing, of which one is enough (RFC 8305, section 5).

The first attempt starts at once, each further one when those before it have failed, or have had their time to
themselves. The first that succeeds ends the others.
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
    """Return what the first attempt to succeed returns; ``discard`` gets what others bring at the same time.

    ``delay``: seconds that each attempt has to itself. An attempt that ends with OSError makes room for the next one;
    when there are no more, the error that ``telling`` chooses is raised. Any other error is raised at once.
    """
    if len(attempts) == 1:
        return await attempts[0]()
    waiting = deque(attempts)
    running: set[asyncio.Task[T]] = set()
    errors: list[OSError] = []
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(_awaited(waiting.popleft())))
            done, _ = await asyncio.wait(
                running, timeout=delay if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
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
