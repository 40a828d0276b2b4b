"""The queue of waiting callers: first come, first served, each gone at its deadline."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from shardcache.wire.turnstile import Turnstile


@pytest.fixture
def scene(virtual) -> Callable[[Callable[[Turnstile], Any]], None]:
    """Run a coroutine function with a turnstile in virtual time."""

    def go(act: Callable[[Turnstile], Any]) -> None:
        async def main() -> None:
            await act(Turnstile(asyncio.get_running_loop()))

        virtual(main())

    return go


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_first_come_first_served(scene) -> None:
    """Callers are let in in the order of their coming, as many as there is room for."""

    async def act(turnstile: Turnstile) -> None:
        waiting = [turnstile.wait(soon(1)) for _ in range(5)]
        turnstile.let_in(2)
        assert [future.done() for future in waiting] == [True, True, False, False, False]
        turnstile.let_in(9)
        assert ([future.done() for future in waiting], len(turnstile)) == ([True] * 5, 0)

    scene(act)


def test_who_gave_up_takes_no_place(scene) -> None:
    """A cancelled caller is passed over, and the next one gets the place."""

    async def act(turnstile: Turnstile) -> None:
        waiting = [turnstile.wait(soon(1)) for _ in range(4)]
        waiting[0].cancel()
        waiting[2].cancel()
        turnstile.let_in(2)
        assert [future.cancelled() for future in waiting] == [True, False, True, False]
        assert [future.result() for future in (waiting[1], waiting[3])] == [None, None]

    scene(act)


def test_gone_at_the_deadline(scene) -> None:
    """Each caller waits until its own deadline, within two milliseconds, and not a moment less."""

    async def act(turnstile: Turnstile) -> None:
        loop = asyncio.get_running_loop()
        begun, ended = loop.time(), []
        for number in range(50):
            future = turnstile.wait(begun + 1 + number * 0.01)
            future.add_done_callback(lambda f: ended.append(loop.time()) if f.exception() else None)
        await asyncio.sleep(2)
        late = [when - begun - 1 - number * 0.01 for number, when in enumerate(ended)]
        assert (len(late), min(late) > -1e-6, max(late) < 0.002, len(turnstile)) == (50, True, True, 0)

    scene(act)


def test_turned_away(scene) -> None:
    """An error ends everybody's waiting, each with an exception of its own."""

    async def act(turnstile: Turnstile) -> None:
        waiting = [turnstile.wait(soon(1)) for _ in range(3)]
        waiting[1].cancel()
        turnstile.turn_away(ConnectionError("gone"))
        errors = [waiting[at].exception() for at in (0, 2)]
        assert ([str(error) for error in errors], errors[0] is errors[1], len(turnstile)) == (["gone"] * 2, False, 0)

    scene(act)


def test_used_again(scene) -> None:
    """After everybody has gone the next caller waits for its own deadline."""

    async def act(turnstile: Turnstile) -> None:
        first = turnstile.wait(soon(1))
        turnstile.let_in(1)
        await first
        await asyncio.sleep(5)
        with pytest.raises(TimeoutError):
            await turnstile.wait(soon(1))

    scene(act)
