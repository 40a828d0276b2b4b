"""Places for loaders: so many run at once, so many that were given up may still run, and errors name those that do."""

from collections.abc import Iterable, Sequence

from shardcache.errors import LoadTimeout, TooManyLoaders
from shardcache.system import queue
from shardcache.system.threads import Worker

__all__ = ("LoaderPermit", "LoaderPermits", "ThreadPermits", "named")

_NAMED = 5  # keys that an error names

Wires = tuple[bytes, ...]


class LoaderPermit:
    """The place of one loader. ``counted``: it is one of the bounded number; the loader that another one waits for needs none.

    ``turn``: what it waits by. ``worker``: the thread that runs the loader, if it has one of its own.
    """

    __slots__ = ("counted", "left", "turn", "wires", "worker")

    def __init__(self, wires: Wires, *, counted: bool) -> None:
        self.wires = wires
        self.counted = counted
        self.left = False
        self.turn: queue.Place | None = None
        self.worker: Worker | None = None


class LoaderPermits:
    """Who is running and who was given up, whatever the colour.

    Nothing is locked. That a place goes from one set to the other or comes to its end at the same moment is decided by who takes it out
    of ``_running``.
    """

    __slots__ = ("_abandoned", "_most", "_running", "ended")

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: dict[LoaderPermit, None] = {}
        self._abandoned: dict[LoaderPermit, None] = {}
        self.ended = 0  # more with every place that was free again: it need not be exact, only another number

    def check_abandoned(self) -> None:
        """Raise `TooManyLoaders` if no other loader may be begun that might have to be given up."""
        if len(self._abandoned) >= self._most:
            raise TooManyLoaders(
                f"{len(self._abandoned)} loaders that were given up after their hard_timeout have not ended "
                f"(max_loads allows {self._most}), so no other is begun: {_names(self._abandoned)}"
            )

    def enter(self, wires: Wires, *, counted: bool) -> LoaderPermit:
        """Note that a loader begins."""
        place = LoaderPermit(wires, counted=counted)
        self.begin(place)
        return place

    def begin(self, place: LoaderPermit) -> None:
        """Note that the loader of ``place`` begins."""
        self._running[place] = None

    def leave(self, place: LoaderPermit) -> None:
        """Note that a loader has ended, given up or not."""
        place.left = True
        self.ended += place.counted
        if self._running.pop(place, place) is None and place.counted:
            self.free(place)
        self._abandoned.pop(place, None)

    def abandon(self, place: LoaderPermit) -> bool:
        """Note that a loader runs on though nobody waits for it; others may have its place. Return whether it does run on."""
        self._abandoned[place] = None
        self.ended += place.counted
        if self._running.pop(place, place) is None and place.counted:
            self.free(place)
        if place.left:
            self._abandoned.pop(place, None)
        return not place.left

    def free(self, place: LoaderPermit) -> None:
        """Let the next one in."""

    def no_turn(self, seconds: float) -> LoadTimeout:
        """Return the error for a loader that did not get its turn."""
        return LoadTimeout(
            f"the loader had to wait for its turn, and hard_timeout ({seconds:g} s) was over: {self._most} loaders (max_loads) "
            f"are running: {self._holders()}"
        )

    def stuck(self, seconds: float) -> TooManyLoaders:
        """Return the error for a loader that did not get its turn since none of those at work has ended."""
        return TooManyLoaders(
            f"the loader had to wait for its turn, and in {seconds:g} s none of the {self._most} loaders that are running (max_loads) "
            f"has ended: {self._holders()}"
        )

    def _holders(self) -> str:
        return _names(place for place in list(self._running) if place.counted)


class ThreadPermits(LoaderPermits):
    """Places that threads wait for."""

    __slots__ = ("_turns",)

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._turns = queue.TurnQueue(most)

    def acquire(self, place: LoaderPermit, timeout: float | None, wait: float) -> None:
        """Wait for a turn, for so many seconds, and raise `LoadTimeout` if there was none in time.

        Without ``patience`` (None) wait for as long as loaders end, and raise `TooManyLoaders` if none has for ``wait`` seconds.
        In any case, whatever breaks it off, ``place`` is to be left.
        """
        if place.counted:
            place.turn = self._turns.join()
            ended = self.ended
            while not place.turn.wait(wait if timeout is None else timeout):
                if timeout is not None:
                    raise self.no_turn(timeout)
                if self.ended == ended:
                    raise self.stuck(wait)
                ended = self.ended
        self.begin(place)

    def leave(self, place: LoaderPermit) -> None:
        """Note that a loader has ended, given up or not. Leaving twice is leaving."""
        super().leave(place)
        self.free(place)  # it may have been broken off before it had its turn

    def free(self, place: LoaderPermit) -> None:
        """Let the next one in."""
        if place.turn is not None:
            place.turn.leave()


def _names(places: Iterable[LoaderPermit]) -> str:
    """Return the keys of the loaders that have been there longest."""
    return named([wire for place in list(places) for wire in place.wires])


def named(wires: Sequence[bytes]) -> str:
    """Return some of the keys, and how many more there are."""
    shown = ", ".join(repr(wire.decode("utf-8", "backslashreplace")) for wire in wires[:_NAMED])
    return shown if len(wires) <= _NAMED else f"{shown} and {len(wires) - _NAMED} more"
