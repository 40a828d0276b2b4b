"""A value that comes to its end while its successor is loaded: found by the benchmark."""

import threading

import pytest

from shardcache import LoadPolicy, ShardCache
from shardcache.embedded import LocalShards


@pytest.fixture(scope="module")
def cache():
    with LocalShards(3) as servers, ShardCache(servers.urls) as client:
        yield client


def test_a_refresh_that_outlasts_the_old_value_is_stored(cache) -> None:
    """Else the value just loaded is dropped, and loaded once more."""
    cache.get_or_set("k", lambda: "old", 0.2)
    loaded = threading.Event()
    expired = threading.Event()

    def slow() -> str:
        # Not by `ttl`: in its last millisecond a value has 0.0 s left, and can still be read.
        while "k" in cache:
            expired.wait(0.005)
        loaded.set()
        return "new"

    while not loaded.wait(0.001):
        # So eager that it refreshes long before the end.
        cache.get_or_set("k", slow, 60, policy=LoadPolicy(beta=1000))
    assert cache.get_or_set("k", lambda: "once more", 60) == "new"
    assert cache.stats().loading.not_stored == 0
