"""Single flight for threads: one load of a key in a process at a time, and a bound on how many run at once."""

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from shardcache.drivers.keeper import Keeper
from shardcache.errors import LoadTimeout
from shardcache.flows.steps import Load

__all__ = ("Flight", "Flights", "Loads", "inside")

# The keys whose loaders this call stands in, the outermost first.
inside: contextvars.ContextVar[tuple[bytes, ...]] = contextvars.ContextVar("shardcache_loading", default=())


class Flight:
    """One load under way: whoever joins gets its result, or what it raised."""

    __slots__ = ("_done", "_error", "_result", "retry")

    def __init__(self) -> None:
        self._done = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None
        self.retry = False  # it was broken off by its caller, which says nothing about the value

    def land(self, result: Any, error: BaseException | None) -> None:
        """End the flight."""
        self._result, self._error = result, error
        self.retry = error is not None and not isinstance(error, Exception)
        self._done.set()

    def wait(self, timeout: float | None) -> bool:
        """Return whether it has landed within ``timeout`` seconds."""
        return self._done.wait(timeout)

    def result(self) -> Any:
        """Return the result of a flight that has landed, or raise its error."""
        if self._error is not None:
            raise self._error
        return self._result


class Flights:
    """The flights of one client, by key."""

    __slots__ = ("_flights", "_guard")

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._flights: dict[bytes, Flight] = {}

    def __bool__(self) -> bool:
        return bool(self._flights)

    def board(self, wire: bytes) -> tuple[Flight, bool]:
        """Return the flight of this key, and whether it is the caller's to fly."""
        with self._guard:
            flight = self._flights.get(wire)
            if flight is not None:
                return flight, False
            flight = self._flights[wire] = Flight()
            return flight, True

    def end(self, wire: bytes, flight: Flight) -> None:
        """Take a flight off the table."""
        with self._guard:
            if self._flights.get(wire) is flight:
                del self._flights[wire]

    def void(self, wire: bytes) -> None:
        """Let nobody join any more: what is being loaded was overtaken by a set or delete."""
        with self._guard:
            self._flights.pop(wire, None)


class Loads:
    """Runs loaders, so many at a time; the loader that another one waits for needs no place of its own."""

    __slots__ = ("_keeper", "_run", "_slots")

    def __init__(self, most: int, run: Callable[[Any], Any], clock: Callable[[], float]) -> None:
        self._slots = threading.BoundedSemaphore(most)
        self._run = run
        self._keeper = Keeper(clock)

    def __call__(self, step: Load) -> Any:
        """Carry out a `Load`."""
        nested = bool(inside.get())
        if not nested:
            self._slots.acquire()
        mark = inside.set((*inside.get(), step.wire))
        kept = self._keeper.keep(step.gap, lambda: bool(self._run(step.renew())))
        free = not nested
        try:
            if step.patience is None:
                return step.loader()
            free = False  # the loader's thread gives its place back: it may outlive this call
            return self._within(step.loader, step.patience, give_back=not nested)
        finally:
            kept.stop()
            inside.reset(mark)
            if free:
                self._slots.release()

    def _within(self, loader: Callable[[], Any], patience: float, *, give_back: bool) -> Any:
        """Run a loader in a thread of its own; leave it behind when it takes too long, for a thread cannot be ended."""
        flight = Flight()

        def body() -> None:
            try:
                result, error = loader(), None
            except BaseException as caught:  # noqa: BLE001  it is raised where the result is waited for
                result, error = None, caught
            finally:
                if give_back:
                    self._slots.release()
            flight.land(result, error)

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(body,), name="shardcache loader", daemon=True).start()
        if not flight.wait(patience):
            raise LoadTimeout(f"the loader took longer than {patience:g} s")
        return flight.result()
