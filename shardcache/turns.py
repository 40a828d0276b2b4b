"""Work on many keys by parts, so that an event loop does not stand still for all of them."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

__all__ = ("IN_ONE_TURN", "Turns", "in_turns", "parts_of")

T = TypeVar("T")
R = TypeVar("R")
IN_ONE_TURN = 1000  # keys that are packed or decoded while others wait


def parts_of(items: list[T]) -> list[list[T]]:
    """Return the items by parts that one turn of the loop can bear."""
    return [items[at : at + IN_ONE_TURN] for at in range(0, len(items), IN_ONE_TURN)]


class Turns:
    """Spreads over the turns of the loop what replies that came together wake at once."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def next(self) -> None:
        """Return in a turn of the loop without any other waiter, first come, first served."""
        async with self._lock:
            await asyncio.sleep(0)


async def in_turns(work: Callable[[T], Coroutine[Any, Any, R]], parts: Sequence[T]) -> list[R]:
    """Begin the work on each part in its own turn of the loop; return the results in their order.

    The parts are under way at once. When one fails, or the caller is cancelled, the others are
    cancelled.
    """
    tasks: list[asyncio.Task[R]] = []
    try:
        for part in parts:
            tasks.append(asyncio.create_task(work(part)))
            await asyncio.sleep(0)
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
