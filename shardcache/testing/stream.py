"""What a fault makes of a stream: bytes go in, steps come out. It has no socket and no clock.

A step is bytes to send at once, or one of the objects below. Steps are carried out in order, each
when the one before it is done. Only `Later` does not hold up the next step: its bytes are set
aside.
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
    """Wait for some seconds from the moment when this step is reached."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Until:
    """Wait up to a time of the clock whose time `Stream.feed` was given."""

    time: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait for `FaultProxy.resume`."""


@dataclass(frozen=True, slots=True)
class Later:
    """Set bytes aside, to send them later.

    ``data``: the bytes.
    ``seconds``: the delay; None sends them at `FaultProxy.resume`.
    """

    data: bytes
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Close:
    """Close both sides of the connection."""

    reset: bool = False


@dataclass(frozen=True, slots=True)
class EndOfStream:
    """Tell the receiver that the sender has closed its end."""


Step = bytes | Pause | Until | Hold | Later | Close | EndOfStream


class Stream:
    """One direction of one connection, and the fault that is armed on it.

    ``on_strike``: called once for each fault that takes effect, before its steps are returned.
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
        """Return the steps for the next bytes.

        ``data``: the bytes, at least one.
        ``now``: seconds of the proxy's clock.
        """
        # Offsets of the fault count from `arm`; ``data`` has those from ``start`` to ``seen``. A
        # fault that is not over yet keeps its place (`_strike`), one that is over goes (`_spent`).
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
            # A pause at the very end separates this chunk from the next one.
            steps += (data[begin:cut], Pause(pause))
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
        """Remove the fault, which has done its work: further bytes pass unharmed."""
        done = self._strike(*steps)
        self.arm(None)
        return done
