"""What a fault makes of a stream: bytes in, steps out. No socket, no clock.

A step is bytes to send at once, or one of the objects below. They are carried out in order, and
none before the one in front of it is done (but for `Later`, which sets its bytes aside).
"""

from collections.abc import Callable
from dataclasses import dataclass

from shardcache.testing.faults import (
    BlackHole,
    Corrupt,
    Cut,
    Delay,
    Drop,
    Duplicate,
    Fault,
    Replay,
    Split,
    Stall,
)

__all__ = ("Close", "EndOfStream", "Hold", "Later", "Pause", "Step", "Stream", "Until")


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds from when this step is reached."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Until:
    """Wait up to this time of the clock that `Stream.feed` was told."""

    time: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait for `FaultProxy.resume`."""


@dataclass(frozen=True, slots=True)
class Later:
    """Send these bytes so many seconds from now, or on `FaultProxy.resume` if None, holding nothing up."""

    data: bytes
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Close:
    """Close both sides of the connection."""

    reset: bool = False


@dataclass(frozen=True, slots=True)
class EndOfStream:
    """The sender has closed its end: tell the receiver."""


Step = bytes | Pause | Until | Hold | Later | Close | EndOfStream


class Stream:
    """One direction of one connection, and the fault that is armed on it.

    ``on_strike`` is called once for each fault that takes effect, before its steps are returned.
    """

    __slots__ = ("_kept", "_on_strike", "_struck", "fault", "seen")

    def __init__(self, on_strike: Callable[[], None]) -> None:
        self._on_strike = on_strike
        self.arm(None)

    def arm(self, fault: Fault | None) -> None:
        """Count from 0 again and apply ``fault`` from the next byte on."""
        self.fault = fault
        self.seen = 0
        self._kept = b""
        self._struck = False

    def feed(self, data: bytes, now: float) -> list[Step]:
        """Return the steps that the next bytes, at least one, become."""
        start, self.seen = self.seen, self.seen + len(data)
        match self.fault:
            case Cut(after, reset) if self.seen >= after:
                return self._spent(data[: after - start], Close(reset))
            case Stall(after) if self.seen > after:
                return self._spent(data[: after - start], Hold(), data[after - start :])
            case Drop(after) if self.seen > after:
                return self._strike(data[: max(0, after - start)])
            case BlackHole():
                return self._strike()
            case Delay(seconds, after) if self.seen > after:
                free = max(0, after - start)
                return self._strike(data[:free], Until(now + seconds), data[free:])
            case Split(at, pause):
                return self._split(data, start, at, pause)
            case Duplicate(first, end):
                self._kept += data[max(0, first - start) : max(0, end - start)]
                if self.seen >= end:
                    return self._spent(data[: end - start], self._kept, data[end - start :])
            case Replay(seconds):
                return self._spent(data, Later(data, seconds))
            case Corrupt(at, flip) if self.seen > at:
                hit = at - start
                return self._spent(data[:hit] + bytes([data[hit] ^ flip]) + data[hit + 1 :])
        return [data]

    def _split(self, data: bytes, start: int, at: tuple[int, ...], pause: float) -> list[Step]:
        steps: list[Step] = []
        begin = 0
        for cut in (offset - start for offset in at if start < offset <= self.seen):
            steps += (
                data[begin:cut],
                Pause(pause),
            )  # one at the very end parts this chunk from the next
            begin = cut
        if not steps:
            return [data]
        steps.append(data[begin:])
        return self._spent(*steps) if self.seen >= at[-1] else self._strike(*steps)

    def _strike(self, *steps: Step) -> list[Step]:
        if not self._struck:
            self._struck = True
            self._on_strike()
        return [step for step in steps if step != b""]

    def _spent(self, *steps: Step) -> list[Step]:
        """The fault has done its work: what follows passes unharmed."""
        done = self._strike(*steps)
        self.arm(None)
        return done
