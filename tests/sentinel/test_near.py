"""Values in memory while Sentinels put replicas in the place of masters."""

from collections.abc import Callable
from typing import Any

import pytest

from shardcache import NearCache, ShardCache
from shardcache.embedded import LocalSentinels
from tests.waiting import until

NEAR = NearCache(ttl=3600)
KEYS = [f"k{number}" for number in range(30)]


def kept(cache: Any) -> bool:
    """Read all keys; return whether all of them came from memory."""
    hits = cache.stats().near.hits
    for key in KEYS:
        cache.get(key)
    return bool(cache.stats().near.hits == hits + len(KEYS))


@pytest.mark.parametrize("how", ["asked for", pytest.param("killed", marks=pytest.mark.long)])
def test_failover(mortal: LocalSentinels, client: Callable[..., Any], how: str) -> None:
    """What a former master has told of is gone, and the new one is heard of from then on."""
    options = {"discovery_interval": 0.5}
    cache = client(mortal.url, near=NEAR, timeout=1.0, options=options)
    with ShardCache(mortal.url, timeout=20) as other:
        other.set_many(dict.fromkeys(KEYS, 0))
        until(lambda: kept(cache))
        assert {cache.explain(key).shard for key in KEYS} == {"a", "b", "c"}
        if how == "killed":
            mortal.master("a").kill()
        else:
            mortal.fail_over("a")
        until(lambda: cache.stats().near.flushes.get("a"))
        until(lambda: other.set_many(dict.fromkeys(KEYS, 1)) == [])
        until(lambda: cache.get_many(KEYS) == dict.fromkeys(KEYS, 1))
        until(lambda: kept(cache))
        other.set_many(dict.fromkeys(KEYS, 2))
        until(lambda: [cache.get(key) for key in KEYS] == [2] * len(KEYS))


@pytest.mark.long
@pytest.mark.parametrize("read_from", ["replica", "nearest"])
def test_replicas(watched: LocalSentinels, client: Callable[..., Any], read_from: str) -> None:
    """What is kept was read from the primary, and others' writes are seen for good."""
    cache = client(watched.url, near=NEAR, options={"read_from": read_from})
    with ShardCache(watched.url, timeout=20) as other:
        for number in range(10):
            other.set_many(dict.fromkeys(KEYS, number))
            cache.get_many(KEYS)
            until(lambda: kept(cache))
            until(lambda: set(cache.get_many(KEYS).values()) == {number})  # noqa: B023
