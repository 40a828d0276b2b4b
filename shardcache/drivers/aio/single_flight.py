"""Single flight for tasks: one load of a key in an event loop at a time, and a bound on how many run at once.

A flight is a task of its own. Those who wait for it are counted: one that is cancelled leaves, and nobody else notices; when the
last one has left, the flight is cancelled, and nobody can join it any more.
"""

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

from shardcache.drivers.error_copy import copy_error
from shardcache.drivers.loader_permits import LoaderPermit, LoaderPermits
from shardcache.drivers.sync.single_flight import active_loads, refuse_cycle, too_many
from shardcache.errors import ClientClosed, LoadCancelled, LoadTimeout
from shardcache.flows.steps import FlightResult, Load, LoaderEnded, SingleFlight

__all__ = ("AsyncFlight", "AsyncFlights", "AsyncLoads")

_MOMENT = 0.05  # seconds that a loader has to end when it is cancelled

Run = Callable[..., Coroutine[Any, Any, Any]]


class AsyncFlight:
    """One load under way, of one key or several. ``waiters`` counts who would miss it."""

    __slots__ = ("task", "waiters", "wires")

    def __init__(
        self, task: "asyncio.Task[dict[bytes, Any]]", wires: tuple[bytes, ...], waiters: int
    ) -> None:
        self.task = task
        self.wires = wires
        self.waiters = waiters


class AsyncFlights:
    """The flights of one client on one event loop, by key."""

    __slots__ = ("_behind_us", "_closed", "_flights", "_most", "_run", "_tasks")

    def __init__(self, run: Run, most: int = 64) -> None:
        self._run = run
        self._most = most
        self._behind_us: dict[AsyncFlight, None] = {}  # that go on without those who began them
        self._flights: dict[bytes, AsyncFlight] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def __call__(self, step: SingleFlight) -> FlightResult:
        """Carry out a `SingleFlight`."""
        if self._closed:
            raise ClientClosed("the client is closed")
        first = step.background or step.own is not None
        if not first:
            refuse_cycle(self, step.wires)
        elif len(self._behind_us) >= self._most and not all(
            wire in self._flights for wire in step.wires
        ):
            raise too_many(flight.wires for flight in self._behind_us)
        others = {wire: self._flights[wire] for wire in step.wires if wire in self._flights}
        mine = tuple(wire for wire in step.wires if wire not in others)
        own = self._start(step, mine, goes_on=first) if mine else None
        if step.joined is not None and others:
            step.joined(len(others))
        if step.background:
            return FlightResult({})
        values: dict[bytes, Any] = {}
        try:
            if own is not None:
                values |= await self._join(own, step.own, own=True)
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
                found = await self._join(
                    other, max(end - asyncio.get_running_loop().time(), 0.0), own=False
                )
            except TimeoutError:
                if other.task.done():
                    raise
                late.append(wire)
            else:
                if wire in found:
                    values[wire] = found[wire]
        return FlightResult(values, tuple(late))

    def _start(self, step: SingleFlight, mine: tuple[bytes, ...], *, goes_on: bool) -> AsyncFlight:
        context = contextvars.copy_context()
        if goes_on:
            context.run(active_loads.set, ())  # nobody need wait for it, so it stands in no loader
        task = asyncio.get_running_loop().create_task(
            self._run(step.work(mine), step.budget), name="shardcache load", context=context
        )
        flight = AsyncFlight(task, mine, int(goes_on))
        self._flights |= dict.fromkeys(mine, flight)
        self._tasks.add(task)
        if goes_on:
            self._behind_us[flight] = None

        def landed(_: "asyncio.Task[Any]") -> None:
            self._tasks.discard(task)
            self._behind_us.pop(flight, None)
            self._forget(flight)
            if not task.cancelled():
                task.exception()  # looked at, for those who waited may all have gone

        task.add_done_callback(landed)
        return flight

    async def _join(
        self, flight: AsyncFlight, timeout: float | None, *, own: bool
    ) -> dict[bytes, Any]:
        """Return the values, or raise what the flight raised (if it is not one's ``own``, a copy); TimeoutError after ``timeout`` seconds.

        A load that was broken off says nothing about the value: whoever joined it tries for himself.
        """
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
            if own:
                raise LoadCancelled("the load was cancelled, though nobody cancelled its caller")
            return {}
        error = flight.task.exception()
        if own or not isinstance(error, Exception):
            return flight.task.result()
        if isinstance(error, LoadCancelled):
            return {}
        raise copy_error(error)

    def _leave(self, flight: AsyncFlight) -> None:
        flight.waiters -= 1
        if not flight.waiters and not flight.task.done():
            self._forget(flight)  # who comes now must not be cancelled with it
            flight.task.cancel()

    def _forget(self, flight: AsyncFlight) -> None:
        for wire in flight.wires:
            if self._flights.get(wire) is flight:
                del self._flights[wire]

    def forget(self, wires: Iterable[bytes] | None = None) -> None:
        """Let nobody join any more (None: whatever the key): what is being loaded was overtaken by a write."""
        if self._flights:
            for wire in list(self._flights) if wires is None else wires:
                self._flights.pop(wire, None)

    async def close(self) -> None:
        """Cancel what is under way, and wait for its end."""
        self._closed = True
        here = asyncio.current_task()
        tasks = [
            task for task in self._tasks if task is not here
        ]  # a loader may close its own client
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class AsyncLoads:
    """Runs loaders, so many at a time; the loader that another one waits for needs no place of its own."""

    __slots__ = ("_flights", "_places", "_run")

    def __init__(self, most: int, run: Run, flights: AsyncFlights) -> None:
        self._places = _TaskPermits(most)
        self._run = run
        self._flights = flights

    async def __call__(self, step: Load) -> Any:
        """Carry out a `Load`."""
        around = active_loads.get()
        mark = active_loads.set((*around, *((self._flights, wire) for wire in step.wires)))
        loop = asyncio.get_running_loop()
        renewal: asyncio.Task[None] | None = None

        def begin() -> None:
            nonlocal renewal
            renewal = loop.create_task(self._renew(step), name="shardcache renewal of a load lock")

        timer = loop.call_later(step.gap, begin)
        try:
            return await self._placed(step, counted=not around and not step.background)
        finally:
            active_loads.reset(mark)
            timer.cancel()
            if renewal is not None:
                renewal.cancel()

    async def _placed(self, step: Load, *, counted: bool) -> Any:
        """Run a loader when there is a place for it. What time that takes is not left for the loader."""
        places = self._places
        if step.timeout is not None:
            places.check_abandoned()
        loop = asyncio.get_running_loop()
        began = loop.time()
        if counted:
            await places.acquire(step.timeout, step.wait)
        place = places.enter(step.wires, counted=counted)
        if step.timeout is not None:
            return await _within(
                step, step.timeout, began + step.timeout - loop.time(), places, place
            )
        try:
            return await _called(step.loader)
        finally:
            places.leave(place)

    async def _renew(self, step: Load) -> None:
        goes_on = True
        while goes_on:
            with suppress(
                Exception
            ):  # a failed renewal is tried again: the lock has two more in its ttl
                goes_on = await self._run(step.renew())
            await asyncio.sleep(step.gap)


