"""coredis: asyncio, one server."""

import asyncio
from collections.abc import Sequence
from typing import Any

from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.scenarios.case import Case
from shardcache.bench.scenarios.servers import Addresses
from shardcache.bench.scenarios.values import raw_codec

__all__ = ("PEER",)

SECONDS = 300


async def _open(at: Addresses, case: Case) -> Calls:
    import coredis

    encode, decode = raw_codec(case)
    client: Any = coredis.Redis.from_url(next(iter(at.urls.values())))
    ready, over = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        # Its context is to be left by the task that entered it.
        async with client:
            ready.set()
            await over.wait()

    holder = asyncio.create_task(hold())
    await ready.wait()

    async def close() -> None:
        over.set()
        await holder

    async def get(key: str) -> Any:
        return decode(await client.get(key))

    async def set_(key: str, value: Any) -> Any:
        return await client.set(key, encode(value), ex=SECONDS)

    async def get_many(keys: Sequence[str]) -> dict[str, Any]:
        return dict(zip(keys, map(decode, await client.mget(keys)), strict=True))

    async def incr(key: str) -> Any:
        return await client.incr(key)

    return Calls(close, get=get, set=set_, get_many=get_many, incr=incr)


PEER = Peer("coredis", _open, "coredis", "coredis", asyncio=True)
