"""Values in memory while slots move, masters change and replicas are read from."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from shardcache import NearCache, Options, ShardCache
from shardcache.embedded import LocalCluster
from shardcache.policy.near_store import LEASE
from shardcache.topology.slots import slot_of
from tests.near_judge import NearJudge
from tests.waiting import until

NEAR = NearCache(ttl=3600)
HERE = [f"{{k}}{number}" for number in range(6)]  # of one slot
KEYS = [f"k{number}" for number in range(30)]


@pytest.fixture(scope="module")
def cluster(program: str) -> Iterator[LocalCluster]:
    """Three masters with a replica each; each test leaves all slots served."""
    with LocalCluster(3, replicas=1, binary=program) as cluster:
        yield cluster


@pytest.fixture
def cache(make: Any) -> Any:
    """A client with a near cache."""
    return make(near=NEAR)


@pytest.fixture
def other(cluster: LocalCluster, namespace: str) -> Iterator[ShardCache]:
    """Another client, which keeps nothing: it stands for another process."""
    with ShardCache(cluster.url, namespace=namespace, timeout=20) as cache:
        yield cache


def near(cache: Any, key: str) -> bool:
    """Read a key; return whether it came from memory."""
    hits = cache.stats().near.hits
    cache.get(key)
    return bool(cache.stats().near.hits > hits)


def until_kept(cache: Any, keys: list[str]) -> None:
    """Wait until all these keys are in memory at once."""
    until(lambda: sum([near(cache, key) for key in keys]) == len(keys))


def until_seen(cache: Any, keys: list[str], value: int) -> None:
    """Wait until each way to read says that these keys have this value."""
    until(lambda: [cache.get(key) for key in keys] == [value] * len(keys))
    until(lambda: cache.get_many(keys) == dict.fromkeys(keys, value))


def test_kept_and_invalidated(cache: Any, other: ShardCache) -> None:
    """Each master tells of the writes of its keys, whichever method has read them."""
    other.set_many(dict.fromkeys(KEYS, 0))
    until_kept(cache, KEYS)
    other.set_many(dict.fromkeys(KEYS, 1))
    until_seen(cache, KEYS, 1)
    until_kept(cache, KEYS)
    cache.set(KEYS[0], 2)
    assert cache.get(KEYS[0]) == 2
    assert cache.get_or_set(KEYS[1], lambda: 5) == 1


@pytest.mark.parametrize("batch", [pytest.param(2, marks=pytest.mark.long), 100])
def test_slot_that_moves(cache: Any, other: ShardCache, move: Any, batch: int) -> None:
    """At each step of a migration what others write is seen, wherever the keys are by then."""
    number = 0
    other.set_many(dict.fromkeys(HERE, number))
    until(lambda: near(cache, HERE[0]))
    for _ in move("{k}", batch):
        for _ in range(2):
            cache.get_many(HERE[:3])
            for key in HERE:
                cache.get(key)
        number += 1
        assert other.set_many(dict.fromkeys(HERE, number)) == []
        until_seen(cache, HERE, number)
    until_kept(cache, HERE)


def test_slot_that_moves_at_once(cluster: LocalCluster, cache: Any, other: ShardCache) -> None:
    """Where a server hands over a whole slot (Valkey 9), it tells of the keys that it drops."""
    slot = slot_of(b"{k}")
    source = cluster.owner(slot)
    assert source is not None
    target = next(one for one in cluster.masters if one is not source)
    other.set_many(dict.fromkeys(HERE, 0))
    until_kept(cache, HERE)
    with redis.Redis(port=source.port) as old, redis.Redis(port=target.port) as new:
        heir = new.execute_command("CLUSTER", "MYID")
        move = ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", heir)
        try:
            old.execute_command(*move)
        except redis.ResponseError:
            pytest.skip("the server knows no MIGRATESLOTS")
    until(lambda: cluster.owner(slot) is target)
    until(lambda: other.set_many(dict.fromkeys(HERE, 1)) == [])
    until_seen(cache, HERE, 1)
    until_kept(cache, HERE)


@pytest.mark.parametrize("takeover", [pytest.param(False, marks=pytest.mark.long), True])
def test_failover(cluster: LocalCluster, cache: Any, other: ShardCache, takeover: bool) -> None:
    """What a former master has told of is gone, and the new one is heard of from then on."""
    other.set_many(dict.fromkeys(KEYS, 0))
    until_kept(cache, KEYS)
    port = int(cache.explain(KEYS[0]).shard.rpartition(":")[2])
    master = next(one for one in cluster.masters if one.port == port)
    [replica] = cluster.replicas_of(master)
    cluster.fail_over(replica, takeover=takeover)
    until(lambda: other.set_many(dict.fromkeys(KEYS, 1)) == [])
    until_seen(cache, KEYS, 1)
    until(lambda: cache.get(KEYS[0]) and cache.explain(KEYS[0]).shard.endswith(str(replica.port)))
    until_kept(cache, KEYS)
    other.set_many(dict.fromkeys(KEYS, 2))
    until_seen(cache, KEYS, 2)


@pytest.mark.long
def test_killed_master(program: str, make: Any, namespace: str) -> None:
    """While a master is out nothing of it is in memory; then its heir is heard."""
    options = {"cluster-node-timeout": "1000"}
    with (
        LocalCluster(3, replicas=1, binary=program, options=options) as cluster,
        ShardCache(cluster.url, namespace=namespace, timeout=20) as other,
    ):
        cache = make(cluster.url, near=NEAR, timeout=1.0)
        until(lambda: other.set_many(dict.fromkeys(KEYS, 0)) == [])
        until_kept(cache, KEYS)
        name = cache.explain(KEYS[0]).shard
        next(one for one in cluster.masters if name.endswith(str(one.port))).kill()
        until(lambda: name in cache.stats().near.flushes)
        until(lambda: other.set_many(dict.fromkeys(KEYS, 1)) == [])
        until_seen(cache, KEYS, 1)
        until_kept(cache, KEYS)


@pytest.mark.long
@pytest.mark.parametrize("read_from", ["replica", "nearest"])
def test_replicas(make: Any, other: ShardCache, read_from: Any) -> None:
    """What is kept was read from the primary, and others' writes are seen for good."""
    other.set_many(dict.fromkeys(KEYS, 0))
    cache = make(near=NEAR, options=Options(read_from=read_from))
    until_kept(cache, KEYS)
    for number in range(1, 20):
        assert other.set_many(dict.fromkeys(KEYS, number)) == []
        cache.get_many(KEYS)
        until_seen(cache, KEYS, number)


