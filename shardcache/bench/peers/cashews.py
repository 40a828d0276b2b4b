"""cashews: asyncio, one server."""

from collections.abc import Mapping, Sequence
from typing import Any

from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.scenarios.case import Case
from shardcache.bench.scenarios.servers import Addresses

__all__ = ("PEER",)

SECONDS = 300
MOST = 2000  # connections: none is to fail for want of one
TIMEOUT = 30  # seconds


async def _open(at: Addresses, _case: Case) -> Calls:
    from cashews import Cache

    cache: Any = Cache()
    cache.setup(
        next(iter(at.urls.values())),
        max_connections=MOST,
        socket_timeout=TIMEOUT,
        wait_for_connection_timeout=TIMEOUT,
    )

    async def get_many(keys: Sequence[str]) -> dict[str, Any]:
        return dict(zip(keys, await cache.get_many(*keys), strict=True))

    def set_many(mapping: Mapping[str, Any]) -> Any:
        return cache.set_many(mapping, expire=SECONDS)

    return Calls(
        cache.close,
        get=cache.get,
        set=lambda key, value: cache.set(key, value, expire=SECONDS),
        get_many=get_many,
        set_many=set_many,
        incr=cache.incr,
    )


PEER = Peer("cashews", _open, "cashews", "cashews", asyncio=True)
