"""Running the callers' loaders in threads: so many at a time, each within its timeout.

While a loader waits for its permit and while it runs, its locks are renewed.
"""

import contextvars
import inspect
from collections.abc import Callable
from typing import Any

from shardcache.drivers.active_load import ActiveLoad, active_loads, set_active_loads
from shardcache.drivers.loader_permits import LoaderPermit, ThreadPermits
from shardcache.drivers.sync.lease_renewer import LeaseRenewer, LoadRenewal
from shardcache.drivers.sync.single_flight import Flight, Flights
from shardcache.drivers.undo_log import Entry, UndoLog
from shardcache.errors import InvalidArgument, LoadTimeout
from shardcache.events import Hook
from shardcache.flows.steps import Load, LoaderEnded
from shardcache.system.threads import Worker

__all__ = ("Loads",)

_STOPS = (StopIteration, StopAsyncIteration, GeneratorExit)
"""What a flow cannot be given as it is: it would end the generator, or become a RuntimeError."""

Run = Callable[..., Any]


class Loads:
    """Runs loaders, so many at a time.

    A loader that another one waits for needs no permit of its own.
    """

    __slots__ = ("_clock", "_flights", "_hook", "_permits", "_renewer", "_run", "_undo_log")

    def __init__(
        self,
        most: int,
        run: Run,
        clock: Callable[[], float],
        flights: Flights,
        hook: Hook | None,
        undo_log: UndoLog,
    ) -> None:
        self._undo_log = undo_log
        self._permits = ThreadPermits(most)
        self._run = run
        self._clock = clock
        self._hook = hook
        self._renewer = LeaseRenewer(clock, hook)
        self._flights = flights

    def __call__(self, step: Load) -> Any:
        """Carry out a `Load`."""
        around = active_loads()
        active = ActiveLoad(self._flights, step.wires)
        renewal = LoadRenewal(step.gap, lambda: bool(self._run(step.renew())))
        permit = LoaderPermit(step.wires, counted=not around and not step.background)

        def end() -> None:
            renewal.stopped = active.is_over = True
            # Else the thread of the loader gives the permit back, when the loader has ended.
            if permit.worker is None or permit.worker.give_up():
                self._permits.leave(permit)

        with Entry(self._undo_log, (), end):
            try:
                set_active_loads((*around, active))
                self._renewer.add(renewal)
                return self._permitted(step, permit)
            finally:
                end()
                set_active_loads(around)

    def _permitted(self, step: Load, permit: LoaderPermit) -> Any:
        """Run a loader when it has a permit.

        The time that this takes is not left for the loader.
        """
        permits = self._permits
        if step.timeout is not None:
            permits.check_abandoned()
        began = self._clock()
        permits.acquire(permit, step.timeout, step.wait)
        if step.timeout is None:
            return _called(step.loader)
        return self._within(step, step.timeout, permit, began + step.timeout)

    def _within(self, step: Load, timeout: float, permit: LoaderPermit, end: float) -> Any:
        """Run a loader in a thread of its own.

        If it takes too long, it is left to itself: a thread cannot be ended.
        """
        flight, permits = Flight(), self._permits

        def body() -> None:
            error: BaseException | None = None
            values: dict[bytes, Any] = {}
            try:
                values = {b"": _called(step.loader)}
            # It is raised where the result is waited for. One that is no Exception (SystemExit)
            # ends the thread that it is raised in, not the one that waits.
            except BaseException as caught:  # noqa: BLE001
                error = (
                    caught
                    if isinstance(caught, Exception)
                    else RuntimeError(f"the loader raised {caught!r}")
                )
            finally:
                permits.leave(permit)
            flight.finish(values, error)

        context = contextvars.copy_context()
        permit.worker = worker = Worker("loader", lambda: context.run(body))
        worker.begin(self._hook, "load", undo=lambda: permits.leave(permit))
        if not flight.wait(max(end - self._clock(), 0.0)):
            if permits.abandon(permit):
                step.abandoned()
            raise LoadTimeout(f"the loader took longer than {timeout:g} s")
        return flight.values()[b""]


def _called(loader: Callable[[], Any]) -> Any:
    try:
        result = loader()
    except _STOPS as error:
        raise LoaderEnded(error) from None
    if inspect.iscoroutine(result):
        result.close()
        raise InvalidArgument(
            "the loader is a coroutine function: the sync client cannot await it, "
            "AsyncShardCache does"
        )
    return result
