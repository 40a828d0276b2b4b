"""A source that changes, fails, lies: what it said last stays, and calls go on with it."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from shardcache import errors
from shardcache.events import Event
from tests.drivers.watched_source import LONG, soon
from tests.waiting import until


def test_first_answer(source, client, watch) -> None:
    """Nothing is asked before the first use, which waits for the answer."""
    assert (source.calls, client.applied) == (0, [])
    watch.ensure(soon())
    assert client.applied == [("a",)]
    assert watch.stats().ok


def test_only_changes_are_applied(source, client, watch) -> None:
    """An answer is applied when it differs from the last one, however often it comes."""
    watch.ensure(soon())
    until(lambda: source.calls > 5)
    source.answer = ("a", "b")
    until(lambda: len(client.applied) > 1)
    calls = source.calls
    until(lambda: source.calls > calls + 5)
    assert client.applied == [("a",), ("a", "b")]
    assert (watch.stats().changes, watch.stats().failures, client.events) == (2, 0, [])


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(OSError("down"), id="error"),
        pytest.param(SystemExit(), id="exit"),
        pytest.param((), id="empty"),
        pytest.param(None, id="none"),
        pytest.param(("refused",), id="refused"),
    ],
)
def test_last_good_answer_stays(source, client, watch, bad) -> None:
    """However a poll fails, one event tells of it, one of its end, and the counter counts all."""
    client.refuses = ("refused",)
    watch.ensure(soon())
    source.answer = bad
    until(lambda: watch.stats().failures > 3)
    assert (client.applied, client.kinds, watch.stats().ok) == (
        [("a",)],
        ["discovery_failed"],
        False,
    )
    watch.ensure(time.monotonic())  # a call goes on with what there is
    source.answer = ("a",)
    until(lambda: watch.stats().ok)
    until(lambda: client.kinds == ["discovery_failed", "discovery_back"])
    assert (client.applied, watch.stats().changes) == ([("a",)], 1)
    assert [event.shard for event in client.events] == ["the source"] * 2


def test_no_first_answer(source, client, watch) -> None:
    """Calls fail with the reason until there is an answer, and then no more."""
    source.answer = errors.InvalidURL("line 3 has a port that is none")
    with pytest.raises(errors.DiscoveryFailed, match="the source: line 3 has a port that is none"):
        watch.ensure(soon())
    with pytest.raises(errors.ShardUnavailable):
        watch.ensure(soon())
    source.answer = ("a",)
    until(lambda: watch.stats().ok)
    watch.ensure(time.monotonic())
    assert client.applied == [("a",)]


def test_foreign_text_is_not_shown(source, client, watch, caplog) -> None:
    """What a foreign error says may hold a password: no message, and no line of the log has it."""
    source.answer = ValueError("http://user:secret@consul")
    with pytest.raises(errors.DiscoveryFailed, match="no nodes from the source: ValueError") as got:
        watch.ensure(soon())
    until(lambda: client.events)
    assert "secret" not in str(got.value) + str(client.events[0].error) + caplog.text
    assert got.value.__cause__ is source.answer


def test_storm_of_refreshes(source, client, watching) -> None:
    """A thousand refreshes from many threads are one poll under way and one behind it."""
    watch = watching(interval=600.0)
    watch.ensure(soon())
    source.free.clear()
    watch.refresh()
    until(lambda: source.calls == 2)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: watch.refresh(), range(1000)))
    source.free.set()
    until(lambda: source.calls == 3)
    until(lambda: watch.stats().polls == 3 and watch.pause() > 1)
    assert (source.calls, source.at_once) == (3, 1)


def test_refreshes_of_a_source_that_fails(source, client, watching) -> None:
    """Asking again and again does not shorten the growing pause after failures."""
    watch = watching(interval=600.0)
    watch.ensure(soon())
    source.answer = OSError()

    def failed() -> bool:
        watch.refresh()
        return watch.stats().failures >= 4

    until(failed)
    times = source.times[1:5]
    pauses = [after - before for before, after in pairwise(times)]
    assert [pause >= 0.075 * 2**at for at, pause in enumerate(pauses)] == [True] * 3


def test_refresh_during_a_poll(source, client, watching) -> None:
    """What changes while a poll is under way is found by the one behind it."""
    watch = watching(interval=600.0)
    watch.ensure(soon())
    source.free.clear()
    watch.refresh()
    until(lambda: source.calls == 2)
    watch.refresh()
    source.free.set()
    until(lambda: source.calls == 3)


def test_refresh_that_the_poll_has_settled(source, client, watching) -> None:
    """What the poll under way finds out is not asked for once more; what is open still is."""
    watch = watching(interval=600.0)
    watch.ensure(soon())
    source.free.clear()
    watch.refresh()
    until(lambda: source.calls == 2)
    source.answer = ("b",)
    watch.refresh_unless(1, lambda: ("b",) in client.applied)
    source.free.set()
    until(lambda: ("b",) in client.applied and watch.stats().polls == 2 and watch.pause() > 1)
    watch.refresh_unless(2, lambda: ("c",) in client.applied)
    until(lambda: source.calls == 3)
    assert watch.stats().polls == 3


def test_hook_that_raises(source, client, watching) -> None:
    """An observer that fails does not end the watch."""

    def hook(event: Event) -> None:
        raise ZeroDivisionError

    watch = watching(hook=hook)
    watch.ensure(soon())
    source.answer = OSError()
    until(lambda: watch.stats().failures > 2)
    source.answer = ("b",)
    until(lambda: client.applied == [("a",), ("b",)])


def test_on_an_event_loop(source, client, watching) -> None:
    """Tasks wait without holding up their loop, and one that is cancelled takes none along."""
    source.free.clear()
    watch = watching()

    async def main() -> None:
        deadline = asyncio.get_running_loop().time() + LONG
        tasks = [asyncio.create_task(watch.ensure_async(deadline)) for _ in range(3)]
        await asyncio.to_thread(until, lambda: source.calls)
        tasks[0].cancel()
        await asyncio.sleep(0.01)
        assert [task.done() for task in tasks] == [True, False, False]
        source.free.set()
        await asyncio.gather(*tasks[1:])
        await watch.ensure_async(0.0)

    asyncio.run(main())
    assert client.applied == [("a",)]
