"""aiocache: asyncio, one server."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.scenarios.case import Case
from shardcache.bench.scenarios.servers import Addresses
from shardcache.urls import parse_url

__all__ = ("PEER",)

SECONDS = 300
MOST = 2000  # connections: none is to fail for want of one
TIMEOUT = 30  # seconds


async def _open(at: Addresses, case: Case) -> Calls:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from aiocache import Cache
        from aiocache.serializers import JsonSerializer, PickleSerializer
    address = parse_url(next(iter(at.urls.values()))).address
    cache: Any = Cache(
        Cache.REDIS,
        endpoint=address.host,
        port=address.port,
        serializer=JsonSerializer() if case.serializer == "json" else PickleSerializer(),
        pool_max_size=MOST,
        timeout=TIMEOUT,
    )

    async def get_many(keys: Sequence[str]) -> dict[str, Any]:
        return dict(zip(keys, await cache.multi_get(keys), strict=True))

    def set_many(mapping: Mapping[str, Any]) -> Any:
        return cache.multi_set(list(mapping.items()), ttl=SECONDS)

    return Calls(
        cache.close,
        get=cache.get,
        set=lambda key, value: cache.set(key, value, ttl=SECONDS),
        get_many=get_many,
        set_many=set_many,
        incr=cache.increment,
    )


PEER = Peer("aiocache", _open, "aiocache", "aiocache", asyncio=True)
