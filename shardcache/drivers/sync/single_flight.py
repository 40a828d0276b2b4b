"""Single flight for threads: one load of a key in a process at a time, and a bound on how many run at once."""

import contextvars
import inspect
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from shardcache.drivers.error_copy import copy_error
from shardcache.drivers.loader_permits import LoaderPermit, ThreadPermits, named
from shardcache.drivers.sync.lease_renewer import LeaseRenewer, LoadRenewal
from shardcache.errors import (
    InvalidArgument,
    LoadCycle,
    LoadTimeout,
    ThreadNotStarted,
    TooManyLoaders,
)
from shardcache.events import Hook
from shardcache.flows.steps import FlightResult, Load, LoaderEnded, SingleFlight
from shardcache.system.latch import Latch
from shardcache.system.threads import Worker

__all__ = ("STOPS", "Flight", "Flights", "Loads", "active_loads", "refuse_cycle", "too_many")

STOPS = (StopIteration, StopAsyncIteration, GeneratorExit)
"""What a flow, being a generator, cannot be given as it is: it would end it, or be replaced by RuntimeError."""

Run = Callable[..., Any]

# The keys whose loaders this call stands in, the outermost first, each with whose they are.
active_loads: contextvars.ContextVar[tuple[tuple[object, bytes], ...]] = contextvars.ContextVar(
    "shardcache_loading", default=()
)


def refuse_cycle(owner: object, wires: Iterable[bytes]) -> None:
    """Raise `LoadCycle` if this call comes from the loader of one of these keys: it would wait for itself."""
    around = active_loads.get()
    for wire in wires if around else ():
        if (owner, wire) in around:
            raise LoadCycle(
                f"the loader of {wire.decode('utf-8', 'backslashreplace')!r} asked for that key"
            )


class Flight:
    """One load under way, of one key or several: whoever joins gets its values, or what it raised.

    ``thread``: the one that loads, if it is known. ``worker``: the thread that was made for it, if there is one.
    """

    __slots__ = ("_done", "_error", "_values", "thread", "worker")

    def __init__(self, thread: int | None = None) -> None:
        self._done = Latch()
        self._values: dict[bytes, Any] = {}
        self._error: Exception | None = None
        self.thread = thread
        self.worker: Worker | None = None

    def finish(self, values: dict[bytes, Any], error: BaseException | None = None) -> None:
        """End the flight, once. What broke off its caller (KeyboardInterrupt) says nothing about the values: others try for themselves."""
        if not self._done.is_open:
            self._values = values
            self._error = error if isinstance(error, Exception) else None
        self._done.open()

    def wait(self, timeout: float | None) -> bool:
        """Return whether it has landed within ``timeout`` seconds. In the thread that loads nobody waits for himself.

        That is a finalizer or a signal handler, which came in between.
        """
        return self._done.is_open or (
            self.thread != threading.get_ident() and self._done.wait(timeout)
        )

    def values(self, *, own: bool = True) -> dict[bytes, Any]:
        """Return the values of a flight that has landed, or raise its error: if it is not one's ``own``, a copy of it."""
        if self._error is not None:
            raise self._error if own else copy_error(self._error)
        return self._values


class Flights:
    """The flights of one client, by key. Nothing here is locked: see `latch`."""

    __slots__ = ("_behind_us", "_clock", "_flights", "_hook", "_most", "_run")

    def __init__(
        self, run: Run, clock: Callable[[], float], hook: Hook | None = None, most: int = 64
    ) -> None:
        self._run = run
        self._most = most
        self._behind_us: dict[
            Flight, tuple[bytes, ...]
        ] = {}  # that have a thread of their own, and their keys
        self._clock = clock
        self._hook = hook
        self._flights: dict[bytes, Flight] = {}

    def __call__(self, step: SingleFlight) -> FlightResult:
        """Carry out a `SingleFlight`."""
        full = len(self._behind_us) >= self._most
        if (
            full
            and (step.background or step.own is not None)
            and not all(wire in self._flights for wire in step.wires)
        ):
            raise too_many(self._behind_us.values())
        waits = not step.background
        flight = Flight(threading.get_ident())
        try:
            mine, others = self._join_or_start(step, flight)
            if mine and (step.background or step.own is not None):
                waits = self._begin(flight, step, mine) and waits and flight.wait(step.own)
            elif mine:
                self._execute(flight, step, mine)
        except BaseException as error:
            # Also what broke `_pilot` off while it was ending the flight itself. A thread of the flight's own sees to it.
            if flight.worker is None or flight.worker.give_up():
                self._end(flight, step.wires, {}, error)
            raise
        if not waits:
            return FlightResult({})
        values = dict(flight.values()) if mine else {}
        return self._join(step, others, values)

    def _join(
        self, step: SingleFlight, others: dict[bytes, Flight], values: dict[bytes, Any]
    ) -> FlightResult:
        """Wait for the flights of others."""
        late = []
        end = self._clock() + step.wait
        for wire, other in others.items():
            if not other.wait(max(end - self._clock(), 0.0)):
                late.append(wire)
            elif wire in (found := other.values(own=False)):
                values[wire] = found[wire]
        return FlightResult(values, tuple(late))

    def _join_or_start(
        self, step: SingleFlight, flight: Flight
    ) -> tuple[tuple[bytes, ...], dict[bytes, Flight]]:
        """Return the keys that ``flight`` is to be flown for, and who flies for the others."""
        if step.own is None and not step.background:
            refuse_cycle(self, step.wires)
        owners = {wire: self._flights.setdefault(wire, flight) for wire in step.wires}
        mine = tuple(wire for wire, owner in owners.items() if owner is flight)
        others = {wire: owner for wire, owner in owners.items() if owner is not flight}
        if step.joined is not None and others:
            step.joined(len(others))
        return mine, {} if step.background or step.own is not None else others

    def _execute(self, flight: Flight, step: SingleFlight, mine: tuple[bytes, ...]) -> None:
        """Fly: do the work, and let those who joined have what comes of it."""
        flight.thread = threading.get_ident()
        values: dict[bytes, Any] = {}
        error: BaseException | None = None
        try:
            values = self._run(step.work(mine), step.budget)
        except BaseException as caught:
            error = caught
            raise
        finally:
            self._end(flight, mine, values, error)

    def _end(
        self,
        flight: Flight,
        wires: tuple[bytes, ...],
        values: dict[bytes, Any],
        error: BaseException | None,
    ) -> None:
        """Let nobody join any more, and those go on who have."""
        for wire in wires:
            if self._flights.get(wire) is flight:
                self._flights.pop(wire, None)
        self._behind_us.pop(flight, None)
        flight.finish(values, error)

    def _begin(self, flight: Flight, step: SingleFlight, mine: tuple[bytes, ...]) -> bool:
        """Fly in a thread of its own; return whether there is one. Without it whoever wanted a refresh has the value as it is."""
        context = contextvars.copy_context()
        context.run(active_loads.set, ())  # nobody need wait for it, so it stands in no loader
        flight.thread = None
        flight.worker = worker = Worker(
            "refresh", lambda: context.run(self._behind, flight, step, mine)
        )
        self._behind_us[flight] = mine
        try:
            worker.begin(self._hook, "refresh", undo=lambda: self._end(flight, mine, {}, None))
        except ThreadNotStarted:
            return False
        return True

    def _behind(self, flight: Flight, step: SingleFlight, mine: tuple[bytes, ...]) -> None:
        with suppress(Exception):  # whoever waits for the flight sees it, and the flow has noted it
            self._execute(flight, step, mine)

    def forget(self, wires: Iterable[bytes] | None = None) -> None:
        """Let nobody join any more (None: whatever the key): what is being loaded was overtaken by a write."""
        if not self._flights:
            return
        if wires is None:
            self._flights.clear()
            return
        for wire in wires:
            self._flights.pop(wire, None)


