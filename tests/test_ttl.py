"""ttl: seconds in, whole milliseconds out."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.errors import InvalidTTL
from shardcache.ttl import MAX_SECONDS, default_milliseconds, milliseconds


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


@pytest.mark.parametrize("ttl", [math.nan, math.inf])
def test_not_finite(ttl) -> None:
    """What is no finite number is refused as such, with what to give for no expiry."""
    with pytest.raises(
        InvalidTTL, match=f"finite number of seconds, or None for no expiry, got {ttl}"
    ):
        milliseconds(ttl)


@pytest.mark.parametrize("ttl", [0, -1, 0.0, -math.inf, timedelta(0)])
def test_default_that_deletes(ttl, colour) -> None:
    """A default of zero or less would delete at every set: it is refused, in a URL too."""
    with pytest.raises(InvalidTTL, match="default_ttl must be above zero, or None for no expiry"):
        colour("redis://127.0.0.1", default_ttl=ttl)
    if isinstance(ttl, int):
        with pytest.raises(InvalidTTL, match="default_ttl must be above zero"):
            colour.from_url(f"redis://127.0.0.1?default_ttl={ttl}")


@pytest.mark.parametrize("ttl", [math.nan, math.inf, "5", True])
def test_wrong_default(ttl, colour) -> None:
    """A default that is no ttl at all is refused when the client is made."""
    with pytest.raises(InvalidTTL, match="ttl must be"):
        colour("redis://127.0.0.1", default_ttl=ttl)


@pytest.mark.parametrize(
    ("ttl", "ms"), [(None, None), (0.0001, 1), (300, 300_000), (timedelta(seconds=1), 1000)]
)
def test_default(ttl, ms) -> None:
    """Any other ttl may be the default."""
    assert default_milliseconds(ttl) == ms
