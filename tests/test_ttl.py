"""ttl: seconds in, whole milliseconds out."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.errors import InvalidTTL
from shardcache.ttl import MAX_SECONDS, milliseconds


@pytest.mark.parametrize(
    ("ttl", "ms"),
    [
        (None, None),
        (1, 1000),
        (0.25, 250),
        (0.0001, 1),
        (timedelta(minutes=2), 120_000),
        (0, 0),
        (-5, 0),
        (timedelta(-1), 0),
        (-math.inf, 0),
    ],
)
def test_conversion(ttl: float | timedelta | None, ms: int | None) -> None:
    """Seconds and timedeltas become milliseconds, rounded up; zero or less becomes 0."""
    assert milliseconds(ttl) == ms


@given(st.floats(min_value=1e-9, max_value=MAX_SECONDS))
def test_never_shorter_than_asked(ttl: float) -> None:
    """Rounding never ends a value early, and never by a whole millisecond late."""
    ms = milliseconds(ttl)
    assert ms is not None
    assert 0 < ttl * 1000 <= ms < ttl * 1000 + 1


@pytest.mark.parametrize("ttl", [True, "5", math.nan, math.inf, 1e12, [1], timedelta.max, 10**400])
def test_refused(ttl: object) -> None:
    """What is no span of time, or one of over a century, is refused."""
    with pytest.raises(InvalidTTL, match="ttl"):
        milliseconds(ttl)  # type: ignore[arg-type]
