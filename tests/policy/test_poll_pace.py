"""When a source is polled: by interval, sooner when asked, later after failures."""

import math

from hypothesis import given
from hypothesis import strategies as st

from shardcache.policy.poll_pace import LONGEST_PAUSE, SHORTEST_PAUSE, PollPace

intervals = st.floats(0.01, 3600)
chances = st.floats(0, 1, exclude_max=True)
times = st.floats(0, 1e6)


@given(intervals, chances, times)
def test_first_poll_is_due_at_once(interval, chance, now) -> None:
    """A source that was never asked is asked now."""
    pace = PollPace(interval, lambda: chance)
    assert (pace.wait(now, asked=False), pace.wait(now, asked=True)) == (0, 0)


@given(intervals, chances, times)
def test_good_answer(interval, chance, now) -> None:
    """After a good answer the next poll is an interval away, give or take a quarter."""
    pace = PollPace(interval, lambda: chance)
    pace.succeeded(now)
    near = 1e-9 * max(now, 1)
    assert 0.75 * interval - near <= pace.wait(now, asked=False) <= 1.25 * interval + near
    pause = min(SHORTEST_PAUSE, interval)
    assert 0.75 * pause - near <= pace.wait(now, asked=True) <= 1.25 * pause + near
    assert pace.wait(now + 2 * interval, asked=False) == 0


@given(intervals, chances, times, st.integers(1, 70))
def test_failures_lengthen_the_pause(interval, chance, now, failures) -> None:
    """Each failure in a row doubles the pause, up to the longest; asking does not shorten it."""
    pace = PollPace(interval, lambda: chance)
    for _ in range(failures):
        pace.failed(now)
    shortest = min(SHORTEST_PAUSE, interval)
    pause = min(shortest * 2.0 ** min(failures - 1, 60), LONGEST_PAUSE, interval)
    near = 1e-9 * max(now, 1)
    assert 0.75 * pause - near <= pace.wait(now, asked=False) <= 1.25 * pause + near
    assert pace.wait(now, asked=True) == pace.wait(now, asked=False)


@given(intervals, chances, times, st.integers(0, 50))
def test_good_answer_ends_the_failures(interval, chance, now, failures) -> None:
    """After a good answer the next failure is the first one again."""
    pace, fresh = PollPace(interval, lambda: chance), PollPace(interval, lambda: chance)
    for _ in range(failures):
        pace.failed(now)
    pace.succeeded(now)
    pace.failed(now)
    fresh.failed(now)
    assert math.isclose(pace.wait(now, asked=False), fresh.wait(now, asked=False))


@given(intervals, st.lists(chances, min_size=2, max_size=2, unique=True))
def test_jitter(interval, chances) -> None:
    """Two processes that got their answers at the same time do not poll at the same time."""
    waits = set()
    for chance in chances:
        pace = PollPace(interval, lambda chance=chance: chance)
        pace.succeeded(0)
        waits.add(pace.wait(0, asked=False))
    assert len(waits) == 2 or math.isclose(*chances, abs_tol=1e-9)
