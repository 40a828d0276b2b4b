"""Single flight for tasks: one load of a key in an event loop at a time, and a bound on how many run at once.

A flight is a task of its own. Those who wait for it are counted: one that is cancelled leaves, and nobody else notices; when the
last one has left, the flight is cancelled, and nobody can join it any more.
"""

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, suppress
from typing import Any

from shardcache.drivers.flights import inside, refuse_cycle
from shardcache.errors import ClientClosed, LoadTimeout
from shardcache.flows.steps import Flow, Fly, Landing, Load

__all__ = ("AsyncFlight", "AsyncFlights", "AsyncLoads")

Run = Callable[[Flow[Any]], Coroutine[Any, Any, Any]]


class AsyncFlight:
    """One load under way, of one key or several. ``waiters`` counts who would miss it."""

    __slots__ = ("task", "waiters", "wires")

    def __init__(self, task: "asyncio.Task[dict[bytes, Any]]", wires: tuple[bytes, ...], waiters: int) -> None:
        self.task = task
        self.wires = wires
        self.waiters = waiters


class AsyncFlights:
    """The flights of one client on one event loop, by key."""

    __slots__ = ("_closed", "_flights", "_run", "_tasks")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._flights: dict[bytes, AsyncFlight] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def __call__(self, step: Fly) -> Landing:
        """Carry out a `Fly`."""
        if self._closed:
            raise ClientClosed("the client is closed")
        first = step.behind or step.own is not None
        if not first:
            refuse_cycle(self, step.wires)
        others = {wire: self._flights[wire] for wire in step.wires if wire in self._flights}
        mine = tuple(wire for wire in step.wires if wire not in others)
        own = self._take_off(step, mine, goes_on=first) if mine else None
        if step.joined is not None and others:
            step.joined(len(others))
        if step.behind:
            return Landing({})
        values: dict[bytes, Any] = {}
        try:
            if own is not None:
                values |= await self._join(own, step.own)
        except TimeoutError:
            if step.own is None or own is None or own.task.done():
                raise
        except asyncio.CancelledError:
            if first and own is not None:  # nobody has been served by it
                self._leave(own)
            raise
        late = []
        end = asyncio.get_running_loop().time() + step.wait
        for wire, other in () if first else others.items():
            try:
                found = await self._join(other, max(end - asyncio.get_running_loop().time(), 0.0))
            except TimeoutError:
                if other.task.done():
                    raise
                late.append(wire)
            else:
                if wire in found:
                    values[wire] = found[wire]
        return Landing(values, tuple(late))

    def _take_off(self, step: Fly, mine: tuple[bytes, ...], *, goes_on: bool) -> AsyncFlight:
        context = contextvars.copy_context()
        if goes_on:
            context.run(inside.set, ())  # nobody need wait for it, so it stands in no loader
        task = asyncio.get_running_loop().create_task(
            self._run(step.work(mine)), name="shardcache load", context=context
        )
        flight = AsyncFlight(task, mine, int(goes_on))
        self._flights |= dict.fromkeys(mine, flight)
        self._tasks.add(task)

        def landed(_: "asyncio.Task[Any]") -> None:
            self._tasks.discard(task)
            self._forget(flight)
            if not task.cancelled():
                task.exception()  # looked at, for those who waited may all have gone

        task.add_done_callback(landed)
        return flight

    async def _join(self, flight: AsyncFlight, timeout: float | None) -> dict[bytes, Any]:
        """Return the values, or raise what the flight raised; TimeoutError after ``timeout`` seconds."""
        flight.waiters += 1
        try:
            done, _ = await asyncio.wait([flight.task], timeout=timeout)
        finally:
            self._leave(flight)
        if not done:
            raise TimeoutError
        if flight.task.cancelled():
            if self._closed:
                raise ClientClosed("the client was closed while the value was loaded")
            return {}  # it was broken off, which says nothing about the value
        return flight.task.result()

    def _leave(self, flight: AsyncFlight) -> None:
        flight.waiters -= 1
        if not flight.waiters and not flight.task.done():
            self._forget(flight)  # who comes now must not be cancelled with it
            flight.task.cancel()

    def _forget(self, flight: AsyncFlight) -> None:
        for wire in flight.wires:
            if self._flights.get(wire) is flight:
                del self._flights[wire]

    def void(self, wires: Iterable[bytes] | None = None) -> None:
        """Let nobody join any more (None: whatever the key): what is being loaded was overtaken by a write."""
        if self._flights:
            for wire in list(self._flights) if wires is None else wires:
                self._flights.pop(wire, None)

    async def close(self) -> None:
        """Cancel what is under way, and wait for its end."""
        self._closed = True
        here = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not here]  # a loader may close its own client
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class AsyncLoads:
    """Runs loaders, so many at a time; the loader that another one waits for needs no place of its own."""

    __slots__ = ("_flights", "_run", "_slots")

    def __init__(self, most: int, run: Run, flights: AsyncFlights) -> None:
        self._slots = asyncio.Semaphore(most)
        self._run = run
        self._flights = flights

    async def __call__(self, step: Load) -> Any:
        """Carry out a `Load`."""
        around = inside.get()
        mark = inside.set((*around, *((self._flights, wire) for wire in step.wires)))
        loop = asyncio.get_running_loop()
        renewal: asyncio.Task[None] | None = None

        def begin() -> None:
            nonlocal renewal
            renewal = loop.create_task(self._renew(step), name="shardcache renewal of a load lock")

        timer = loop.call_later(step.gap, begin)
        try:
            async with AsyncExitStack() as stack:
                if not around:
                    await stack.enter_async_context(self._slots)
                return await _within(step)
        finally:
            inside.reset(mark)
            timer.cancel()
            if renewal is not None:
                renewal.cancel()

    async def _renew(self, step: Load) -> None:
        goes_on = True
        while goes_on:
            with suppress(Exception):  # a failed renewal is tried again: the lock has two more in its ttl
                goes_on = await self._run(step.renew())
            await asyncio.sleep(step.gap)


async def _within(step: Load) -> Any:
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


async def _called(loader: Callable[[], Any]) -> Any:
    """Call a loader, and await what it returns if that is to be awaited."""
    result = loader()
    return await result if inspect.isawaitable(result) else result
