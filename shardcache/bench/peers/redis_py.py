"""redis-py: one server, plain and asyncio, and a cluster."""

from collections.abc import Mapping, Sequence
from typing import Any

import redis
import redis.asyncio

from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.scenarios.case import Case, Transport
from shardcache.bench.scenarios.servers import Addresses
from shardcache.bench.scenarios.values import raw_codec

__all__ = ("PEERS", "client_of", "timeouts")

MS = 300_000
SECONDS = 10  # of a lock
MOST = 2000  # connections: none is to fail for want of one


def timeouts(case: Case) -> dict[str, Any]:
    """Return the settings of a case's timeout."""
    if case.timeout is None:
        return {}
    return {"socket_timeout": case.timeout, "socket_connect_timeout": case.timeout}


def client_of(url: str, at: Addresses, kind: Any = redis.Redis, **settings: Any) -> Any:
    """Return a client of one server."""
    tls = {"ssl_ca_certs": at.ca_file} if at.ca_file else {}
    return kind.from_url(url, **tls, **settings)


def _open(at: Addresses, case: Case) -> Calls:
    encode, decode = raw_codec(case)
    client = client_of(next(iter(at.urls.values())), at, **timeouts(case))

    def set_many(mapping: Mapping[str, Any]) -> None:
        with client.pipeline(transaction=False) as pipeline:
            for key, value in mapping.items():
                pipeline.set(key, encode(value), px=MS)
            pipeline.execute()

    def lock(name: str) -> None:
        held = client.lock(name, SECONDS)
        held.acquire()
        held.release()

    return Calls(
        client.close,
        lock=lock,
        get=lambda key: decode(client.get(key)),
        set=lambda key, value: client.set(key, encode(value), px=MS),
        get_many=lambda keys: dict(zip(keys, map(decode, client.mget(keys)), strict=True)),
        set_many=set_many,
        incr=client.incr,
    )


def _open_cluster(at: Addresses, case: Case) -> Calls:
    encode, decode = raw_codec(case)
    client: Any = redis.RedisCluster(host="127.0.0.1", port=at.ports[0], **timeouts(case))

    def get_many(keys: Sequence[str]) -> dict[str, Any]:
        return dict(zip(keys, map(decode, client.mget_nonatomic(keys)), strict=True))

    def set_many(mapping: Mapping[str, Any]) -> None:
        with client.pipeline() as pipeline:
            for key, value in mapping.items():
                pipeline.set(key, encode(value), px=MS)
            pipeline.execute()

    return Calls(
        client.close,
        get=lambda key: decode(client.get(key)),
        set=lambda key, value: client.set(key, encode(value), px=MS),
        get_many=get_many,
        set_many=set_many,
        incr=client.incr,
    )


async def _open_async(at: Addresses, case: Case) -> Calls:
    return _async_calls(
        client_of(
            next(iter(at.urls.values())),
            at,
            redis.asyncio.Redis,
            max_connections=MOST,
            **timeouts(case),
        ),
        case,
        "mget",
    )


async def _open_async_cluster(at: Addresses, case: Case) -> Calls:
    client: Any = redis.asyncio.RedisCluster(
        host="127.0.0.1", port=at.ports[0], max_connections=MOST
    )
    return _async_calls(client, case, "mget_nonatomic")


def _async_calls(client: Any, case: Case, mget: str) -> Calls:
    encode, decode = raw_codec(case)

    async def get(key: str) -> Any:
        return decode(await client.get(key))

    async def get_many(keys: Sequence[str]) -> dict[str, Any]:
        return dict(zip(keys, map(decode, await getattr(client, mget)(*keys)), strict=True))

    return Calls(
        client.aclose,
        get=get,
        set=lambda key, value: client.set(key, encode(value), px=MS),
        get_many=get_many,
        incr=client.incr,
    )


EVERY: frozenset[Transport] = frozenset({"tcp", "unix", "tls"})
PEERS = (
    Peer("redis-py", _open, "redis", "redis", transports=EVERY),
    Peer("redis-py RedisCluster", _open_cluster, "redis", "redis", "cluster"),
    Peer("redis.asyncio", _open_async, "redis", "redis", asyncio=True, transports=EVERY),
    Peer(
        "redis.asyncio RedisCluster", _open_async_cluster, "redis", "redis", "cluster", asyncio=True
    ),
)