class Loads:
    """Runs loaders, so many at a time; the loader that another one waits for needs no place of its own."""

    __slots__ = ("_clock", "_flights", "_hook", "_places", "_renewer", "_run")

    def __init__(
        self,
        most: int,
        run: Run,
        clock: Callable[[], float],
        flights: Flights,
        hook: Hook | None = None,
    ) -> None:
        self._places = ThreadPermits(most)
        self._run = run
        self._clock = clock
        self._hook = hook
        self._renewer = LeaseRenewer(clock, hook)
        self._flights = flights

    def __call__(self, step: Load) -> Any:
        """Carry out a `Load`."""
        around = active_loads.get()
        kept = LoadRenewal(step.gap, lambda: bool(self._run(step.renew())))
        place = LoaderPermit(step.wires, counted=not around and not step.background)
        try:
            active_loads.set((*around, *((self._flights, wire) for wire in step.wires)))
            self._renewer.add(kept)
            return self._placed(step, place)
        finally:
            kept.stopped = True
            active_loads.set(
                around
            )  # not by the token of `set`, which whoever is broken off does not have
            if (
                place.worker is None or place.worker.give_up()
            ):  # else that thread does, when the loader has ended
                self._places.leave(place)

    def _placed(self, step: Load, place: LoaderPermit) -> Any:
        """Run a loader when there is a place for it. What time that takes is not left for the loader."""
        places = self._places
        if step.timeout is not None:
            places.check_abandoned()
        began = self._clock()
        places.acquire(place, step.timeout, step.wait)
        if step.timeout is None:
            return _called(step.loader)
        return self._within(step, step.timeout, place, began + step.timeout)

    def _within(self, step: Load, timeout: float, place: LoaderPermit, end: float) -> Any:
        """Run a loader in a thread of its own; leave it behind when it takes too long, for a thread cannot be ended."""
        flight, places = Flight(), self._places

        def body() -> None:
            error: BaseException | None = None
            values: dict[bytes, Any] = {}
            try:
                values = {b"": _called(step.loader)}
            except BaseException as caught:  # noqa: BLE001  it is raised where the result is waited for
                # One that is no Exception (SystemExit) ends the thread that it is raised in, not the one that waits.
                error = (
                    caught
                    if isinstance(caught, Exception)
                    else RuntimeError(f"the loader raised {caught!r}")
                )
            finally:
                places.leave(place)
            flight.finish(values, error)

        context = contextvars.copy_context()
        place.worker = worker = Worker("loader", lambda: context.run(body))
        worker.begin(self._hook, "load", undo=lambda: places.leave(place))
        if not flight.wait(max(end - self._clock(), 0.0)):
            if places.abandon(place):
                step.abandoned()
            raise LoadTimeout(f"the loader took longer than {timeout:g} s")
        return flight.values()[b""]


def too_many(refreshing: Iterable[tuple[bytes, ...]]) -> TooManyLoaders:
    """Return the error for a refresh that is not begun."""
    wires = [wire for each in list(refreshing) for wire in each]
    return TooManyLoaders(
        f"as many refreshes as may be (max_loads) are at work in the background, so no other is begun: {named(wires)}"
    )


def _called(loader: Callable[[], Any]) -> Any:
    try:
        result = loader()
    except STOPS as error:
        raise LoaderEnded(error) from None
    if inspect.iscoroutine(result):
        result.close()
        raise InvalidArgument(
            "the loader is a coroutine function: the sync client cannot await it, AsyncShardCache does"
        )
    return result
