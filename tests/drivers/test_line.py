"""The line before a lock: first come, first served, and who gives up holds up nobody."""

import asyncio
import gc
import threading

import pytest

from shardcache.drivers.line import AsyncLine, Line


def test_order() -> None:
    """Turns come in the order of arrival."""
    line, found, threads = Line(), [], []

    def wait(number: int) -> None:
        with line.turn(b"k", 20) as came:
            found.append((number, came))

    with line.turn(b"k", None) as first:
        for number in range(5):
            threads.append(threading.Thread(target=wait, args=(number,)))
            threads[-1].start()
            while len(line._waiting[b"k"]) < number + 2:
                pass
        assert (first, found) == (True, [])
    for thread in threads:
        thread.join()
    assert (found, line._waiting) == ([(number, True) for number in range(5)], {})


def test_giving_up() -> None:
    """Who waited in vain leaves, and an error in a turn ends it."""
    line = Line()
    with pytest.raises(KeyError), line.turn(b"k", 0):
        with line.turn(b"k", 0.01) as came:
            assert came is False
        raise KeyError
    with line.turn(b"k", 0) as came:
        assert came is True
    assert line._waiting == {}


def test_giving_up_async() -> None:
    """The same for tasks, cancelled ones too."""

    async def main() -> None:
        line, found = AsyncLine(), []

        async def wait(number: int, timeout: float | None) -> None:
            async with line.turn(b"k", timeout) as came:
                found.append((number, came))

        async with line.turn(b"k", None):
            tasks = [asyncio.create_task(wait(number, limit)) for number, limit in enumerate((None, 0.01, None, None))]
            await asyncio.sleep(0.05)
            tasks[2].cancel()
        await asyncio.wait(tasks)
        assert found == [(1, False), (0, True), (3, True)]
        assert dict(line._waiting[asyncio.get_running_loop()]) == {}

    asyncio.run(main())


def test_loop_that_ended_in_the_middle() -> None:
    """Tasks that a loop left in the line hinder nobody on the next loop, whatever its address."""
    line = AsyncLine()

    async def stand() -> None:
        async with line.turn(b"k", None):
            await asyncio.sleep(60)

    for _ in range(3):
        loop = asyncio.new_event_loop()
        task = loop.create_task(stand())
        loop.run_until_complete(asyncio.sleep(0))
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))
        loop.close()
        del loop, task
        gc.collect()
    assert len(line._waiting) == 0

    async def turn() -> bool:
        async with line.turn(b"k", 5) as came:
            return came

    assert asyncio.run(turn()) is True
