"""What keeps its order when a request is lost on the connection that all tasks share.

In virtual time.
"""

import asyncio
import random
from typing import Any

import pytest

from shardcache import AsyncShardCache
from tests.aio.losing_server import ask_in_order, shard


class Order:
    """A watch over commands that must not overtake each other.

    None comes while another connection has an earlier one that is not carried out.
    """

    def __init__(self, server: Any) -> None:
        self.sent: dict[int, Any] = {}  # where each came
        self.behind = 0  # so many came on a connection that had been replaced
        server.on_command = self.look

    def look(self, peer: Any, command: list[bytes]) -> None:
        if command[0] == b"EVAL":
            others = [other for other in peer.server.live if other is not peer]
            assert not any(owed[0] == b"EVAL" for other in others for owed in other.owed)
            assert int(command[1]) > max(self.sent, default=-1)
            self.sent[int(command[1])] = peer
            self.behind += peer is not peer.server.live[-1]


@pytest.mark.parametrize("max_in_flight", [3, 4096])
@pytest.mark.parametrize("seed", range(12))
def test_nothing_overtakes_what_it_may_undo(play, server, seed: int, max_in_flight: int) -> None:
    """Whatever is lost, cancelled or late.

    Of commands in order none is sent on another connection while an earlier one may still take
    effect.
    """

    async def scene(cache: AsyncShardCache) -> None:
        rng = random.Random(seed)
        order = Order(server)
        server.loses = lambda command: rng.random() < 0.02
        calls: list[asyncio.Task[Any]] = []
        for number in range(400):
            match rng.randrange(8):
                case 0 | 1 | 2:
                    calls.append(asyncio.create_task(cache.get(f"{number}")))
                case 3:
                    calls.append(asyncio.create_task(cache.set(f"{number}", 1)))
                case 4 if calls:
                    rng.choice(calls).cancel()
                case 5 if rng.random() < 0.2:
                    rng.choice(server.live).resume()
                case _:
                    flow = ask_in_order(number, undo=rng.random() < 0.5)
                    calls.append(asyncio.create_task(cache._run(flow)))
            await asyncio.sleep(rng.choice([0, 0, 0.01, 0.05]))
            assert len(server.live) <= 4
        await asyncio.gather(*calls, return_exceptions=True)
        assert (len(order.sent) > 50, order.behind > 0) == (True, True)

    play(scene, on_unavailable="degrade", max_in_flight=max_in_flight, max_out=seed % 2)


def test_what_waits_for_room_goes_behind_what_it_undoes(play, server) -> None:
    """A release that waits for room when its connection is replaced goes behind the acquire.

    It is sent on the old connection; one that finds no room there is refused.
    """

    async def scene(cache: AsyncShardCache) -> None:
        order = Order(server)
        [old] = server.peers
        old.stands_still = True
        calls = [asyncio.create_task(cache._run(ask_in_order(number))) for number in (1, 2, 3)]
        calls.append(asyncio.create_task(cache.get("k")))
        await asyncio.sleep(0.5)
        assert (calls[3].done() and calls[3].result(), order.sent) == (
            1,
            {1: old, 2: old, 3: old},
        )
        await cache._run(ask_in_order(4))
        assert 4 not in order.sent
        old.resume()
        await asyncio.gather(*calls)
        await cache._run(ask_in_order(5))
        assert (old.closed, order.sent[5]) == (True, server.live[0])

    play(scene, max_in_flight=2, max_out=0)


def test_a_request_that_nobody_waits_for_may_still_be_carried_out(play, server) -> None:
    """An acquire got no answer in time.

    Its connection stays open, and the release goes behind the acquire, also when the shard is on
    trial.
    """

    async def scene(cache: AsyncShardCache) -> None:
        order = Order(server)
        [old] = server.peers
        old.stands_still = True
        call = asyncio.create_task(cache._run(ask_in_order(1)))
        await asyncio.sleep(0.5)
        assert await cache.get("k") == 1
        await asyncio.sleep(0.6)
        assert (call.done(), len(server.live)) == (True, 2)
        [own] = cache._runner.shards()
        for _ in range(3):
            own.record_failure(ConnectionError(), dialled=False)
        await asyncio.sleep(0.2)
        assert shard(cache).state == "half-open"
        calls = [
            asyncio.create_task(cache._run(ask_in_order(number, undo=True))) for number in (2, 3)
        ]
        await asyncio.sleep(0.1)
        assert order.sent == {1: old, 2: old, 3: old}
        await asyncio.gather(*calls)

    play(scene, first_probe=0.1, max_probe=0.1)
