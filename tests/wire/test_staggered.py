"""Attempts that overlap (RFC 8305), in virtual time: the winner, and the others' end."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from shardcache.wire.aio.staggered import first_success
from shardcache.wire.endpoint import telling


class Jump(selectors.DefaultSelector):
    """Waits for nothing: the time that the loop would sleep passes at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found and timeout is not None:
            self.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jump = Jump()
        super().__init__(self.jump)

    def time(self) -> float:
        return self.jump.now


class Attempts:
    """Attempts that end as they are told: after so many seconds, with this result or error."""

    def __init__(self, *plan: tuple[float, object]) -> None:
        self.plan = plan
        self.started: list[tuple[int, float]] = []
        self.cancelled: list[int] = []
        self.discarded: list[object] = []

    def all(self) -> list[Callable[[], Coroutine[Any, Any, object]]]:
        return [lambda at=at: self.run(at) for at in range(len(self.plan))]

    async def run(self, at: int) -> object:
        seconds, end = self.plan[at]
        self.started.append((at, asyncio.get_running_loop().time()))
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(at)
            raise
        if isinstance(end, BaseException):
            raise end
        return end


def race(attempts: Attempts) -> object:
    async def main() -> tuple[object, float]:
        loop = asyncio.get_running_loop()
        try:
            found = await first_success(attempts.all(), 0.25, attempts.discarded.append, telling)
        except Exception as error:
            found = error
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return found, loop.time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


REFUSED, UNREACHABLE = ConnectionRefusedError("no"), OSError("no route")


def test_first_is_quick() -> None:
    """The others are not even begun."""
    attempts = Attempts((0.1, "a"), (0, "b"))
    assert (race(attempts), attempts.started, attempts.cancelled) == (("a", 0.1), [(0, 0)], [])


def test_first_is_silent() -> None:
    """The second begins when the first has had its time, and ends it."""
    attempts = Attempts((99, "a"), (0.1, "b"), (0, "c"))
    assert race(attempts) == ("b", 0.35)
    assert (attempts.started, attempts.cancelled) == ([(0, 0), (1, 0.25)], [0])


def test_first_is_slow() -> None:
    """A first that answers while the second is under way wins, and the second is ended."""
    attempts = Attempts((0.3, "a"), (1, "b"))
    assert (race(attempts), attempts.cancelled) == (("a", 0.3), [1])


def test_first_fails() -> None:
    """The second begins at once."""
    attempts = Attempts((0.1, REFUSED), (0.1, "b"))
    assert (race(attempts), attempts.started) == (("b", 0.2), [(0, 0), (1, 0.1)])


def test_all_fail() -> None:
    """What is raised is the last error, when there is nobody left."""
    attempts = Attempts((0.1, REFUSED), (1, UNREACHABLE))
    assert race(attempts) == (UNREACHABLE, 1.1)


def test_two_at_once() -> None:
    """Of two that succeed in the same moment one is taken and the other handed back."""
    attempts = Attempts((0.5, "a"), (0.25, "b"))
    found, _ = race(attempts)
    assert {found, *attempts.discarded, *(("a", "b")[at] for at in attempts.cancelled)} == {
        "a",
        "b",
    }


def test_a_no_is_told() -> None:
    """An error that is no OSError comes from a server that answered: nobody else is asked."""
    no = ValueError("wrong password")
    attempts = Attempts((0.1, no), (0, "b"))
    assert (race(attempts), attempts.started) == ((no, 0.1), [(0, 0)])


def test_cancelled() -> None:
    """Who is cancelled leaves no attempt behind."""
    attempts = Attempts((99, "a"), (99, "b"))

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await first_success(attempts.all(), 0.25, attempts.discarded.append, telling)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    assert sorted(attempts.cancelled) == [0, 1]
