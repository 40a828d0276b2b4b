"""The client on a Redis Cluster of three masters, against redis-py's cluster clients on it."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from aio import ROUND, TASKS, Track, per_call
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster

from shardcache import AsyncShardCache, ShardCache
from shardcache.bench.figure import Figure, against
from shardcache.bench.race import Race, Racer
from shardcache.embedded import LocalCluster

MASTERS = 3
VALUE = "v" * 100
RAW = VALUE.encode()
KEYS = [f"user:{number}:profile" for number in range(1000)]
CALLS = [KEYS[at : at + 100] for at in range(0, 1000, 100)]
LONG_TIMEOUT = 30  # seconds: the machine may be busy with something else


def figures(race: Race) -> Iterator[Figure]:
    """Race threads first, then tasks."""
    with ExitStack() as stack:
        servers = stack.enter_context(LocalCluster(MASTERS))
        port = servers.servers[0].port
        cache = stack.enter_context(ShardCache(servers.url, timeout=LONG_TIMEOUT))
        peer = stack.enter_context(RedisCluster(host="127.0.0.1", port=port))
        cache.set_many(dict.fromkeys(KEYS, VALUE))

        gets = race(
            [Racer("get", cache.get, KEYS), Racer("RedisCluster.get", peer.get, KEYS)],
        )
        yield against(gets, "get", "RedisCluster.get", 0.40)
        sets = race(
            [
                Racer("set", lambda key: cache.set(key, VALUE), KEYS),
                Racer("RedisCluster.set", lambda key: peer.set(key, RAW, px=300_000), KEYS),
            ]
        )
        yield against(sets, "set", "RedisCluster.set")
        many = race(
            [
                Racer("get_many(100)", cache.get_many, CALLS),
                Racer("RedisCluster.mget_nonatomic", peer.mget_nonatomic, CALLS),
            ]
        )
        yield against(many, "get_many(100)", "RedisCluster.mget_nonatomic", 0.12)
        yield tasks_on(stack, race, servers.url, port)


def tasks_on(stack: ExitStack, race: Race, url: str, port: int) -> Figure:
    track = Track(asyncio.SelectorEventLoop)
    stack.callback(track.close)
    cache = AsyncShardCache(url, timeout=LONG_TIMEOUT)
    stack.callback(lambda: track.run(cache.aclose()))
    peer: Any = AsyncRedisCluster(host="127.0.0.1", port=port)
    stack.callback(lambda: track.run(peer.aclose()))
    track.run(peer.initialize())
    crowd = race(
        [
            track.racer("get", cache.get, KEYS, TASKS),
            track.racer("redis.asyncio.RedisCluster.get", peer.get, KEYS, TASKS),
        ],
        share=0.3,
    )
    return per_call(
        crowd, "get", "redis.asyncio.RedisCluster.get", 0.1, TASKS * ROUND, f"{TASKS} tasks: "
    )
