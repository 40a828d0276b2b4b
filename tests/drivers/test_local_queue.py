"""The line before a lock: first come, first served, and who gives up holds up nobody."""

import asyncio
import gc
import threading

import pytest

from shardcache.drivers.local_queue import AsyncLocalQueue, LocalQueue


def test_order() -> None:
    """Turns come in the order of arrival."""
    line, found, threads = LocalQueue(), [], []

    def wait(number: int) -> None:
        place = line.join(b"k")
        found.append((number, place.wait(20)))
        line.leave(b"k", place)

    first = line.join(b"k")
    for number in range(5):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        while len(line._queues[b"k"]) < number + 2:
            pass
    assert (first.wait(None), found) == (True, [])
    line.leave(b"k", first)
    for thread in threads:
        thread.join()
    assert (found, line._queues) == ([(number, True) for number in range(5)], {})


def in_a_thread(function):
    """Return what a function returns in another thread."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join(20)
    return found[0]


def test_giving_up() -> None:
    """Who waited in vain leaves, and is not waited for."""
    line = LocalQueue()
    first = line.join(b"k")

    def in_vain():
        place = line.join(b"k")
        came = place.wait(0.01)
        line.leave(b"k", place)
        return came

    assert (first.wait(0), in_a_thread(in_vain)) == (True, False)
    line.leave(b"k", first)
    line.leave(b"k", first)
    assert line._queues == {}


def test_whoever_was_broken_off_is_not_waited_for() -> None:
    """A place that nobody refers to any more is none, whatever kept its owner from giving it up."""
    line = LocalQueue()
    line.join(b"k")
    place = line.join(b"k")
    assert in_a_thread(lambda: line.join(b"other").wait(0)) is True
    assert place.wait(20) is True


def test_a_handler_does_not_wait_for_its_own_thread() -> None:
    """What comes in between in a thread that has a place further out has its turn at once."""
    line = LocalQueue()
    outer = line.join(b"k")
    inner = line.join(b"k")
    assert (outer.wait(0), inner.wait(0), in_a_thread(lambda: line.join(b"k").wait(0))) == (
        True,
        True,
        False,
    )


def test_giving_up_async() -> None:
    """The same for tasks, cancelled ones too."""

    async def main() -> None:
        line, found = AsyncLocalQueue(), []

        async def wait(number: int, timeout: float | None) -> None:
            async with line.wait_turn(b"k", timeout) as came:
                found.append((number, came))

        async with line.wait_turn(b"k", None):
            tasks = [
                asyncio.create_task(wait(number, limit))
                for number, limit in enumerate((None, 0.01, None, None))
            ]
            await asyncio.sleep(0.05)
            tasks[2].cancel()
        await asyncio.wait(tasks)
        assert found == [(1, False), (0, True), (3, True)]
        assert dict(line._waiting[asyncio.get_running_loop()]) == {}

    asyncio.run(main())


@pytest.mark.usefixtures("young")
def test_loop_that_ended_in_the_middle() -> None:
    """Tasks that a loop left in the line hinder nobody on the next loop, whatever its address."""
    line = AsyncLocalQueue()

    async def stand() -> None:
        async with line.wait_turn(b"k", None):
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
        async with line.wait_turn(b"k", 5) as came:
            return came

    assert asyncio.run(turn()) is True
