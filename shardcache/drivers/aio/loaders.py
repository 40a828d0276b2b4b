"""Running the callers' loaders in tasks: so many at a time, each within its timeout.

While a loader waits for its permit and while it runs, its locks are renewed.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from shardcache.drivers.active_load import ActiveLoad, active_loads, set_active_loads
from shardcache.drivers.aio.single_flight import AsyncFlights
from shardcache.drivers.loader_permits import LoaderPermit, LoaderPermits
from shardcache.errors import LoadCancelled, LoadTimeout
from shardcache.flows.steps import Load, LoaderEnded
from shardcache.request_deadline import forget_deadline

__all__ = ("AsyncLoads",)

_MOMENT = 0.05  # seconds that a loader has to end when it is cancelled

Run = Callable[..., Coroutine[Any, Any, Any]]


class AsyncLoads:
    """Runs loaders, so many at a time.

    A loader that another one waits for needs no permit of its own.
    """

    __slots__ = ("_flights", "_permits", "_run")

    def __init__(self, most: int, run: Run, flights: AsyncFlights) -> None:
        self._permits = _TaskPermits(most)
        self._run = run
        self._flights = flights

    async def __call__(self, step: Load) -> Any:
        """Carry out a `Load`."""
        around = active_loads()
        set_active_loads((*around, ActiveLoad(self._flights, step.wires)))
        loop = asyncio.get_running_loop()
        renewal: asyncio.Task[None] | None = None

        def begin() -> None:
            nonlocal renewal
            renewal = loop.create_task(self._renew(step), name="shardcache renewal of a load lock")

        timer = loop.call_later(step.gap, begin)
        try:
            return await self._permitted(step, counted=not around and not step.background)
        finally:
            set_active_loads(around)
            timer.cancel()
            if renewal is not None:
                renewal.cancel()

    async def _permitted(self, step: Load, *, counted: bool) -> Any:
        """Run a loader when it has a permit. The time until then is not left for the loader."""
        permits = self._permits
        if step.timeout is not None:
            permits.check_abandoned()
        loop = asyncio.get_running_loop()
        began = loop.time()
        if counted:
            await permits.acquire(step.timeout, step.wait)
        permit = permits.enter(step.wires, counted=counted)
        if step.timeout is not None:
            left = began + step.timeout - loop.time()
            return await _within(step, step.timeout, left, permits, permit)
        try:
            return await _called(step.loader)
        finally:
            permits.leave(permit)

    async def _renew(self, step: Load) -> None:
        forget_deadline()  # that of the call which loads
        goes_on = True
        while goes_on:
            # A failed renewal is tried again: the lock has two more in its ttl.
            with suppress(Exception):
                goes_on = await self._run(step.renew())
            await asyncio.sleep(step.gap)


class _TaskPermits(LoaderPermits):
    """Permits that tasks wait for."""

    __slots__ = ("_slots",)

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._slots = asyncio.Semaphore(most)

    async def acquire(self, timeout: float | None, wait: float) -> None:
        """Wait for a permit, for ``timeout`` seconds; raise `LoadTimeout` if none comes in time.

        Without ``timeout`` (None), wait as long as loaders end; raise `TooManyLoaders` if none has
        ended for ``wait`` seconds.
        """
        if not self._slots.locked():
            await self._slots.acquire()  # at once
            return
        turn = asyncio.get_running_loop().create_task(
            self._slots.acquire(), name="shardcache turn of a loader"
        )
        try:
            ended = self.ended
            while not (await asyncio.wait([turn], timeout=self.turn_limit(timeout, wait)))[0]:
                ended = self.check_wait(timeout, wait, ended)
        except BaseException:
            if not turn.cancel():  # it came at this moment
                self._slots.release()
            raise

    def free(self, permit: LoaderPermit) -> None:  # noqa: ARG002  threads only need to know whose
        """Let the next loader begin."""
        self._slots.release()


async def _within(
    step: Load, timeout: float, left: float, permits: LoaderPermits, permit: LoaderPermit
) -> Any:
    """Run a loader in a task of its own, and cancel it when it takes too long.

    One that does not end when it is cancelled is abandoned: it runs on, and nothing waits for it.

    left: seconds of ``timeout`` that are left.
    """
    task = asyncio.get_running_loop().create_task(_called(step.loader), name="shardcache loader")
    # The permit is left by the loader itself, for it may run on when its caller has gone.
    task.add_done_callback(lambda _: permits.leave(permit))
    try:
        done, _ = await asyncio.wait([task], timeout=max(left, 0.0))
        if done:
            if task.cancelled():
                raise LoadCancelled("the loader was cancelled, though nobody cancelled its caller")
            return task.result()
        raise LoadTimeout(f"the loader took longer than {timeout:g} s")
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(_no_matter)
            # Most end at once; then nothing is left of the loader when the caller goes on.
            await asyncio.wait([task], timeout=_MOMENT)
            if not task.done():
                permits.abandon(permit)
                step.abandoned()


def _no_matter(task: "asyncio.Task[Any]") -> None:
    """Look at an error, or asyncio complains that it was never retrieved."""
    if not task.cancelled():
        task.exception()


async def _called(loader: Callable[[], Any]) -> Any:
    """Call a loader, and await what it returns if that is to be awaited."""
    try:
        try:
            result = loader()
        except GeneratorExit as error:  # would mean that this coroutine itself is given up
            raise LoaderEnded(error) from None
        return await result if inspect.isawaitable(result) else result
    except (StopIteration, StopAsyncIteration) as error:
        raise LoaderEnded(error) from None
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise LoadCancelled(
            "the loader was cancelled, though nobody cancelled its caller"
        ) from error
