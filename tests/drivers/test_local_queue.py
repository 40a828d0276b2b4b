"""The line before a lock: first come, first served, and who gives up holds up nobody."""

import asyncio
import gc
import threading
from collections import deque

import pytest

from shardcache.drivers.aio.local_queue import AsyncLocalQueue
from shardcache.system.latch import Latch
from shardcache.system.queue import LocalQueue, Place


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
        while len(line._lines[b"k"]) < number + 2:
            pass
    assert (first.wait(None), found) == (True, [])
    line.leave(b"k", first)
    for thread in threads:
        thread.join()
    assert (found, line._lines) == ([(number, True) for number in range(5)], {})


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
    assert line._lines == {}


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


def test_as_many_as_may_have_their_turn() -> None:
    """The first so many go on at once, and each that leaves lets one more go on."""
    line = deque()

    def wait(seconds):
        return in_a_thread(lambda: Place(line, 2).join().wait(seconds))

    first, second = Place(line, 2).join(), Place(line, 2).join()
    second.thread = -1  # of a thread that is none of these
    assert (first.wait(0), second.wait(0), wait(0)) == (True, True, False)
    second.leave()
    second.leave()
    assert (len(line), wait(0)) == (1, True)


def test_nobody_before_costs_no_latch() -> None:
    """Only a caller that has to wait makes what it is woken by."""
    line = LocalQueue()
    first = line.join(b"k")
    assert (first.wait(20), first._latch) == (True, None)
    second = line.join(b"k")
    first.thread = -1  # of another thread
    assert (second.wait(0), second._latch is None) == (False, False)


def test_leaving_right_after_the_look_is_not_missed(monkeypatch) -> None:
    """A turn that comes between a caller's look and its wait wakes it at once."""
    monkeypatch.setattr(Latch, "_pause", lambda *_: pytest.fail("it waits to be woken"))
    line = LocalQueue()
    first = line.join(b"k")
    first.thread = -1  # of another thread

    class Looking(Place):
        __slots__ = ()

        def _has_turn(self) -> bool:
            came = super()._has_turn()
            first.leave()
            return came

    assert Looking(first.line).wait(20) is True


def test_telling_that_it_is_slow(monkeypatch) -> None:
    """Who waits for longer than a while is told once; who waits in vain for less is not."""
    monkeypatch.setattr("shardcache.system.queue._SLOW", 0.01)
    line, told = LocalQueue(), []
    first = line.join(b"k")

    def wait(timeout):
        place = line.join(b"k")
        came = line.wait_turn(place, timeout, lambda: told.append(timeout))
        line.leave(b"k", place)
        return came

    assert line.wait_turn(first, None, lambda: told.append("first"))
    assert [in_a_thread(lambda end=end: wait(end)) for end in (0, 0.005, 0.02)] == [False] * 3
    assert told == [0.02]


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


def test_leaving_a_line_that_changes_meanwhile() -> None:
    """A place is out of the line, also if another thread or a finalizer came in between."""

    class Changing(deque):
        """Says once, as a deque does, that it was changed during `remove`."""

        changed = True

        def remove(self, one: object) -> None:
            if self.changed:
                self.changed = False
                raise IndexError("deque mutated during remove().")
            super().remove(one)

    place = Place(Changing()).join()
    place.leave()
    assert list(place.line) == []
    place.leave()  # which has no effect any more
