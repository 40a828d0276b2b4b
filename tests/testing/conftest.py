"""Real servers, to compare simulated ones with."""

from collections.abc import Iterator

import pytest
import redis

from shardcache.embedded import LocalShards


@pytest.fixture(scope="module")
def connection(program: str) -> Iterator[redis.Redis]:
    """A client of one real server."""
    with (
        LocalShards(1, binary=program) as shards,
        redis.Redis.from_url(shards.urls["shard-1"]) as client,
    ):
        yield client
