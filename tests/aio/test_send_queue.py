"""The queue of slots that wait to be sent: first come, first served, each gone at its deadline."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from shardcache.wire.aio.pending_reply import PendingReply, ReplyBatch
from shardcache.wire.aio.send_queue import SendQueue


class Gate:
    """A send queue, and the calls that left it before their turn: when, and why."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.gone: list[tuple[PendingReply, float, Exception]] = []
        self.queue = SendQueue(
            self.loop, lambda slot, why: self.gone.append((slot, self.loop.time(), why))
        )

    def slot(self, seconds: float = 1.0) -> PendingReply:
        return (
            self.loop.create_future(),
            self.loop.time() + seconds,
            b"",
            ReplyBatch(1),
            lambda slot, why: None,
        )

    def wait(self, seconds: float = 1.0) -> PendingReply:
        slot = self.slot(seconds)
        self.queue.wait(slot)
        return slot


@pytest.fixture
def scene(virtual) -> Callable[[Callable[[Gate], Any]], None]:
    """Run a coroutine function with a send queue in virtual time."""

    def go(act: Callable[[Gate], Any]) -> None:
        async def main() -> None:
            await act(Gate())

        virtual(main())

    return go


def test_first_come_first_served(scene) -> None:
    """Slots have their turn in the order of their coming, and then nobody is left."""

    async def act(gate: Gate) -> None:
        waiting = [gate.wait() for _ in range(5)]
        assert [gate.queue.next() for _ in range(6)] == [*waiting, None]
        assert len(gate.queue) == 0

    scene(act)


def test_who_gave_up_takes_no_turn(scene) -> None:
    """A slot that nobody waits for any more is passed over."""

    async def act(gate: Gate) -> None:
        waiting = [gate.wait() for _ in range(4)]
        waiting[0][0].cancel()
        waiting[2][0].cancel()
        waiting[3][0].cancel()
        assert (gate.queue.next(), gate.queue.next(), gate.gone) == (waiting[1], None, [])

    scene(act)


def test_gone_at_the_deadline(scene) -> None:
    """Each slot waits until its own deadline, within two milliseconds, and not a moment less."""

    async def act(gate: Gate) -> None:
        waiting = [gate.wait(1 + number * 0.01) for number in range(50)]
        await asyncio.sleep(2)
        assert [slot for slot, _, _ in gate.gone] == waiting
        late = [when - slot[1] for slot, when, _ in gate.gone]
        assert (min(late) > -1e-6, max(late) < 0.002, len(gate.queue)) == (True, True, 0)
        assert {type(why) for _, _, why in gate.gone} == {TimeoutError}

    scene(act)


def test_put_back_before_all_others(scene) -> None:
    """Slots that have had their turn come first again, in their order, and keep their deadlines."""

    async def act(gate: Gate) -> None:
        first, second, third = gate.slot(0.1), gate.slot(0.2), gate.wait(1)
        gate.queue.put_back([first, second])
        await asyncio.sleep(0.15)
        assert [slot for slot, _, _ in gate.gone] == [first]
        assert [gate.queue.next() for _ in range(3)] == [second, third, None]

    scene(act)


def test_turned_away(scene) -> None:
    """An error ends everybody's waiting, each with an exception of its own."""

    async def act(gate: Gate) -> None:
        waiting = [gate.wait() for _ in range(3)]
        waiting[1][0].cancel()
        gate.queue.fail_all(ConnectionError("gone"))
        assert [slot for slot, _, _ in gate.gone] == [waiting[0], waiting[2]]
        one, other = (why for _, _, why in gate.gone)
        assert (str(one), str(other), one is other, len(gate.queue)) == (
            "gone",
            "gone",
            False,
            0,
        )

    scene(act)


def test_used_again(scene) -> None:
    """After everybody has gone the next slot waits for its own deadline."""

    async def act(gate: Gate) -> None:
        gate.wait()
        gate.queue.next()
        await asyncio.sleep(5)
        slot, begun = gate.wait(), gate.loop.time()
        await asyncio.sleep(2)
        assert [(gone, when - begun) for gone, when, _ in gate.gone] == [
            (slot, pytest.approx(1, abs=0.002))
        ]

    scene(act)
