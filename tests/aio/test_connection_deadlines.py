"""One connection, fed by hand, in virtual time: deadlines, and its end."""

import asyncio

import pytest

from tests.aio.connection_bench import TIMEOUT, Bench, outcome


def test_overdue_to_the_millisecond(on_bench) -> None:
    """A caller is let go at its deadline; its reply comes later and goes to nobody."""

    async def scene(bench: Bench) -> None:
        begun = bench.loop.time()
        first = bench.send()
        await asyncio.sleep(0.6)
        second = bench.send()
        with pytest.raises(TimeoutError):
            await first
        assert bench.loop.time() - begun == pytest.approx(TIMEOUT, abs=0.002)
        bench.feed(b"+late\r\n")
        bench.feed(b"+mine\r\n")
        assert (await second, bench.ended, bench.connection.alive) == (b"mine", [], True)

    on_bench(scene)


def test_each_at_its_own_deadline(on_bench) -> None:
    """Callers of one stalled connection end one after the other.

    Each ends within two milliseconds of its deadline.
    """

    async def scene(bench: Bench) -> None:
        due: list[float] = []
        ended: list[float] = []
        for _ in range(100):
            due.append(bench.loop.time() + TIMEOUT)
            bench.send().add_done_callback(
                lambda f: ended.append(bench.loop.time()) if f.exception() else None
            )
            await asyncio.sleep(0.005)
        await asyncio.sleep(TIMEOUT - 0.001)
        assert len(ended) == 100
        assert max(late - when for late, when in zip(ended, due, strict=True)) < 0.002
        assert min(late - when for late, when in zip(ended, due, strict=True)) > -1e-6

    on_bench(scene)


def test_less_time_left_than_the_one_before(on_bench) -> None:
    """A command that has waited for room has its own deadline, not that of the one before it."""

    async def scene(bench: Bench) -> None:
        begun = bench.loop.time()
        long, short = bench.send(seconds=TIMEOUT), bench.send(seconds=0.1)
        with pytest.raises(TimeoutError):
            await short
        assert (bench.loop.time() - begun, long.done()) == (pytest.approx(0.1, abs=0.002), False)
        long.cancel()

    on_bench(scene)


def test_hung_link_is_given_up(on_bench) -> None:
    """Overdue for a whole further deadline.

    The server hangs, and what was sent meanwhile ends with the connection.
    """

    async def scene(bench: Bench) -> None:
        begun = bench.loop.time()
        first = bench.send()
        await asyncio.sleep(1.8 * TIMEOUT)
        second = bench.send()
        with pytest.raises(TimeoutError):
            await second
        assert bench.loop.time() - begun == pytest.approx(2 * TIMEOUT, abs=0.002)
        assert (outcome(first), [type(error) for error in bench.ended]) == (
            TimeoutError,
            [TimeoutError],
        )

    on_bench(scene)


def test_an_answered_link_lives_on(on_bench) -> None:
    """Timers follow the head of the queue.

    A connection that answers in time has no reason to end, however long it is used.
    """

    async def scene(bench: Bench) -> None:
        for number in range(50):
            future = bench.send()
            await asyncio.sleep(0.9 * TIMEOUT)
            bench.feed(b"+%d\r\n" % number)
            assert await future == b"%d" % number
        await asyncio.sleep(5 * TIMEOUT)
        assert (bench.ended, bench.connection.alive) == ([], True)

    on_bench(scene)


def test_end_of_the_connection(on_bench) -> None:
    """The server hangs up: every slot ends, in order, once; whoever sends later hears why."""

    async def scene(bench: Bench) -> None:
        order: list[int] = []
        futures = [bench.send() for _ in range(3)]
        for at, future in enumerate(futures):
            future.add_done_callback(lambda f, at=at: order.append(at) if f.exception() else None)
        bench.connection.connection_lost(None)
        bench.connection.connection_lost(None)
        await asyncio.sleep(0)
        assert (order, len(bench.ended)) == ([0, 1, 2], 1)
        assert [outcome(future) for future in [*futures, bench.send()]] == [ConnectionError] * 4
        bench.feed(b"+late\r\n")

    on_bench(scene)


def test_wait_closed(on_bench) -> None:
    """Whoever waits for the socket to be gone is told when the transport has let go of it."""

    async def scene(bench: Bench) -> None:
        bench.finish()
        waiting = asyncio.ensure_future(bench.connection.wait_closed())
        await asyncio.sleep(0)
        assert (waiting.done(), bench.wire.aborted) == (False, 1)
        bench.connection.connection_lost(None)
        await waiting

    on_bench(scene)
