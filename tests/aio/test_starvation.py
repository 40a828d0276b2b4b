"""A shard that is out answers at once, and still lets the event loop turn."""

import asyncio

import pytest

from shardcache import AsyncShardCache, Options
from shardcache.embedded import LocalShards


@pytest.mark.parametrize("call", ["get", "get_many"])
def test_asking_in_a_loop_lets_the_prober_run(call: str) -> None:
    """A task that does nothing but ask does not keep the shard out for ever."""

    async def main(shards: LocalShards) -> None:
        options = Options(first_probe=0.01, max_probe=0.05)
        async with AsyncShardCache(shards.urls, timeout=5, options=options) as cache:
            await cache.set("k", 1)
            shards.servers[0].kill()
            while cache.stats().shards["shard-1"].state != "open":
                await cache.get("k")
            shards.servers[0].start()
            while cache.stats().shards["shard-1"].state == "open":
                await (cache.get("k") if call == "get" else cache.get_many(["k"]))

    with LocalShards(1) as shards:
        asyncio.run(asyncio.wait_for(main(shards), 30))
