"""Listening on asyncio: it obeys the breaker as every call does, and keeps its place on trial."""

import asyncio

import pytest

from shardcache import AsyncShardCache
from shardcache.errors import OutOfStep, ShardOut
from shardcache.policy.breaker import State
from tests.hostile.server import HostileServer

LISTEN = (b"BLPOP", b"nobody pushes", b"0.001")


def test_shard_that_is_out_is_left_alone(shards) -> None:
    """While the breaker is open, nobody connects to listen."""

    async def main() -> None:
        async with AsyncShardCache(shards.urls, timeout=5) as cache:
            await cache.get("k")
            shard = cache._driver.shards()[0]
            shard.breaker.state = State.OPEN
            before = shard.tally.refused_open
            assert isinstance(await shard.listen(LISTEN, 5.0), ShardOut)
            assert (shard.blocking.busy, shard.tally.refused_open - before) == (False, 1)
            await asyncio.sleep(0)

    asyncio.run(main())


def test_trial_place_is_given_back(shards) -> None:
    """A shard that is on trial gets back into service by listeners too.

    One that breaks off leaves no place taken, nor one too many.
    """

    async def main() -> None:
        async with AsyncShardCache(shards.urls, timeout=5) as cache:
            shard = cache._driver.shards()[0]
            shard.breaker.state, shard.breaker.allowance = State.HALF_OPEN, 1
            listening = asyncio.create_task(shard.listen((b"BLPOP", b"nobody pushes", b"20"), 20.0))
            await asyncio.sleep(0)
            assert shard.breaker.trials == 1
            assert isinstance(await shard.listen(LISTEN, 5.0), ShardOut)
            listening.cancel()
            await asyncio.wait([listening])
            assert shard.breaker.trials == 0
            for _ in range(10):
                assert await shard.listen(LISTEN, 5.0) is None
            assert (shard.breaker.state, shard.breaker.trials) == (State.CLOSED, 0)

    asyncio.run(main())


@pytest.mark.parametrize("reply", [b"+OK\r\n", b":1\r\n", b"%0\r\n"], ids=repr)
def test_misfit(reply) -> None:
    """What is no answer to a listener ends its connection."""

    async def main(url: str) -> None:
        async with AsyncShardCache([url], timeout=5) as cache:
            shard = cache._driver.shards()[0]
            assert isinstance(await shard.listen(LISTEN, 5.0), OutOfStep)
            assert not shard.blocking.busy

    with HostileServer(lambda command: [reply]) as server:
        asyncio.run(main(server.url))
