"""The wait before the next attempt at a lock, as a table."""

from types import SimpleNamespace
from typing import Any

import pytest

from shardcache.errors import LockConflict, QuorumUnavailable
from shardcache.flows.lock.backoff import Backoff, next_backoff, outage_wait

OUT = QuorumUnavailable("l", "voters are out")
FREE = LockConflict("l", "free by now", (), 0.0)
UNKNOWN = LockConflict("l", "others in this process")
HELD = LockConflict("l", "held", (), 5.0)
LEFT = 10.0


def after(error: Any, left: float = LEFT, attempt: int = 3, **ballot: Any) -> Backoff:
    """Return what follows on an attempt that took 10 ms, where each draw is 0.5."""
    votes = SimpleNamespace(**{"fences": {}, "guarded": {}, "nobody": False} | ballot)
    return next_backoff(error, votes, left, attempt=attempt, took=0.01, random=lambda: 0.5)


SOME = {"fences": {0: 7}}
GUARDED = {"guarded": {0: 3.0}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (after(OUT), Backoff(sleep=0.075)),
        (after(OUT, left=0.01), Backoff(sleep=0.01)),
        (after(OUT, **SOME), Backoff(sleep=0.075)),
        (after(HELD), Backoff(None, 5.0, 0.01, 10.0, 5.0)),
        (after(HELD, left=1.0), Backoff(None, 5.0, 0.01, 1.0, 1.0)),
        (after(HELD, **SOME), Backoff(0.003, 5.0, 0.01, 9.997, 5.0)),
        (after(HELD, **GUARDED), Backoff(0.003, 5.0, 0.01, 9.997, 5.0)),
        (after(HELD, attempt=1000, **SOME), Backoff(0.05, 5.0, 0.01, 9.95, 5.0)),
        (after(HELD, left=0.001, **SOME), Backoff(0.001, 5.0, 0.01, 0.0, 0.0)),
        (after(HELD, nobody=True), Backoff(None, 5.0, 0.01, 0.03, 0.03)),
        (after(HELD, nobody=True, **SOME), Backoff(0.003, 5.0, 0.01, 0.027, 0.027)),
        (after(FREE), Backoff(listen=0.02, jitter=0.02, most=10.0)),
        (after(UNKNOWN), Backoff(listen=0.02, jitter=0.02, most=10.0)),
        (after(FREE, **SOME), Backoff(sleep=0.003)),
        (after(FREE, attempt=1000, **SOME), Backoff(sleep=0.01)),
        (after(FREE, left=0.001, **SOME), Backoff(sleep=0.001)),
    ],
)
def test_table(found: Backoff, expected: Backoff) -> None:
    """How long to sleep, and how long to listen for a release."""
    assert found == pytest.approx(expected)


def test_random_waits() -> None:
    """Clients that came at the same time do not come again together."""
    assert outage_wait(10.0, lambda: 0.0) == pytest.approx(0.05)
    assert outage_wait(10.0, lambda: 1.0) == pytest.approx(0.1)
    assert outage_wait(0.02, lambda: 1.0) == pytest.approx(0.02)
