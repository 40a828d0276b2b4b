"""Single flight for tasks: one load of a key at a time in an event loop.

A flight is a task of its own. The tasks that wait for it are counted. One that is cancelled leaves,
and the others do not notice. When the last one has left, the flight is cancelled, and no task can
join it any more.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from shardcache.drivers.active_load import refuse_cycle, set_active_loads
from shardcache.drivers.error_copy import copy_error
from shardcache.drivers.loader_permits import NoTimeForTurn, too_many
from shardcache.errors import ClientClosed, LoadCancelled
from shardcache.flows.steps import FlightResult, SingleFlight
from shardcache.request_deadline import forget_deadline

__all__ = ("AsyncFlight", "AsyncFlights")

Run = Callable[..., Coroutine[Any, Any, Any]]


class AsyncFlight:
    """One load under way, of one key or several.

    ``waiters``: how many wait for it, and one more if it goes on without those who began it.
    """

    __slots__ = ("task", "waiters", "wires")

    def __init__(
        self, task: "asyncio.Task[dict[bytes, Any]]", wires: tuple[bytes, ...], waiters: int
    ) -> None:
        self.task = task
        self.wires = wires
        self.waiters = waiters


class AsyncFlights:
    """The flights of one client on one event loop, by key."""

    __slots__ = ("_background", "_closed", "_flights", "_most", "_run", "_tasks")

    def __init__(self, run: Run, most: int = 64) -> None:
        self._run = run
        self._most = most
        self._background: dict[AsyncFlight, None] = {}  # go on without those who began them
        self._flights: dict[bytes, AsyncFlight] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def __call__(self, step: SingleFlight) -> FlightResult:
        """Carry out a `SingleFlight`."""
        own, others = self._join_or_start(step)
        values: dict[bytes, Any] = {}
        timed_out: list[bytes] = []
        if not step.background:
            if own is not None:
                values |= await self._execute(own, step.own)
            if step.own is None:
                timed_out = await self._wait(others, step.wait, values)
        return FlightResult(values, tuple(timed_out))

    def _join_or_start(
        self, step: SingleFlight
    ) -> tuple[AsyncFlight | None, dict[bytes, AsyncFlight]]:
        """Return a new flight for the keys that are in none, and the flights of the others.

        Raises `TooManyLoaders` if it would go on without its caller, as too many do already.
        """
        if self._closed:
            raise ClientClosed("the client is closed")
        others = {wire: self._flights[wire] for wire in step.wires if wire in self._flights}
        mine = tuple(wire for wire in step.wires if wire not in others)
        goes_on = step.background or step.own is not None
        if not goes_on:
            refuse_cycle(self, step.wires)
        elif mine and len(self._background) >= self._most:
            raise too_many(flight.wires for flight in self._background)
        own = self._start(step, mine, goes_on=goes_on) if mine else None
        if step.joined is not None and others:
            step.joined(len(others))
        return own, others

    async def _execute(self, own: AsyncFlight, timeout: float | None) -> dict[bytes, Any]:
        """Return the values of one's own flight; none if it takes longer than ``timeout`` seconds.

        timeout: after which the flight goes on without its caller (None: there is no such end).
        """
        try:
            found = await self._result(own, timeout, own=True)
        except asyncio.CancelledError:
            if timeout is not None:  # no caller has been served by it, so it need not go on
                self._leave(own)
            raise
        return found or {}

    async def _wait(
        self, others: dict[bytes, AsyncFlight], timeout: float, values: dict[bytes, Any]
    ) -> list[bytes]:
        """Wait for the flights of others, for ``timeout`` seconds in all.

        Return the keys whose flight took longer.

        values: gets what the flights have found.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + timeout
        timed_out = []
        for wire, flight in others.items():
            found = await self._result(flight, max(end - clock(), 0.0), own=False)
            if found is None:
                timed_out.append(wire)
            elif wire in found:
                values[wire] = found[wire]
        return timed_out

    def _start(self, step: SingleFlight, mine: tuple[bytes, ...], *, goes_on: bool) -> AsyncFlight:
        context = contextvars.copy_context()
        if goes_on:
            context.run(set_active_loads, ())  # no loader waits for it, so it is part of none
            context.run(forget_deadline)
        task = asyncio.get_running_loop().create_task(
            self._run(step.work(mine), step.budget), name="shardcache load", context=context
        )
        flight = AsyncFlight(task, mine, int(goes_on))
        self._flights |= dict.fromkeys(mine, flight)
        self._tasks.add(task)
        if goes_on:
            self._background[flight] = None

        def landed(_: "asyncio.Task[Any]") -> None:
            self._tasks.discard(task)
            self._background.pop(flight, None)
            self._forget(flight)
            if not task.cancelled():
                task.exception()  # looked at, for those who waited may all have gone

        task.add_done_callback(landed)
        return flight

    async def _result(
        self, flight: AsyncFlight, timeout: float | None, *, own: bool
    ) -> dict[bytes, Any] | None:
        """Return the values of a flight, or raise its error; None after ``timeout`` seconds.

        A load that was broken off says nothing about the value, so a task that has joined it gets
        no values, and tries without it.

        own: whether the caller has begun it; others get a copy of its error.
        """
        flight.waiters += 1
        try:
            done, _ = await asyncio.wait([flight.task], timeout=timeout)
        finally:
            self._leave(flight)
        if not done:
            return None
        # It has ended: by itself, or because it was cancelled.
        if flight.task.cancelled():
            if self._closed:
                raise ClientClosed("the client was closed while the value was loaded")
            if own:
                raise LoadCancelled("the load was cancelled, though nobody cancelled its caller")
            return {}
        # One's own error is raised as it is, with its traceback.
        error = flight.task.exception()
        if own or not isinstance(error, Exception):
            values: dict[bytes, Any] = flight.task.result()
            return values
        if isinstance(error, (LoadCancelled, NoTimeForTurn)):
            return {}
        raise copy_error(error)

    def _leave(self, flight: AsyncFlight) -> None:
        flight.waiters -= 1
        if not flight.waiters and not flight.task.done():
            self._forget(flight)  # a task that comes now must not be cancelled with it
            flight.task.cancel()

    def _forget(self, flight: AsyncFlight) -> None:
        for wire in flight.wires:
            if self._flights.get(wire) is flight:
                del self._flights[wire]

    def forget(self, wires: Iterable[bytes] | None = None) -> None:
        """Let no task join the loads of these keys any more: a write has invalidated them.

        wires: None for all keys.
        """
        if self._flights:
            for wire in list(self._flights) if wires is None else wires:
                self._flights.pop(wire, None)

    async def close(self) -> None:
        """Cancel what is under way, and wait for its end."""
        self._closed = True
        here = asyncio.current_task()
        # A loader may close its own client.
        tasks = [task for task in self._tasks if task is not here]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
