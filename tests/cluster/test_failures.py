"""Masters that die, hang or leave; slots that nobody serves; and clusters of unusual make."""

import threading
from typing import Any

import pytest
import redis

from shardcache import MISS, Options, errors
from shardcache.embedded import LocalCluster, LocalShards
from shardcache.topology.slots import slot_of
from tests.programs import is_before_7
from tests.waiting import until

pytestmark = pytest.mark.long

KEYS = [f"k{number}" for number in range(60)]
QUICK = {"cluster-node-timeout": "500"}


def master_of(cluster, cache, key):
    """Return the server that has a key."""
    cache.contains(key)
    port = int(cache.explain(key).shard.rpartition(":")[2])
    return next(server for server in cluster.servers if server.port == port)


def test_master_is_killed_under_load(program, make) -> None:
    """Nothing raises under "degrade", and after the failover all keys are written and read."""
    with LocalCluster(3, replicas=1, binary=program, options=QUICK) as cluster:
        cache = make(cluster.url, timeout=1)
        assert cache.set_many(dict.fromkeys(KEYS, 0)) == []
        wrong: list[Any] = []
        stop = threading.Event()

        def work(part: int) -> None:
            keys, number = KEYS[part::3], 0
            try:
                while not stop.is_set():
                    number += 1
                    for key in keys:
                        cache.set(key, number)
                        found = cache.get(key)
                        if found is not None and (not isinstance(found, int) or found > number):
                            wrong.append((key, found, number))
                    cache.get_many(KEYS)
            except BaseException as error:
                wrong.append(error)
                raise

        threads = [threading.Thread(target=work, args=(part,)) for part in range(3)]
        for thread in threads:
            thread.start()
        try:
            victim = master_of(cluster, cache, KEYS[0])
            replica = cluster.replicas_of(victim)[0]
            assert cache.explain(KEYS[0]).replicas == (f"127.0.0.1:{replica.port}",)
            victim.kill()
            until(lambda: cache.explain(KEYS[0]).shard == f"127.0.0.1:{replica.port}")
            until(lambda: cache.set(KEYS[0], 0))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert wrong == []
        until(lambda: cache.set_many(dict.fromkeys(KEYS, 1)) == [])
        assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 1)


def test_failover_that_nobody_notices(program, make) -> None:
    """Where the master takes part, all calls go on: READONLY and MOVED are followed."""
    # On a busy machine a node may hear nobody for two seconds, and then calls its cluster down.
    options = {"cluster-node-timeout": "15000"}
    with LocalCluster(3, replicas=1, binary=program, options=options) as cluster:
        cache = make(cluster.url, on_unavailable="raise")
        cache.set_many(dict.fromkeys(KEYS, 0))
        stop, wrong = threading.Event(), []

        def work() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    wrong.extend(key for key in KEYS if not cache.set(key, number))
                    wrong.extend(set(cache.get_many(KEYS).values()) - {number})
                except errors.ShardCacheError as error:
                    wrong.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            for replica in cluster.replicas[:2]:
                cluster.fail_over(replica)
        finally:
            stop.set()
            thread.join()
        assert wrong == []


def test_hung_master(cluster, make) -> None:
    """Its keys miss after a deadline, all others are served, and it is back when it answers."""
    cache = make(timeout=1)
    cache.set_many(dict.fromkeys(KEYS, 1))
    hung = master_of(cluster, cache, KEYS[0])
    others = [key for key in KEYS if cache.explain(key).shard != cache.explain(KEYS[0]).shard]
    hung.pause()
    try:
        assert cache.get(KEYS[0]) is None
        assert cache.get_many(KEYS) == dict.fromkeys(others, 1)
    finally:
        hung.resume()
    until(lambda: cache.get(KEYS[0]) == 1)


def test_slots_that_nobody_serves(program, make) -> None:
    """The error names them, and all other keys go on; they are served again when they are."""
    options = {"cluster-require-full-coverage": "no"}
    with LocalCluster(2, binary=program, options=options) as cluster:
        cache = make(cluster.url, on_unavailable="raise", timeout=2)
        cache.set_many(dict.fromkeys(KEYS, 1))
        slot = cache.explain("{k}").slot
        for server in cluster.servers:
            with redis.Redis(port=server.port) as plain:
                plain.execute_command("CLUSTER", "DELSLOTS", slot)
        with pytest.raises(errors.ShardUnavailable):
            cache.get("{k}")
        until(lambda: cache.explain("{k}").shard == "")
        with pytest.raises(errors.ShardOut, match=f"no node serves the slots {slot}$"):
            cache.set("{k}", 1)
        with pytest.raises(errors.ShardOut):
            cache.redis("{k}")
        assert f"in slot {slot}, which nobody serves" in str(cache.explain("{k}"))
        assert cache.fetch_many(["{k}", *KEYS]).hits == dict.fromkeys(KEYS, 1)
        assert list(cache.fetch_many(["{k}", *KEYS]).failures) == ["{k}"]
        degrading = make(cluster.url, timeout=2)
        assert degrading.get_many(["{k}", *KEYS]) == dict.fromkeys(KEYS, 1)
        assert degrading.set("{k}", 1) is False
        with redis.Redis(port=cluster.servers[0].port) as plain:
            plain.execute_command("CLUSTER", "ADDSLOTS", slot)

        def served() -> bool:
            try:
                return bool(cache.set("{k}", 1))
            except errors.ShardUnavailable:
                return False

        until(served)


