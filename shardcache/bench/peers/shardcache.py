"""The client itself, in both colours."""

from typing import Any

from shardcache.async_client import AsyncShardCache
from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.scenarios.case import Case, Transport
from shardcache.bench.scenarios.servers import Addresses
from shardcache.client import ShardCache
from shardcache.options import TLS, Options

__all__ = ("ASYNC", "SYNC")

SECONDS = 10  # of a lock
TIMEOUT = 30.0  # seconds: the machine may be busy with something else


def _settings(at: Addresses, case: Case) -> dict[str, Any]:
    options = Options(tls=TLS(ca_file=at.ca_file)) if at.ca_file else Options()
    return {
        "timeout": case.timeout or TIMEOUT,
        "on_unavailable": "raise",
        "serializer": case.serializer,
        "compression": case.compression,
        "options": options,
    }


def _open(at: Addresses, case: Case) -> Calls:
    cache = ShardCache(at.urls, **_settings(at, case))

    def lock(name: str) -> None:
        with cache.lock(name, SECONDS):
            pass

    return Calls(
        cache.close,
        get=cache.get,
        set=cache.set,
        get_many=cache.get_many,
        set_many=cache.set_many,
        lock=lock,
        incr=lambda key: cache.incr(key, initial=0),
    )


async def _open_async(at: Addresses, case: Case) -> Calls:
    cache = AsyncShardCache(at.urls, **_settings(at, case))
    return Calls(
        cache.aclose,
        get=cache.get,
        set=cache.set,
        get_many=cache.get_many,
        set_many=cache.set_many,
        incr=lambda key: cache.incr(key, initial=0),
    )


EVERY: frozenset[Transport] = frozenset({"tcp", "unix", "tls"})
SYNC = Peer("shardcache", _open, "shardcache", "shardcache", "shards", transports=EVERY)
ASYNC = Peer(
    "shardcache",
    _open_async,
    "shardcache",
    "shardcache",
    "shards",
    asyncio=True,
    transports=EVERY,
)
