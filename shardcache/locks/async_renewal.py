"""The task that renews one lease of an `AsyncQuorumLock`, and notices its end."""

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

from shardcache.locks.lease_handle import Hold
from shardcache.request_deadline import forget_deadline

__all__ = ("AsyncRenewal", "this_task")

Renew = Callable[[Hold], Coroutine[Any, Any, float | None]]


class AsyncRenewal:
    """Renews a lease until it ends, or until nothing refers to the lock any more.

    ``name``: the name of the lock.
    ``renew``: a method of the lock. It is called with the lease, and returns the seconds until the
        next call; None: there is none.
    ``hold``: the lease.
    ``pause``: seconds until the first call.

    A lock that nothing refers to can be released by nobody, so its ttl is to end the lease.
    """

    __slots__ = ("task",)

    def __init__(self, name: str, renew: Renew, hold: Hold, pause: float) -> None:
        self.task = asyncio.get_running_loop().create_task(
            _renew_on(weakref.WeakMethod(renew), hold, pause), name=f"shardcache renewal of {name}"
        )

    def end(self) -> None:
        """Cancel the task, from whatever thread or loop; a renewal that calls this goes on."""
        if self.task.done() or self.task is this_task():
            return
        loop = self.task.get_loop()
        if loop is _this_loop():
            self.task.cancel()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(self.task.cancel)

    async def wait(self) -> None:
        """Wait for the end of the task, if it is another task of the running loop."""
        if self.task.get_loop() is asyncio.get_running_loop() and self.task is not this_task():
            await asyncio.wait([self.task])


async def _renew_on(find: "weakref.WeakMethod[Renew]", hold: Hold, pause: float | None) -> None:
    forget_deadline()  # that of the call which took the lock
    while pause is not None:
        await asyncio.sleep(pause)
        renew = find()
        if renew is None:
            return
        pause = await renew(hold)
        del renew  # otherwise this task would keep the lock alive


def _this_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def this_task() -> "asyncio.Task[Any] | None":
    """Return the running task; None outside of an event loop."""
    return None if _this_loop() is None else asyncio.current_task()
