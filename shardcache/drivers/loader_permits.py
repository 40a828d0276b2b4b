"""Places for loaders: how many run at once, and how many that were given up may still run.

Errors name the keys of those that run.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from shardcache.errors import LoadTimeout, TooManyLoaders
from shardcache.request_deadline import time_left
from shardcache.system.queue import Line, Place
from shardcache.system.threads import Worker

__all__ = ("LoaderPermit", "LoaderPermits", "NoTimeForTurn", "ThreadPermits", "too_many")

_NAMED = 5  # keys that an error names
_TIMER_TICK = 0.001  # seconds by which a timer of an event loop may be early, at most

Wires = tuple[bytes, ...]


class NoTimeForTurn(TooManyLoaders):
    """The caller's `deadline` was over first: callers that have joined its load may have more."""


class LoaderPermit:
    """The permit of one loader.

    ``counted``: whether it is one of the bounded number. A loader that another one waits for is
    not.
    ``turn``: its place among those that wait.
    ``worker``: the thread that runs the loader, if it has one of its own.
    """

    __slots__ = ("counted", "left", "turn", "wires", "worker")

    def __init__(self, wires: Wires, *, counted: bool) -> None:
        self.wires = wires
        self.counted = counted
        self.left = False
        self.turn: Place | None = None
        self.worker: Worker | None = None


class LoaderPermits:
    """The loaders that run and those that were given up, for both drivers.

    Nothing is locked. A permit may be given up and come to its end at the same moment: the one that
    takes it out of ``_running`` decides.
    """

    __slots__ = ("_abandoned", "_most", "_running", "ended")

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: dict[LoaderPermit, None] = {}
        self._abandoned: dict[LoaderPermit, None] = {}
        # Grows with each permit that is free again. It need not be exact, only another number.
        self.ended = 0

    def check_abandoned(self) -> None:
        """Raise `TooManyLoaders` if no other loader may be begun that might have to be given up."""
        if len(self._abandoned) >= self._most:
            raise TooManyLoaders(
                f"{len(self._abandoned)} loaders that were given up after their hard_timeout have "
                f"not ended (max_loads allows {self._most}), so no other is begun: "
                f"{_names(self._abandoned)}"
            )

    def enter(self, wires: Wires, *, counted: bool) -> LoaderPermit:
        """Note that a loader begins."""
        permit = LoaderPermit(wires, counted=counted)
        self.begin(permit)
        return permit

    def begin(self, permit: LoaderPermit) -> None:
        """Note that the loader with ``permit`` begins."""
        self._running[permit] = None

    def leave(self, permit: LoaderPermit) -> None:
        """Note that a loader has ended, given up or not."""
        permit.left = True
        self.ended += permit.counted
        if self._running.pop(permit, permit) is None and permit.counted:
            self.free(permit)
        self._abandoned.pop(permit, None)

    def abandon(self, permit: LoaderPermit) -> bool:
        """Note that a loader runs on though nobody waits for it; return whether it does.

        Others may have its permit.
        """
        self._abandoned[permit] = None
        self.ended += permit.counted
        if self._running.pop(permit, permit) is None and permit.counted:
            self.free(permit)
        if permit.left:
            self._abandoned.pop(permit, None)
        return not permit.left

    def free(self, permit: LoaderPermit) -> None:
        """Let the next one in."""

    @staticmethod
    def turn_limit(timeout: float | None, wait: float) -> float:
        """Return the seconds that a loader waits for its turn before it looks (`check_wait`)."""
        left = time_left()
        longest = wait if timeout is None else timeout
        return longest if left is None else min(longest, max(left, 0.0))

    def check_wait(self, timeout: float | None, wait: float, ended: int) -> int:
        """Return how many loaders have ended, if the wait for a turn goes on; else raise why not.

        ``ended``: how many had ended when the wait began.
        """
        left = time_left()
        if left is not None and left <= _TIMER_TICK:
            raise NoTimeForTurn(
                f"the loader had to wait for its turn, and the time of shardcache.deadline is over:"
                f" {self._most} loaders (max_loads) are running: {self._holders()}"
            )
        if timeout is not None:
            raise self.no_turn(timeout)
        if self.ended == ended:
            raise self.stuck(wait)
        return self.ended

    def no_turn(self, seconds: float) -> LoadTimeout:
        """Return the error for a loader that did not get its turn."""
        return LoadTimeout(
            f"the loader had to wait for its turn, and hard_timeout ({seconds:g} s) was over: "
            f"{self._most} loaders (max_loads) are running: {self._holders()}"
        )

    def stuck(self, seconds: float) -> TooManyLoaders:
        """Return the error for a loader that got no turn, since no other loader has ended."""
        return TooManyLoaders(
            f"the loader had to wait for its turn, and in {seconds:g} s none of the {self._most} "
            f"loaders that are running (max_loads) has ended: {self._holders()}"
        )

    def _holders(self) -> str:
        return _names(permit for permit in list(self._running) if permit.counted)


class ThreadPermits(LoaderPermits):
    """Places that threads wait for."""

    __slots__ = ("_turns",)

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._turns: Line = deque()

    def acquire(self, permit: LoaderPermit, timeout: float | None, wait: float) -> None:
        """Wait for a turn. In any case, whatever breaks it off, ``permit`` is to be left.

        ``timeout``: seconds after which `LoadTimeout` is raised.
        ``wait``: without a timeout, seconds without the end of any loader after which
        `TooManyLoaders` is raised.
        """
        if permit.counted:
            permit.turn = Place(self._turns, self._most)
            permit.turn.join()
            ended = self.ended
            while not permit.turn.wait(self.turn_limit(timeout, wait)):
                ended = self.check_wait(timeout, wait, ended)
        self.begin(permit)

    def leave(self, permit: LoaderPermit) -> None:
        """Note that a loader has ended, given up or not. Leaving twice is leaving."""
        super().leave(permit)
        self.free(permit)  # it may have been broken off before it had its turn

    def free(self, permit: LoaderPermit) -> None:
        """Let the next one in."""
        if permit.turn is not None:
            permit.turn.leave()


def _names(permits: Iterable[LoaderPermit]) -> str:
    """Return the keys of the loaders that have been there longest."""
    return named([wire for permit in list(permits) for wire in permit.wires])


def named(wires: Sequence[bytes]) -> str:
    """Return some of the keys, and how many more there are."""
    shown = ", ".join(repr(wire.decode("utf-8", "backslashreplace")) for wire in wires[:_NAMED])
    return shown if len(wires) <= _NAMED else f"{shown} and {len(wires) - _NAMED} more"


def too_many(refreshing: Iterable[tuple[bytes, ...]]) -> TooManyLoaders:
    """Return the error for a refresh that is not begun."""
    wires = [wire for each in list(refreshing) for wire in each]
    return TooManyLoaders(
        "as many refreshes as may be (max_loads) are at work in the background, so no other is "
        f"begun: {named(wires)}"
    )
