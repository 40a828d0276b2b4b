"""The sketch against exact counts."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shardcache.policy.space_saving import SpaceSaving

ITEMS = st.integers(0, 30).map(lambda number: b"%d" % number)
BATCHES = st.lists(
    st.tuples(st.lists(ITEMS, max_size=40), st.sampled_from([1.0, 0.5, 0.0])), max_size=12
)
SLACK = 1e-9  # of sums of floats


@given(capacity=st.integers(1, 20), batches=BATCHES)
def test_bounds(capacity: int, batches: list[tuple[list[bytes], float]]) -> None:
    """No count is too low or above its error too high, and no frequent item is missing."""
    sketch, exact, total = SpaceSaving(capacity), Counter[bytes](), 0.0
    for items, fading in batches:
        sketch = sketch.added(items, fading)
        for item in exact:
            exact[item] *= fading  # type: ignore[assignment]
        exact.update(items)
        total = total * fading + len(items)
    assert len(sketch.estimates) <= capacity
    assert abs(sketch.total - total) < SLACK
    for item, (upper, error) in sketch.estimates.items():
        assert upper - error - SLACK <= exact[item] <= upper + SLACK
        assert error <= total / capacity + SLACK
    for item, times in exact.items():
        assert item in sketch.estimates or times <= total / capacity + SLACK
    uppers = [one.upper for one in sketch.estimates.values()]
    assert uppers == sorted(uppers, reverse=True)


def test_place_of_the_least() -> None:
    """A new item takes over the least counter, and says so as its error."""
    sketch = SpaceSaving(2).added([b"a"] * 3 + [b"b"] * 2).added([b"c"])
    assert sketch.estimates == {b"a": (3, 0), b"c": (3, 2)}
