"""Single flight for threads: one load of a key at a time."""

import contextvars
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from shardcache.drivers.active_load import refuse_cycle, set_active_loads
from shardcache.drivers.error_copy import copy_error
from shardcache.drivers.loader_permits import NoTimeForTurn, too_many
from shardcache.drivers.undo_log import Entry, UndoLog
from shardcache.errors import ThreadNotStarted
from shardcache.events import Hook
from shardcache.flows.steps import FlightResult, SingleFlight
from shardcache.request_deadline import forget_deadline
from shardcache.system.latch import Latch
from shardcache.system.threads import Worker

__all__ = ("Flight", "Flights")

Run = Callable[..., Any]


class Flight:
    """One load under way, of one key or several: callers that join get its values, or its error.

    ``thread``: the identifier of the thread that loads, if it is known.
    ``worker``: the thread that was made for it, if there is one.
    """

    __slots__ = ("_done", "_error", "_values", "thread", "worker")

    def __init__(self, thread: int | None = None) -> None:
        self._done = Latch()
        self._values: dict[bytes, Any] = {}
        self._error: Exception | None = None
        self.thread = thread
        self.worker: Worker | None = None

    def finish(self, values: dict[bytes, Any], error: BaseException | None = None) -> None:
        """End the flight, once.

        What broke off its caller (KeyboardInterrupt, a `deadline`) says nothing about the values:
        the callers that have joined try for themselves.
        """
        if not self._done.is_open:
            self._values = values
            if not isinstance(error, NoTimeForTurn):
                self._error = error if isinstance(error, Exception) else None
        self._done.open()

    def wait(self, timeout: float | None) -> bool:
        """Return whether it ends within ``timeout`` seconds.

        The thread that loads does not wait for itself. It asks only from a finalizer or a signal
        handler, which came in between.
        """
        return self._done.is_open or (
            self.thread != threading.get_ident() and self._done.wait(timeout)
        )

    def values(self, *, own: bool = True) -> dict[bytes, Any]:
        """Return the values of a flight that has ended, or raise its error.

        ``own``: whether it is the caller's own flight; a caller that has joined gets a copy of the
        error.
        """
        if self._error is not None:
            raise self._error if own else copy_error(self._error)
        return self._values


class Flights:
    """The flights of one client, by key. Nothing here is locked: see `latch`."""

    __slots__ = ("_clock", "_flights", "_hook", "_in_background", "_most", "_run", "_undo_log")

    def __init__(
        self,
        run: Run,
        clock: Callable[[], float],
        hook: Hook | None,
        most: int,
        undo_log: UndoLog,
    ) -> None:
        self._run = run
        self._undo_log = undo_log
        self._most = most
        # The flights that have a thread of their own, and their keys.
        self._in_background: dict[Flight, tuple[bytes, ...]] = {}
        self._clock = clock
        self._hook = hook
        self._flights: dict[bytes, Flight] = {}

    def __call__(self, step: SingleFlight) -> FlightResult:
        """Carry out a `SingleFlight`."""
        full = len(self._in_background) >= self._most
        if (
            full
            and (step.background or step.own is not None)
            and not all(wire in self._flights for wire in step.wires)
        ):
            raise too_many(self._in_background.values())
        waits = not step.background
        flight = Flight(threading.get_ident())

        def undo() -> None:
            # Else a thread of the flight's own ends it.
            if flight.worker is None or flight.worker.give_up():
                self._end(flight, step.wires, {}, None)

        with Entry(self._undo_log, (), undo):
            mine, others = self._join_or_start(step, flight)
            if mine and (step.background or step.own is not None):
                waits = self._begin(flight, step, mine) and waits and flight.wait(step.own)
            elif mine:
                self._execute(flight, step, mine)
        if not waits:
            return FlightResult({})
        values = dict(flight.values()) if mine else {}
        return self._join(step, others, values)

    def _join(
        self, step: SingleFlight, others: dict[bytes, Flight], values: dict[bytes, Any]
    ) -> FlightResult:
        """Wait for the flights of others."""
        timed_out = []
        end = self._clock() + step.wait
        for wire, other in others.items():
            if not other.wait(max(end - self._clock(), 0.0)):
                timed_out.append(wire)
            elif wire in (found := other.values(own=False)):
                values[wire] = found[wire]
        return FlightResult(values, tuple(timed_out))

    def _join_or_start(
        self, step: SingleFlight, flight: Flight
    ) -> tuple[tuple[bytes, ...], dict[bytes, Flight]]:
        """Return the keys that ``flight`` has to load, and the flights that load the others."""
        if step.own is None and not step.background:
            refuse_cycle(self, step.wires)
        owners = {wire: self._flights.setdefault(wire, flight) for wire in step.wires}
        mine = tuple(wire for wire, owner in owners.items() if owner is flight)
        others = {wire: owner for wire, owner in owners.items() if owner is not flight}
        if step.joined is not None and others:
            step.joined(len(others))
        return mine, {} if step.background or step.own is not None else others

    def _execute(self, flight: Flight, step: SingleFlight, mine: tuple[bytes, ...]) -> None:
        """Do the work, and let the callers that have joined have what comes of it."""
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
            error = None  # or this frame and its traceback would keep each other alive

    def _end(
        self,
        flight: Flight,
        wires: tuple[bytes, ...],
        values: dict[bytes, Any],
        error: BaseException | None,
    ) -> None:
        """Let no caller join any more, and those that have joined go on."""
        for wire in wires:
            if self._flights.get(wire) is flight:
                self._flights.pop(wire, None)
        self._in_background.pop(flight, None)
        flight.finish(values, error)

    def _begin(self, flight: Flight, step: SingleFlight, mine: tuple[bytes, ...]) -> bool:
        """Do the work in a thread of its own; return whether there is one.

        Without it the caller that wanted a refresh has the value as it is.
        """
        context = contextvars.copy_context()
        # No loader need wait for it, so it stands in none.
        context.run(set_active_loads, ())
        context.run(forget_deadline)
        flight.thread = None
        flight.worker = worker = Worker(
            "refresh", lambda: context.run(self._behind, flight, step, mine)
        )
        self._in_background[flight] = mine
        try:
            worker.begin(self._hook, "refresh", undo=lambda: self._end(flight, mine, {}, None))
        except ThreadNotStarted:
            return False
        return True

    def _behind(self, flight: Flight, step: SingleFlight, mine: tuple[bytes, ...]) -> None:
        with suppress(Exception):  # the callers that wait for the flight see it
            self._execute(flight, step, mine)

    def forget(self, wires: Iterable[bytes] | None = None) -> None:
        """Let no caller join loads of these keys (None: of any): a write has invalidated them."""
        if not self._flights:
            return
        if wires is None:
            self._flights.clear()
            return
        for wire in wires:
            self._flights.pop(wire, None)
