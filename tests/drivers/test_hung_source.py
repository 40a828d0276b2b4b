"""A source that hangs: it costs one deadline, and its answer is used when it comes."""

import asyncio
import time
from typing import Any

import pytest

from shardcache import errors
from shardcache.drivers.node_watch import NodeWatch
from tests.drivers.watched_source import LONG, Source
from tests.waiting import until


class Clock:
    """A clock that a test can put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


def hang_too_long(source: Source, watch: NodeWatch[Any], clock: Clock) -> None:
    """Have a poll hang, until it is overdue."""
    source.free.clear()
    calls, failures = source.calls, watch.stats().failures
    watch.refresh()
    until(lambda: source.calls > calls)
    clock.ahead += 1000
    watch.refresh()  # has it look at the clock
    until(lambda: watch.stats().failures > failures)


def test_hung_first_poll(source, client, watching) -> None:
    """The first call waits until its deadline, the next ones fail at once, and one poll hangs."""
    watch = watching()
    source.free.clear()
    with pytest.raises(errors.DiscoveryFailed, match="no answer by the deadline"):
        watch.ensure(time.monotonic() + 0.05)
    for _ in range(100):
        with pytest.raises(errors.DiscoveryFailed):
            watch.ensure(time.monotonic() + 600)
    assert (source.calls, client.events) == (1, [])
    source.free.set()
    until(lambda: watch.stats().ok)
    watch.ensure(time.monotonic())
    assert client.applied == [("a",)]


def test_hung_poll_is_shown(source, client, watching) -> None:
    """A poll that takes too long is a failure and an event; its answer is used when it comes."""
    clock = Clock()
    watch = watching(interval=600.0, timeout=600.0, clock=clock)
    watch.ensure(clock() + LONG)
    hang_too_long(source, watch, clock)
    until(lambda: client.kinds == ["discovery_failed"])
    assert "no answer for 600 s" in str(client.events[0].error)
    assert watch.stats().ok is False
    watch.ensure(clock())
    source.answer = ("b",)
    source.free.set()
    until(lambda: client.kinds == ["discovery_failed", "discovery_back"])
    assert (client.applied, source.at_once) == ([("a",), ("b",)], 1)
    assert (watch.stats().ok, watch.stats().failures) == (True, 1)


def test_hung_poll_that_fails_counts_once(source, client, watching) -> None:
    """A poll that was overdue and then failed is one failure."""
    clock = Clock()
    watch = watching(interval=600.0, timeout=600.0, clock=clock)
    watch.ensure(clock() + LONG)
    hang_too_long(source, watch, clock)
    source.answer = OSError()
    source.free.set()
    until(lambda: watch.stats().polls == 3 and watch.stats().failures == 2)
    assert client.kinds == ["discovery_failed"]


def test_hung_on_an_event_loop(source, client, watching) -> None:
    """A task waits until its deadline, the next one not at all."""
    source.free.clear()
    watch = watching()

    async def main() -> None:
        time_now = asyncio.get_running_loop().time
        for left in (0.05, 600.0):
            with pytest.raises(errors.DiscoveryFailed):
                await watch.ensure_async(time_now() + left)

    asyncio.run(main())
