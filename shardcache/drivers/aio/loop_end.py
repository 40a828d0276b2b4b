"""What is done when an event loop ends: its connections are closed.

The tasks that opened them may be long gone by then.

A client may serve one `asyncio.run` after the other, and none of them closes it. An event loop has
no callback for its end, but it closes the asynchronous generators that are suspended on it
(`loop.shutdown_asyncgens`, which `asyncio.run` calls after it has cancelled all tasks). So one such
generator waits for each loop.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress

__all__ = ("at_loop_end",)


def at_loop_end(action: Callable[[], Awaitable[object]]) -> AsyncGenerator[None, None] | None:
    """Have ``action`` awaited when the running loop shuts down.

    Return a generator, to be kept alive until then. To ``aclose`` it earlier does the action too.
    Return None if the loop has shut down already.
    """
    if getattr(asyncio.get_running_loop(), "_asyncgens_shutdown_called", False):
        return None
    waiting = _wait(action)
    with suppress(StopIteration):
        waiting.asend(None).send(None)  # up to its yield: nothing is awaited before
    return waiting


async def _wait(action: Callable[[], Awaitable[object]]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await action()
