"""The faults that a `FaultProxy` can cause: a closed vocabulary of frozen objects.

``after``, ``at``, ``start`` and ``end`` count the bytes of one direction of one connection, from
the moment when the fault is armed on it: 0 is before the next byte. ``on`` is that direction:
"reply" is from the server to the client, "request" is from the client to the server. A chunk is
what the proxy reads at once, up to 64 KiB: as a rule one write of the server, with all replies to
one pipeline. Values outside of the ranges below raise `InvalidOption`.
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
    """A fault that checks its fields: every number is at or above 0, and ``on`` is a direction."""

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
    """Close both sides of the connection at an offset.

    ``after``: how many bytes still pass, from 0. Even at 0 the fault waits for the first byte, so a
        request has been carried out when its reply is cut.
    ``reset``: whether the client sees a RST; else it sees a FIN.
    ``on``: the direction.
    """

    after: int = 0
    reset: bool = False
    on: Direction = "reply"


@dataclass(frozen=True, slots=True)
class Stall(_Checked):
    """Hold back all bytes behind an offset, in order, until `FaultProxy.resume`.

    ``after``: how many bytes still pass, from 0.
    ``on``: the direction.
    """

    after: int = 0
    on: Direction = "reply"


@dataclass(frozen=True, slots=True)
class Delay(_Checked):
    """Pass each chunk some time after it came.

    ``seconds``: the delay, from 0.
    ``after``: how many bytes still pass at once, from 0.
    ``on``: the direction.
    """

    seconds: float
    after: int = 0
    on: Direction = "reply"


@dataclass(frozen=True, slots=True)
class Split(_Checked):
    """Send the stream in pieces.

    ``at``: the offsets at which a piece ends, from 0, in rising order.
    ``pause``: seconds between two pieces, from 0.
    ``on``: the direction.
    """

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
    """Send some bytes twice, the copy right behind the bytes.

    ``start``: the offset of the first byte, from 0.
    ``end``: the offset behind the last byte, above ``start``.
    ``on``: the direction.
    """

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
    """Pass everything, and send the next chunk once more, later.

    ``seconds``: the delay of the copy, from 0; None sends it at `FaultProxy.resume`.
    ``on``: the direction.

    Bytes that come in between are not held back: the copy comes behind them.
    """

    seconds: float | None = None
    on: Direction = "reply"


@dataclass(frozen=True, slots=True)
class Corrupt(_Checked):
    """Flip bits of one byte.

    ``at``: the offset of the byte, from 0.
    ``flip``: which bits, 1 to 255: the byte is sent XOR ``flip``.
    ``on``: the direction.
    """

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
    """Lose all bytes behind an offset; the connection stays open.

    ``after``: how many bytes still pass, from 0.
    ``on``: the direction.
    """

    after: int = 0
    on: Direction = "request"


@dataclass(frozen=True, slots=True)
class Refuse:
    """Reset a new connection as soon as it is there; `FaultProxy.down` refuses connections."""


@dataclass(frozen=True, slots=True)
class BlackHole:
    """Accept a new connection, read, and never answer.

    On an open connection, all further bytes of both directions are lost.
    """


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
    """Return a random fault.

    ``rng``: the source of randomness.
    ``span``: the fault takes effect within so many bytes of replies, from 2.
    ``seconds``: the longest delay.

    Raises `InvalidOption` if ``span`` is out of its range.
    """
    if isinstance(span, bool) or not isinstance(span, int) or span < 2:
        raise InvalidOption(f"random_fault: span must be a whole number from 2, got {span!r:.80}")
    # One fault of each kind, and then one of these.
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
        # Faults without a reply, or without a connection.
        Drop(at, on="reply"),
        Drop(at, on="request"),
        Refuse(),
        BlackHole(),
    )
    return rng.choice(kinds)
