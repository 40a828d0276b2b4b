"""Real clusters of both kinds of servers, and clients of them in both colours."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from shardcache.embedded import LocalCluster
from shardcache.topology.slots import slot_of


@pytest.fixture(scope="module")
def cluster(program) -> Iterator[LocalCluster]:
    """Three masters; each test leaves all slots served."""
    with LocalCluster(3, binary=program) as cluster:
        yield cluster


@pytest.fixture
def shards(cluster) -> Any:
    """What the clients are made with, where a test of the client's contract is run on a cluster."""

    class Shards:
        urls = cluster.url

    return Shards


@pytest.fixture
def cache(make: Callable[..., Any]) -> Any:
    """A client with a namespace of its own, which hides nothing."""
    return make(on_unavailable="raise")


@pytest.fixture
def raw(cluster) -> Iterator[Callable[..., redis.Redis]]:
    """Look past the client: ``raw(cache, key)`` is a connection to the server of the key."""
    with ExitStack() as stack:
        plain = {
            f"127.0.0.1:{server.port}": stack.enter_context(redis.Redis(port=server.port))
            for server in cluster.servers
        }

        def find(cache: Any, key: str) -> redis.Redis:
            cache.contains(key)  # after the first answer
            return plain[cache.explain(key).shard]

        yield find


@pytest.fixture
def move(cluster, namespace) -> Callable[..., Any]:
    """Begin to migrate the slot of a key to another master, one step for each ``next``."""

    def begin(key: str, batch: int = 100) -> Any:
        slot = slot_of(f"{namespace}:{key}".encode())
        owner = cluster.owner(slot)
        other = next(one for one in cluster.masters if one is not owner)
        return cluster.slot_migration(slot, other, batch=batch)

    return begin
