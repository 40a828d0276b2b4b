"""How long a value lives: the caller's seconds, the server's milliseconds."""

import math
from datetime import timedelta
from enum import Enum
from typing import Final

from shardcache.errors import InvalidTTL

__all__ = ("DEFAULT", "TTL", "Default", "default_milliseconds", "milliseconds")

MAX_SECONDS = 100 * 365.25 * 24 * 3600.0  # Redis adds it to its clock in a signed 64-bit number


class Default(Enum):
    """The type of `DEFAULT`."""

    DEFAULT = "DEFAULT"

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT: Final = Default.DEFAULT
"""A ttl left out: the client's ``default_ttl`` counts."""

TTL = int | float | timedelta | None


def milliseconds(ttl: TTL) -> int | None:
    """Return ``ttl`` in whole milliseconds, rounded up; None: no expiry, 0: "zero or less"."""
    if ttl is None:
        return None
    if isinstance(ttl, timedelta):
        seconds: float = ttl.total_seconds()
    elif isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise InvalidTTL(
            f"ttl must be seconds (int or float), a timedelta or None, got {ttl!r:.80}"
        )
    else:
        seconds = ttl
    if seconds <= 0:
        return 0
    if not seconds <= MAX_SECONDS:  # NaN as well
        if isinstance(seconds, float) and not math.isfinite(seconds):
            raise InvalidTTL(
                f"ttl must be a finite number of seconds, or None for no expiry, got {ttl!r}"
            )
        raise InvalidTTL(
            f"ttl may be 100 years ({MAX_SECONDS:.0f} seconds) at most, got {ttl!r:.80}"
        )
    return math.ceil(seconds * 1000)


def default_milliseconds(ttl: TTL) -> int | None:
    """Return a client's ``default_ttl`` in milliseconds, None for no expiry.

    Raises `InvalidTTL` for zero or less, with which every ``set`` would delete.
    """
    ms = milliseconds(ttl)
    if ms == 0:
        raise InvalidTTL(
            "default_ttl must be above zero, or None for no expiry: with a ttl of zero or less "
            "every set would delete, "
            f"got {ttl!r:.80}"
        )
    return ms
