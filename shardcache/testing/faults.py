"""The faults that a `FaultProxy` can cause: a closed vocabulary of frozen objects.

``after``, ``at``, ``start`` and ``end`` count the bytes of one direction of one connection, from
the moment the fault is armed on it: 0 is before the next byte. ``on`` is that direction: "reply"
is from the server to the client, "request" the other. A chunk is what the other side had sent when
the proxy looked, as a rule one write of the server: all replies to one pipeline, up to 64 KiB.
"""

import math
import random
from dataclasses import dataclass
from typing import Literal

from shardcache.errors import InvalidOption

__all__ = (
    "BlackHole",
    "Corrupt",
    "Cut",
    "Delay",
    "Direction",
    "Drop",
    "Duplicate",
    "Fault",
    "Refuse",
    "Replay",
    "Split",
    "Stall",
    "random_fault",
    "strikes",
)

Direction = Literal["reply", "request"]


class _Checked:
    """Every number of a fault is at or above 0, and ``on`` is a direction."""

    __slots__ = ()

    def __post_init__(self) -> None:
        name = type(self).__name__
        for field in self.__dataclass_fields__:  # type: ignore[attr-defined]
            value = getattr(self, field)
            if field == "on":
                if value not in ("reply", "request"):
                    raise InvalidOption(
                        f"{name}: on must be 'reply' or 'request', got {value!r:.80}"
                    )
            elif field in ("after", "start", "end"):
                _check(name, field, value, whole=True)
            elif field in ("seconds", "pause") and value is not None:
                _check(name, field, value, whole=False)


def _check(name: str, field: str, value: object, *, whole: bool) -> None:
    kinds = (int,) if whole else (int, float)
    if (
        isinstance(value, bool)
        or not isinstance(value, kinds)
        or not math.isfinite(value)
        or value < 0
    ):
        kind = "a whole number" if whole else "a number of seconds"
        raise InvalidOption(f"{name}: {field} must be {kind} from 0, got {value!r:.80}")


@dataclass(frozen=True, slots=True)
class Cut(_Checked):
    """Close both sides of the connection after ``after`` bytes; with ``reset`` the client sees a RST.

    At 0 it waits for the first byte, so that a request has been carried out when its reply is cut.
    """

    after: int = 0
    reset: bool = False
    on: Direction = "reply"


@dataclass(frozen=True, slots=True)
class Stall(_Checked):
    """Pass ``after`` bytes and hold back all that follow, in order, until `FaultProxy.resume`."""

    after: int = 0
    on: Direction = "reply"


@dataclass(frozen=True, slots=True)
class Delay(_Checked):
    """Pass each chunk ``seconds`` after it came; the first ``after`` bytes at once."""

    seconds: float
    after: int = 0
    on: Direction = "reply"


@dataclass(frozen=True, slots=True)
class Split(_Checked):
    """Send the stream in pieces that end at each offset of ``at``, ``pause`` seconds between two pieces."""

    at: tuple[int, ...]
    pause: float = 0.0005
    on: Direction = "reply"

    def __post_init__(self) -> None:
        _Checked.__post_init__(self)
        for offset in self.at:
            _check("Split", "at", offset, whole=True)
        if list(self.at) != sorted(set(self.at)):
            raise InvalidOption(f"Split: at must rise, got {self.at!r:.80}")


@dataclass(frozen=True, slots=True)
class Duplicate(_Checked):
    """Send the bytes from ``start`` up to, not including, ``end`` once more, right after themselves."""

    start: int
    end: int
    on: Direction = "reply"

    def __post_init__(self) -> None:
        _Checked.__post_init__(self)
        if self.end <= self.start:
            raise InvalidOption(
                f"Duplicate: end must be above start, got {self.start} and {self.end}"
            )


@dataclass(frozen=True, slots=True)
class Replay(_Checked):
    """Pass everything, and send the next chunk once more ``seconds`` later, or on `FaultProxy.resume` with None.

    What comes in between is not held back: the copy lands behind it.
    """

    seconds: float | None = None
    on: Direction = "reply"


@dataclass(frozen=True, slots=True)
class Corrupt(_Checked):
    """Flip bits of the byte at offset ``at``: it is sent XOR ``flip`` (1 to 255)."""

    at: int = 0
    flip: int = 0xFF
    on: Direction = "reply"

    def __post_init__(self) -> None:
        _Checked.__post_init__(self)
        _check("Corrupt", "at", self.at, whole=True)
        if (
            isinstance(self.flip, bool)
            or not isinstance(self.flip, int)
            or not 1 <= self.flip <= 255
        ):
            raise InvalidOption(
                f"Corrupt: flip must be a whole number from 1 to 255, got {self.flip!r:.80}"
            )


@dataclass(frozen=True, slots=True)
class Drop(_Checked):
    """Pass ``after`` bytes and lose all that follow; the connection stays open."""

    after: int = 0
    on: Direction = "request"


@dataclass(frozen=True, slots=True)
class Refuse:
    """Reset a new connection as soon as it is there. For a true refusal see `FaultProxy.down`."""


@dataclass(frozen=True, slots=True)
class BlackHole:
    """Accept the connection, read, and never answer; on an open connection: lose all in both directions."""


Fault = Cut | Stall | Delay | Split | Duplicate | Replay | Corrupt | Drop | Refuse | BlackHole


def strikes(fault: Fault, direction: Direction) -> bool:
    """Whether the fault does something to bytes that flow in this direction."""
    match fault:
        case Refuse():
            return False
        case BlackHole():
            return True
        case _:
            return fault.on == direction


def random_fault(rng: random.Random, span: int, *, seconds: float = 0.005) -> Fault:
    """Draw a fault that strikes within ``span`` bytes (at least 2) of replies; delays last up to ``seconds``."""
    if isinstance(span, bool) or not isinstance(span, int) or span < 2:
        raise InvalidOption(f"random_fault: span must be a whole number from 2, got {span!r:.80}")
    at = rng.randrange(span)
    kinds: tuple[Fault, ...] = (
        Cut(at),
        Cut(at, reset=True),
        Stall(at),
        Delay(rng.uniform(0, seconds), at),
        Split(tuple(sorted({rng.randrange(span) for _ in range(rng.randint(1, 4))}))),
        Duplicate(at, rng.randint(at + 1, span)),
        Replay(rng.choice((None, rng.uniform(0, seconds)))),
        Corrupt(at, rng.randint(1, 255)),
        Drop(at, on="reply"),
        Drop(at, on="request"),
        Refuse(),
        BlackHole(),
    )
    return rng.choice(kinds)
