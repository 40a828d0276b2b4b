"""Real servers, to compare simulated ones with."""

import shutil
from collections.abc import Iterator

import pytest
import redis

from shardcache.embedded import LocalShards


@pytest.fixture(scope="module", params=["valkey", "redis"])
def connection(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """A client of one real server: the packaged one, and the system's if there is one."""
    program = None
    if request.param == "redis" and (program := shutil.which("redis-server")) is None:
        pytest.skip("no redis-server on this machine")
    with (
        LocalShards(1, binary=program) as shards,
        redis.Redis.from_url(shards.urls["shard-1"]) as client,
    ):
        yield client
