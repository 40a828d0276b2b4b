"""All exchanges of one call have one deadline together; only their waits move the clock here."""

import math
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
    """Let no voter answer, and each wait last as long as the step allows; return the time."""
    now = [1000.0]

    def unheard(shards: Any, step: Any, limit: float) -> None:
        if step.on_reply is not None:
            now[0] += min(step.timeout, step.limit, limit)
            for place, batch in enumerate(step.batches):
                if step.on_reply(place, shards[batch.shard].overdue_error(), None):
                    break

    def unheard_sync(shards: Any, step: Any, _: Any, limit: float = math.inf) -> None:
        unheard(shards, step, limit)

    async def unheard_async(shards: Any, step: Any, limit: float = math.inf) -> None:
        unheard(shards, step, limit)

    monkeypatch.setattr(runner, "run_broadcast", unheard_sync)
    monkeypatch.setattr(async_runner, "run_broadcast", unheard_async)
    return now


@pytest.mark.parametrize("call", CALLS)
def test_silent_voters_cost_one_deadline(make, silence, call) -> None:
    """A caller of silent voters gets an error in time, however many steps its call has."""
    what, most = CALLS[call]
    lock = make(timeout=TIMEOUT).lock("l", 30)
    getattr(lock, "_target", lock)._holder.clock = lambda: silence[0]
    began = silence[0]
    with pytest.raises((QuorumUnavailable, LockConflict)):
        what(lock)
    assert 0 < silence[0] - began <= most + 0.001
