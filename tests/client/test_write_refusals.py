"""Servers that take no writes now, but serve reads: a full disk, too few replicas, a replica."""

import time
from pathlib import Path

import pytest
import redis

from shardcache import Options
from shardcache.embedded import LocalShards
from shardcache.errors import WritesRefused


@pytest.fixture
def alone():
    """One server of this test alone."""
    with LocalShards(1) as servers:
        yield servers


def refuse_writes(server: redis.Redis, how: str) -> None:
    """Bring a server to where it takes no writes."""
    if how == "replicas":
        server.config_set("min-replicas-to-write", 1)
    elif how == "replica":
        server.execute_command("REPLICAOF", "127.0.0.1", "1")
    else:  # what a full disk does
        (
            Path(server.config_get("dir")["dir"]) / server.config_get("dbfilename")["dbfilename"]
        ).mkdir()
        server.config_set("save", "900 1")
        server.bgsave()
        while server.info("persistence")["rdb_last_bgsave_status"] != "err":
            time.sleep(0.01)


@pytest.mark.parametrize("how", ["replicas", "replica", "disk"])
def test_reads_go_on(make, alone, how) -> None:
    """However often writes are refused, the shard stays in service and its values are hits."""
    with redis.Redis.from_url(next(iter(alone.urls.values()))) as server:
        cache = make(alone.urls, on_unavailable="degrade")
        cache.set_many({"k": "v", "l": "w"})
        refuse_writes(server, how)
        for _ in range(4):
            assert (cache.set("k", "new"), cache.delete("l"), cache.set_many({"k": 1})) == (
                False,
                False,
                ["k"],
            )
            assert (cache.get("k"), cache.get_many(["k", "l"])) == ("v", {"k": "v", "l": "w"})
            assert cache.get_or_set("k", lambda: "loaded") == "v"
        [stats] = cache.stats().shards.values()
        assert (stats.state, stats.ejections) == ("closed", 0)


def test_the_error_has_a_name(make, alone) -> None:
    """Under "raise" a refused write is told apart from a shard that is out."""
    with redis.Redis.from_url(next(iter(alone.urls.values()))) as server:
        cache = make(alone.urls, on_unavailable="raise")
        server.config_set("min-replicas-to-write", 1)
        with pytest.raises(WritesRefused, match="NOREPLICAS"):
            cache.set("k", "v")


def test_prober_takes_it_for_alive(make, alone) -> None:
    """A server that cannot save refuses even a PING; it is taken back all the same."""
    with redis.Redis.from_url(next(iter(alone.urls.values()))) as server:
        cache = make(alone.urls, options=Options(first_probe=0.01, max_probe=0.01), timeout=0.5)
        cache.set("k", "v")
        refuse_writes(server, "disk")
        alone.servers[0].pause()
        while cache.stats().shards["shard-1"].state == "closed":
            cache.get("k")
        alone.servers[0].resume()
        while cache.get("k") is None:
            time.sleep(0.01)
        assert cache.get("k") == "v"
        assert cache.ping()["shard-1"].ok
