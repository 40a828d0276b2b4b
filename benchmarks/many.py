"""`get_many` and `set_many` of 100 keys over 4 shards: one exchange per shard, all at once."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from cluster import local_cluster
from peers import Bare, bare_get_many, bare_set_many
from redis import Redis

from shardcache import ShardCache
from shardcache.bench.figure import Figure, against
from shardcache.bench.race import Race, Racer
from shardcache.embedded import LocalShards

SHARDS = 4
VALUE = "v" * 100
RAW = VALUE.encode()
MS = 300_000
CALLS = [[f"user:{number}:profile" for number in range(at, at + 100)] for at in range(0, 2000, 100)]


def figures(race: Race) -> Iterator[Figure]:
    """Race the client against bare sockets, a cluster client, and redis-py shard by shard."""
    with ExitStack() as stack:
        servers = stack.enter_context(LocalShards(SHARDS, tcp=True))
        cache = stack.enter_context(ShardCache(servers.urls))
        cluster = stack.enter_context(local_cluster(SHARDS))
        plain = {
            name: stack.enter_context(Redis.from_url(url)) for name, url in servers.urls.items()
        }
        bare = {name: Bare(url) for name, url in servers.urls.items()}
        for link in bare.values():
            stack.callback(link.close)
        for call in CALLS:
            cache.set_many(dict.fromkeys(call, VALUE))
            cluster.mset_nonatomic(dict.fromkeys(call, RAW))

        gets = race(
            [
                Racer("get_many(100)", cache.get_many, CALLS),
                Racer(
                    "bare write-all, read-all",
                    bare_get_many,
                    [grouped(cache, call, bare) for call in CALLS],
                ),
                Racer("RedisCluster.mget_nonatomic", cluster.mget_nonatomic, CALLS),
                Racer(
                    "one Redis.mget after the other",
                    mget_each,
                    [grouped(cache, call, plain) for call in CALLS],
                ),
            ]
        )
        yield against(gets, "get_many(100)", "bare write-all, read-all", 1.5)
        yield against(gets, "get_many(100)", "RedisCluster.mget_nonatomic", 0.12)
        yield against(gets, "get_many(100)", "one Redis.mget after the other", 0.7)

        sets = race(
            [
                Racer(
                    "set_many(100)", cache.set_many, [dict.fromkeys(call, VALUE) for call in CALLS]
                ),
                Racer(
                    "one Redis pipeline after the other",
                    pipeline_each,
                    [grouped(cache, call, plain) for call in CALLS],
                ),
                Racer(
                    "bare write-all, read-all",
                    lambda groups: bare_set_many(groups, RAW, MS),
                    [grouped(cache, call, bare) for call in CALLS],
                ),
            ]
        )
        yield against(sets, "set_many(100)", "one Redis pipeline after the other", 0.5)
        yield against(sets, "set_many(100)", "bare write-all, read-all")


def grouped(
    cache: ShardCache, keys: list[str], links: Mapping[str, Any]
) -> list[tuple[Any, list[bytes]]]:
    """Return each shard's connection with its keys, placed as the client places them."""
    groups: dict[str, list[bytes]] = {}
    for key in keys:
        groups.setdefault(cache.explain(key).shard, []).append(key.encode())
    return [(links[shard], mine) for shard, mine in groups.items()]


def mget_each(groups: list[tuple[Redis, list[bytes]]]) -> None:
    for redis, keys in groups:
        redis.mget(keys)


def pipeline_each(groups: list[tuple[Redis, list[bytes]]]) -> None:
    for redis, keys in groups:
        with redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.set(key, RAW, px=MS)
            pipeline.execute()
