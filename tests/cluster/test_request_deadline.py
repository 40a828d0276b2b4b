"""`deadline` on a Redis Cluster: what is redirected has the same limit."""

from typing import Any

import pytest

from shardcache import deadline
from shardcache.embedded import LocalCluster
from shardcache.errors import ShardOut
from shardcache.topology.slots import slot_of


def test_calls_of_a_block(cache: Any, cluster: LocalCluster) -> None:
    """Within the time all is as ever, also for a slot that has moved; after it nothing is sent."""
    keys = [f"key-{n}" for n in range(20)]
    cache.contains("k")  # the map is known from here on
    slot = slot_of(cache.explain("k").wire_key)
    address = cache.explain("k").address
    home = next(server for server in cluster.servers if str(server.port) in address)
    away = next(server for server in cluster.servers if server is not home)
    cluster.migrate_slot(slot, away)
    try:
        with deadline(3600):
            assert cache.set("k", 1)
            assert cache.get("k") == 1
            assert cache.set_many(dict.fromkeys([*keys, "k"], 2)) == []
            assert cache.get_many([*keys, "k"]) == dict.fromkeys([*keys, "k"], 2)
            assert cache.get_or_set("load", lambda: 3) == 3
    finally:
        cluster.migrate_slot(slot, home)
    with deadline(0), pytest.raises(ShardOut, match="deadline is over"):
        cache.get("k")
    with deadline(0), pytest.raises(ShardOut):
        cache.get_many(keys)
