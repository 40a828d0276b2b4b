"""Single flight for tasks: one load of a key in an event loop at a time, and a bound on how many run at once.

A flight is a task of its own. Those who wait for it are counted: one that is cancelled leaves, and nobody else notices; when the
last one has left, the flight is cancelled.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from shardcache.drivers.flights import inside
from shardcache.errors import LoadTimeout
from shardcache.flows.steps import Flow, Load

__all__ = ("AsyncFlight", "AsyncFlights", "AsyncLoads")

Run = Callable[[Flow[Any]], Coroutine[Any, Any, Any]]


class AsyncFlight:
    """One load under way."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self.task = task
        self.waiters = 0

    async def join(self, timeout: float | None) -> Any:
        """Return the result, or raise what the flight raised; TimeoutError after ``timeout`` seconds."""
        self.waiters += 1
        try:
            done, _ = await asyncio.wait([self.task], timeout=timeout)
        finally:
            self.waiters -= 1
            if not self.waiters and not self.task.done():
                self.task.cancel()
        if not done:
            raise TimeoutError
        return self.task.result()


class AsyncFlights:
    """The flights of one client on one event loop, by key; and its tasks in the background."""

    __slots__ = ("_flights", "_tasks")

    def __init__(self) -> None:
        self._flights: dict[bytes, AsyncFlight] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def __bool__(self) -> bool:
        return bool(self._flights)

    def get(self, wire: bytes) -> AsyncFlight | None:
        """Return the flight of this key, if there is one."""
        return self._flights.get(wire)

    def take_off(self, wire: bytes, work: Coroutine[Any, Any, Any]) -> AsyncFlight:
        """Begin a flight; without anybody who joins, it goes on by itself."""
        flight = self._flights[wire] = AsyncFlight(self._start(work))

        def landed(_: "asyncio.Task[Any]") -> None:
            if self._flights.get(wire) is flight:
                del self._flights[wire]

        flight.task.add_done_callback(landed)
        return flight

    def set_off(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something in the background until it is done or the client is closed."""
        _ = self._start(work)  # the set of tasks keeps it

    def _start(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(work, name="shardcache load")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, for those who waited may all have gone

    def void(self, wire: bytes) -> None:
        """Let nobody join any more: what is being loaded was overtaken by a set or delete."""
        self._flights.pop(wire, None)

    async def close(self) -> None:
        """Cancel what is under way, and wait for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class AsyncLoads:
    """Runs loaders, so many at a time; the loader that another one waits for needs no place of its own."""

    __slots__ = ("_run", "_slots")

    def __init__(self, most: int, run: Run) -> None:
        self._slots = asyncio.Semaphore(most)
        self._run = run

    async def __call__(self, step: Load) -> Any:
        """Carry out a `Load`."""
        if inside.get():
            return await self._one(step)
        async with self._slots:
            return await self._one(step)

    async def _one(self, step: Load) -> Any:
        mark = inside.set((*inside.get(), step.wire))
        loop = asyncio.get_running_loop()
        renewal: asyncio.Task[None] | None = None

        def begin() -> None:
            nonlocal renewal
            renewal = loop.create_task(self._renew(step), name="shardcache renewal of a load lock")

        timer = loop.call_later(step.gap, begin)
        try:
            if step.patience is None:
                return await _called(step.loader)
            limit = asyncio.timeout(step.patience)
            try:
                async with limit:
                    return await _called(step.loader)
            except TimeoutError as error:
                if limit.expired():
                    raise LoadTimeout(f"the loader took longer than {step.patience:g} s") from error
                raise
        finally:
            inside.reset(mark)
            timer.cancel()
            if renewal is not None:
                renewal.cancel()

    async def _renew(self, step: Load) -> None:
        goes_on = True
        while goes_on:
            goes_on = await self._run(step.renew())
            await asyncio.sleep(step.gap)


async def _called(loader: Callable[[], Any]) -> Any:
    """Call a loader, and await what it returns if that is to be awaited."""
    result = loader()
    return await result if inspect.isawaitable(result) else result
