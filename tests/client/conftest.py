"""One suite for both clients: servers, a new namespace for each test, plain connections."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from shardcache import Event
from shardcache.embedded import LocalShards

PATIENCE = 20.0  # seconds: the deadline of calls that are not about time


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
def namespace() -> str:
    """A namespace that no other test has."""
    return uuid.uuid4().hex


@pytest.fixture
def events() -> list[Event]:
    """What the hook of the clients under test was told."""
    return []


@pytest.fixture
def cache(make: Callable[..., Any]) -> Any:
    """A client with a namespace of its own."""
    return make()


@pytest.fixture
def raw(shards: LocalShards) -> Iterator[Callable[..., redis.Redis]]:
    """Look past the client: ``raw(cache, key)`` is a connection to the server that owns the key."""
    with ExitStack() as stack:
        plain = {
            name: stack.enter_context(redis.Redis.from_url(url))
            for name, url in shards.urls.items()
        }
        yield lambda cache, key: plain[cache.explain(key).shard]
