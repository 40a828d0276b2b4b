"""While a slot migrates, every method does what it always does, at each step of the migration."""

import pytest
import redis

from shardcache import MISS, Options, ShardCache, errors
from shardcache.topology.slots import slot_of

HERE = [f"{{k}}{number}" for number in range(12)]  # of one slot


@pytest.mark.parametrize("batch", [3, 100])
def test_every_method_at_every_step(cache, move, batch) -> None:
    """Values stay right, and writes are done, wherever the keys are at the moment."""
    cache.set_many(dict.fromkeys(HERE, 0))
    done = 0
    for step in move("{k}", batch):
        done += 1
        assert cache.get_many(HERE) == dict.fromkeys(HERE, done - 1), step
        assert cache.set_many(dict.fromkeys(HERE[:6], done)) == []
        assert [cache.set(key, done) for key in HERE[6:]] == [True] * 6
        assert [cache.get(key) for key in HERE] == [done] * 12, step
        assert cache.get("{k}absent", MISS) is MISS
        assert cache.get_many(["{k}absent", "{k}none", HERE[0]]) == {HERE[0]: done}
        assert (cache.incr(HERE[0]), cache.decr(HERE[0])) == (done + 1, done)
        assert (cache.add("{k}new", 1), cache.add("{k}new", 2)) == (True, False), step
        assert (cache.replace("{k}new", 3), cache.replace("{k}absent", 3)) == (True, False)
        assert (cache.touch("{k}new", 100), cache.contains("{k}new")) == (True, True)
        assert 90 < cache.ttl("{k}new") <= 100
        assert (cache.delete("{k}new"), cache.delete("{k}new")) == (True, False), step
        assert cache.add(HERE[0], 7) is False
        assert cache.command("{k}hash", "HSET", "a", 1) == 1
        assert cache.command("{k}hash", "HGET", "a") == b"1"
        assert cache.delete_many(["{k}hash", "{k}absent"]) == 1
        assert cache.fetch_many(HERE).hits == dict.fromkeys(HERE, done)
    assert done >= 6
    assert set(cache.scan()) == set(HERE)
    assert cache.clear() == len(HERE)


def test_pipeline_at_every_step(cache, move) -> None:
    """Calls of all kinds keep their order and their results."""
    cache.set("{k}a", 1)
    for step in move("{k}"):
        with cache.pipeline() as pipe:
            pipe.set("{k}a", 5)
            pipe.incr("{k}a")
            pipe.get("{k}a")
            pipe.set("{k}b", "b")
            pipe.get("{k}b")
            pipe.delete("{k}b")
            pipe.get("{k}b", "none")
            pipe.set("elsewhere", 1)
        assert pipe.results == [True, 6, 6, True, "b", True, "none", True], step


def test_tags_at_every_step(cache, move) -> None:
    """Values with tags are valid until their tag is invalidated."""
    cache.set("{k}a", 1, tags=["t"])
    for step in move("{k}"):
        assert cache.get("{k}a") == 1, step
        assert cache.invalidate_tags(["t"]) == 1
        assert cache.get("{k}a") is None, step
        assert cache.set("{k}a", 1, tags=["t"]) is True


def test_scan_and_clear_in_the_middle(cache, move) -> None:
    """A walk finds the keys on both nodes, and clearing deletes them."""
    cache.set_many(dict.fromkeys(HERE, 0))
    steps = move("{k}", 5)
    assert [next(steps).name for _ in range(3)] == ["importing", "migrating", "keys"]
    assert set(cache.scan()) == set(HERE)
    assert cache.clear() == len(HERE)
    assert cache.get_many(HERE) == {}
    list(steps)


def test_write_invalidates_a_load_on_the_other_node(cache, move, raw, namespace) -> None:
    """The fill token that has moved is deleted where it is now, before the write returns."""
    cache.set("{k}a", 1)
    key = f"{namespace}:{{k}}a".encode()
    steps = move("{k}")
    assert [next(steps).name for _ in range(2)] == ["importing", "migrating"]
    source = raw(cache, "{k}a")
    target = redis.Redis(port=int(cluster_target(source, slot_of(key))))
    token = cache._context.keys.fill_token(key)
    with target:
        for write in (
            lambda: cache.set("{k}a", 2),
            lambda: cache.incr("{k}a"),
            lambda: cache.set_many({"{k}a": 2}),
            lambda: cache.command("{k}a", "APPEND", "1"),
            lambda: cache.delete("{k}a"),
            lambda: cache.delete_many(["{k}a"]),
            lambda: cache.add("{k}a", 1),
        ):
            with target.pipeline(transaction=False) as pipe:
                pipe.execute_command("ASKING")
                pipe.execute_command("SET", token, "a load's")
                pipe.execute()
            write()
            with target.pipeline(transaction=False) as pipe:
                pipe.execute_command("ASKING")
                pipe.execute_command("EXISTS", token)
                assert pipe.execute()[1] == 0
    list(steps)


def cluster_target(source, slot: int) -> str:
    """Return the port of the node that a slot migrates to."""
    connection = source.connection_pool.get_connection()
    connection.send_command("CLUSTER", "NODES")
    text = connection.read_response().decode()
    source.connection_pool.release(connection)
    lines = [line.split() for line in text.splitlines()]
    mine = next(line for line in lines if "myself" in line[2])
    [moving] = [part for part in mine[8:] if part.startswith(f"[{slot}->-")]
    target = moving[1:-1].split("->-")[1]
    return next(line[1] for line in lines if line[0] == target).partition("@")[0].rpartition(":")[2]


def test_moved_is_followed_once(cache, cluster, move, raw) -> None:
    """After the migration the first call follows MOVED, and a new map is used from then on."""
    cache.set("{k}a", 1)
    before = cache.stats()
    list(move("{k}"))
    assert cache.get("{k}a") == 1
    assert cache.get_many(["{k}a", "b"]) == {"{k}a": 1}
    while cache.stats().topology_changes == before.topology_changes:
        assert cache.get("{k}a") == 1
    owner = cluster.owner(cache.explain("{k}a").slot)
    assert cache.explain("{k}a").shard == f"127.0.0.1:{owner.port}"
    polls = cache.stats().discovery.polls
    for _ in range(50):
        assert cache.get("{k}a") == 1
    assert cache.stats().discovery.polls <= polls + 1
    assert cache.stats().errors == 0


def test_placement_is_the_clusters() -> None:
    """What a cluster decides itself cannot be set."""
    with pytest.raises(errors.InvalidOption, match="places keys itself"):
        ShardCache("redis+cluster://127.0.0.1:1", options=Options(placement="ketama"))