@pytest.mark.long
def test_under_load(program: str, make: Any, namespace: str) -> None:
    """While a slot moves and a master dies, no read is older than the bound."""
    options, slot = {"cluster-node-timeout": "1000"}, slot_of(b"{k}")
    judge = NearJudge(HERE, LEASE)
    with (
        LocalCluster(3, replicas=1, binary=program, options=options) as cluster,
        ShardCache(cluster.url, namespace=namespace, timeout=5) as other,
    ):
        cache = make(cluster.url, near=NEAR, timeout=1.0)
        with judge.writing(other, 1), judge.reading(cache, 2):
            until(lambda: cache.stats().near.hits)
            target = next(one for one in cluster.masters if one is not cluster.owner(slot))
            for step in cluster.slot_migration(slot, target):
                if step.name == "keys":
                    time.sleep(1.5 * LEASE)
            time.sleep(1.5 * LEASE)
            target.kill()
            until(lambda: cluster.owner(slot) not in (None, target))
            time.sleep(1.5 * LEASE)
    assert judge.stale == []
    assert cache.stats().near.hits > 0


@pytest.mark.long
def test_master_in_the_minority(program: str, make: Any) -> None:
    """A master that serves no more, since it hears of no majority, has nothing in memory."""
    options = {"cluster-node-timeout": "500"}
    with LocalCluster(3, binary=program, options=options) as cluster:
        cache = make(cluster.url, near=NEAR)
        cache.set_many(dict.fromkeys(KEYS, 0))
        until_kept(cache, KEYS)
        first, *others = cluster.masters
        for server in others:
            server.kill()
        until(lambda: cache.stats().near.flushes.get(f"127.0.0.1:{first.port}"))
