"""One suite for both clients: servers, a new namespace for each test, plain connections."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import redis

from shardcache.embedded import LocalShards


@pytest.fixture(scope="session")
def shards() -> Iterator[LocalShards]:
    """Three servers that no test stops."""
    with LocalShards(3) as servers:
        yield servers


@pytest.fixture
def mortal() -> Iterator[LocalShards]:
    """Three servers of this test alone, to be killed and paused."""
    with LocalShards(3) as servers:
        yield servers


@pytest.fixture
def raw(shards: LocalShards) -> Iterator[Callable[..., redis.Redis]]:
    """Look past the client: ``raw(cache, key)`` is a connection to the server that owns the key."""
    with ExitStack() as stack:
        plain = {
            name: stack.enter_context(redis.Redis.from_url(url))
            for name, url in shards.urls.items()
        }
        yield lambda cache, key: plain[cache.explain(key).shard]