class _TaskPermits(LoaderPermits):
    """Places that tasks wait for."""

    __slots__ = ("_slots",)

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._slots = asyncio.Semaphore(most)

    async def acquire(self, timeout: float | None, wait: float) -> None:
        """Wait for a place, for so many seconds, and raise `LoadTimeout` if there was none in time.

        Without ``patience`` (None) wait for as long as loaders end, and raise `TooManyLoaders` if none has for ``wait`` seconds.
        """
        if not self._slots.locked():
            await self._slots.acquire()  # at once
            return
        turn = asyncio.get_running_loop().create_task(
            self._slots.acquire(), name="shardcache turn of a loader"
        )
        try:
            ended = self.ended
            while not (await asyncio.wait([turn], timeout=wait if timeout is None else timeout))[0]:
                if timeout is not None:
                    raise self.no_turn(timeout)
                if self.ended == ended:
                    raise self.stuck(wait)
                ended = self.ended
        except BaseException:
            if not turn.cancel():  # it came at this moment
                self._slots.release()
            raise

    def free(self, place: LoaderPermit) -> None:  # noqa: ARG002  whose place it was matters to threads only
        """Let the next one in."""
        self._slots.release()


async def _within(
    step: Load, timeout: float, left: float, places: LoaderPermits, place: LoaderPermit
) -> Any:
    """Run a loader in a task of its own; cancel it when it takes too long, and leave it behind if it does not end at that."""
    task = asyncio.get_running_loop().create_task(_called(step.loader), name="shardcache loader")
    task.add_done_callback(lambda _: places.leave(place))
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
            await asyncio.wait(
                [task], timeout=_MOMENT
            )  # most end at once: then nothing is left of it when the caller is told
            if not task.done():
                places.abandon(place)
                step.abandoned()


def _no_matter(task: "asyncio.Task[Any]") -> None:
    """Look at an error, or asyncio complains that nobody has."""
    if not task.cancelled():
        task.exception()


async def _called(loader: Callable[[], Any]) -> Any:
    """Call a loader, and await what it returns if that is to be awaited."""
    try:
        try:
            result = loader()
        except GeneratorExit as error:  # of a coroutine it would mean that nobody runs it any more
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
