"""However many exchanges a call needs, together they have one deadline: the waits are counted by a clock that they alone move."""

from collections.abc import Callable
from typing import Any

import pytest

from shardcache.drivers.aio import runner as async_runner
from shardcache.drivers.sync import runner
from shardcache.errors import LockConflict, QuorumUnavailable

TIMEOUT = 0.3
CALLS: dict[str, tuple[Callable[[Any], Any], float]] = {  # and how long it may take
    "acquire": (lambda lock: lock.acquire(blocking=False), TIMEOUT),
    "acquire for less": (lambda lock: lock.acquire(timeout=0.1), TIMEOUT),
    "acquire for more": (lambda lock: lock.acquire(timeout=0.7), 0.7),
    "locked": (lambda lock: lock.locked(), TIMEOUT),
    "owner": (lambda lock: lock.owner(), TIMEOUT),
    "adopt": (lambda lock: lock.adopt("handover:1:x"), TIMEOUT),
    "force_release": (lambda lock: lock.force_release(), TIMEOUT),
}


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let no voter answer: each is waited for as long as the step allows. Return the time, in a list."""
    now = [1000.0]

    def unheard(shards: Any, step: Any) -> None:
        if step.on_reply is not None:
            now[0] += step.timeout if step.limit is None else min(step.timeout, step.limit)
            for place, batch in enumerate(step.batches):
                if step.on_reply(place, shards[batch.shard].overdue_error(), None):
                    break

    async def unheard_async(shards: Any, step: Any) -> None:
        unheard(shards, step)

    monkeypatch.setattr(runner, "run_broadcast", lambda shards, step, clock: unheard(shards, step))
    monkeypatch.setattr(async_runner, "run_broadcast", unheard_async)
    return now


@pytest.mark.parametrize("call", CALLS)
def test_silent_voters_cost_one_deadline(make, silence, call) -> None:
    """Whoever asks voters that do not answer hears so in time, by however many steps he asks them."""
    what, most = CALLS[call]
    lock = make(timeout=TIMEOUT).lock("l", 30)
    getattr(lock, "_target", lock)._clock = lambda: silence[0]
    began = silence[0]
    with pytest.raises((QuorumUnavailable, LockConflict)):
        what(lock)
    assert 0 < silence[0] - began <= most + 0.001
