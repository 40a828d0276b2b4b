"""Latencies of one window, counted from when each call was due, and what they come down to."""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ("NOT_SERVED", "PERCENTILES", "Served", "percentile", "summarized")

NOT_SERVED = "not served"
PERCENTILES = (50.0, 90.0, 99.0, 99.9)


class Served(NamedTuple):
    """A call that is done.

    ``seconds``: from when it was due to its end, so the wait for a worker counts.
    ``fine``: False if it raised, or read nothing.
    """

    seconds: float
    fine: bool


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the least of the values that at least ``percent`` of all do not exceed.

    ``ordered``: the values, the least first; one or more.
    """
    rank = -(-percent * len(ordered) // 100)  # rounded up
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]


def summarized(served: Sequence[Served]) -> dict[str, float]:
    """Return the percentiles in milliseconds, and the share not served in %."""
    ordered = sorted(one.seconds * 1000 for one in served)
    found = {f"p{percent:g}": percentile(ordered, percent) for percent in PERCENTILES}
    failed = sum(not one.fine for one in served)
    return {**found, NOT_SERVED: 100 * failed / len(served)}