def test_node_that_left_and_still_answers(program, make) -> None:
    """It serves no slots any more, and says so; calls go to those that do."""
    with LocalCluster(3, binary=program) as cluster:
        cache = make(cluster.url, on_unavailable="raise")
        cache.set_many(dict.fromkeys(KEYS, 1))
        left = master_of(cluster, cache, KEYS[0])
        cluster.remove_node(left, keep_running=True)
        assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 1)
        assert cache.set_many(dict.fromkeys(KEYS, 2)) == []
        until(lambda: f"127.0.0.1:{left.port}" not in cache.stats().shards)
        assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 2)
        joined = cluster.add_master()
        cluster.rebalance()
        assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 2)
        until(
            lambda: (
                cache.get_many(KEYS) == dict.fromkeys(KEYS, 2)
                and f"127.0.0.1:{joined.port}" in cache.stats().shards
            )
        )


def test_one_node_and_a_password(program, make) -> None:
    """A cluster of one node is one, too; the login of the seeds is that of all nodes."""
    with LocalCluster(1, binary=program, password="pass word") as cluster:
        cache = make(cluster.url, on_unavailable="raise")
        assert cache.set_many(dict.fromkeys(KEYS, 1)) == []
        assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 1)
        assert "pass" not in repr(cache) + str(cache.explain("k")) + str(cache.stats())


def test_seed_that_is_a_replica(program, make) -> None:
    """A replica names the masters."""
    with LocalCluster(1, replicas=1, binary=program) as cluster:
        seed = cluster.replicas[0].port
        cache = make(f"redis+cluster://127.0.0.1:{seed}", on_unavailable="raise")
        assert cache.set("k", 1) is True
        assert cache.explain("k").shard == f"127.0.0.1:{cluster.masters[0].port}"
        assert cache.explain("k").replicas == (f"127.0.0.1:{seed}",)


@pytest.mark.parametrize("host", ["localhost", "", "nowhere.invalid"])
def test_host_names(program, make, host) -> None:
    """Nodes are reached by the names that they announce, or by what the address map says."""
    if is_before_7(program):
        pytest.skip("nodes announce host names since Redis 7.0")
    options = {"cluster-preferred-endpoint-type": "hostname"}
    if host:
        options["cluster-announce-hostname"] = host
    with LocalCluster(2, binary=program, options=options) as cluster:
        settings: dict[str, Any] = {}
        if "invalid" in host:
            settings["address_map"] = lambda place: ("127.0.0.1", place[1])
        cache = make(cluster.url, on_unavailable="raise", options=Options(**settings))
        assert cache.set_many(dict.fromkeys(KEYS, 1)) == []
        slot = cache.explain(KEYS[0]).slot
        other = next(one for one in cluster.masters if one is not cluster.owner(slot))
        for step in cluster.slot_migration(slot, other):
            assert cache.get(KEYS[0]) == 1, step
            assert cache.set(KEYS[0], 1) is True
        known = host if host == "localhost" else "127.0.0.1"
        assert cache.explain(KEYS[1]).shard.startswith(f"{known}:")


def test_seeds_that_are_no_cluster(make, events) -> None:
    """An independent server is told from a member of a cluster."""
    with LocalShards(1, tcp=True) as servers:
        port = servers.servers[0].port
        cache = make(f"redis+cluster://127.0.0.1:{port}", on_unavailable="raise", timeout=5)
        with pytest.raises(errors.DiscoveryFailed, match="no member of a Redis Cluster"):
            cache.get("k")


def test_nobody_answers(make, events) -> None:
    """Without any seed calls end as when a shard is out, and the hook hears of it once."""
    cache = make(
        "redis+cluster://127.0.0.1:1", timeout=0.5, options=Options(on_event=events.append)
    )
    assert cache.get("k", MISS) is MISS
    assert cache.set("k", 1) is False
    assert cache.get_many(["a", "b"]) == {}
    until(lambda: [one.kind for one in events].count("discovery_failed") == 1)
    assert cache.stats().discovery.ok is False


def test_slot_rule(cache, cluster) -> None:
    """The slot in an explanation is the one that the server computes."""
    cache.contains("k")
    with redis.Redis(port=cluster.servers[0].port) as plain:
        for key in (*KEYS, "{k}x", "a{b}c", "{}x", "a{", "}{"):
            found = cache.explain(key)
            assert found.slot == slot_of(found.wire_key)
            assert plain.execute_command("CLUSTER", "KEYSLOT", found.wire_key) == found.slot
