"""Loading when servers are out, loaders die, and values are damaged."""

import os
import signal
import subprocess
import sys

import pytest
import redis

from shardcache import LoadPolicy, Options
from tests.waiting import until

QUIET = Options(first_probe=60, max_probe=60)
KEYS = [f"k{n}" for n in range(12)]


def owned(cache, name, inside=True):
    """Return a key that lies on this shard, or on another."""
    return next(
        key
        for key in map("k{}".format, range(1000))
        if (cache.explain(key).shard == name) is inside
    )


@pytest.mark.parametrize("what", ["kill", "pause"])
def test_without_a_quorum(mortal, make, begin, gate, counter, what) -> None:
    """One load in each process, counted, stored where the key's own shard lives; nothing hangs."""
    one, two = (make(mortal.urls, timeout=0.5, options=QUIET) for _ in range(2))
    name = next(iter(mortal.urls))
    key = owned(one, name)
    for server in mortal.servers[1:]:
        getattr(server, what)()
    calls = [begin(client.get_or_set, key, gate()) for client in (one, two) for _ in range(3)]
    gate.begun(1)
    until(lambda: [client.stats().loading.joined for client in (one, two)] == [2, 2])
    gate.open()
    assert [call.result(30) for call in calls] == ["loaded"] * 6
    assert gate.calls <= 2
    assert one.stats().loading.alone + two.stats().loading.alone == gate.calls
    assert one.get_or_set(key, counter) == "loaded"


def test_with_the_keys_shard_out(mortal, make, begin, gate) -> None:
    """Nobody can give the value to another process: each loads once for itself, at once."""
    one, two = (make(mortal.urls, timeout=0.5, options=QUIET) for _ in range(2))
    key = owned(one, next(iter(mortal.urls)))
    mortal.servers[0].kill()
    calls = [begin(client.get_or_set, key, gate()) for client in (one, two) for _ in range(3)]
    gate.begun(2)
    until(lambda: [client.stats().loading.joined for client in (one, two)] == [2, 2])
    gate.open()
    assert [call.result(30) for call in calls] == ["loaded"] * 6
    assert (gate.calls, one.stats().loading.alone, two.stats().loading.alone) == (2, 1, 1)
    assert one.get_or_set_many([key], lambda keys: dict.fromkeys(keys, 1)) == {key: 1}


def test_with_everything_out(mortal, make, counter) -> None:
    """The loader's value, all the same."""
    cache = make(mortal.urls, timeout=0.5, options=QUIET)
    for server in mortal.servers:
        server.kill()
    assert cache.get_or_set("k", counter, tags=["t"]) == 1
    assert cache.get_or_set_many(KEYS, lambda keys: dict.fromkeys(keys, 1)) == dict.fromkeys(
        KEYS, 1
    )


@pytest.mark.parametrize("what", ["kill", "pause"])
def test_a_minority_out(mortal, make, begin, gate, what) -> None:
    """One voter gone: still one loader in the fleet."""
    one, two = (make(mortal.urls, timeout=0.5, options=QUIET) for _ in range(2))
    key = owned(one, list(mortal.urls)[1], inside=False)
    getattr(mortal.servers[1], what)()
    calls = [
        begin(client.get_or_set, key, gate(), policy=LoadPolicy(wait=60)) for client in (one, two)
    ]
    gate.begun()
    until(lambda: one.stats().loading.waits + two.stats().loading.waits)
    gate.open()
    assert [call.result(30) for call in calls] == ["loaded"] * 2
    assert (gate.calls, one.get(key)) == (1, "loaded")


def test_a_minority_restarts_under_a_load(mortal, make, begin, gate) -> None:
    """A voter that comes back empty gives no second loader a majority."""
    one, two = (make(mortal.urls, timeout=0.5) for _ in range(2))
    key = owned(one, list(mortal.urls)[1], inside=False)
    first = begin(one.get_or_set, key, gate(), policy=LoadPolicy(wait=60))
    gate.begun()
    mortal.servers[1].kill()
    mortal.servers[1].start()
    second = begin(two.get_or_set, key, gate(), policy=LoadPolicy(wait=60))
    until(lambda: two.stats().loading.waits)
    gate.open()
    assert (first.result(30), second.result(30), gate.calls) == ("loaded", "loaded", 1)


def test_the_keys_own_shard_restarts_under_a_load(mortal, make, begin, gate) -> None:
    """A voter that lost the load's lock and would grant it anew does not vote."""
    one, two = (make(mortal.urls, timeout=0.5) for _ in range(2))
    names = list(mortal.urls)
    policy = LoadPolicy(wait=60, lock_ttl=60)
    key = owned(one, names[0])
    for client in (one, two):  # both have met the voters
        client.get_or_set("first", "loaded", policy=policy)
    first = begin(one.get_or_set, key, gate(), policy=policy)
    gate.begun()
    with redis.Redis.from_url(mortal.urls[names[2]]) as server:
        assert server.delete(one._context.keys.internal(b"load", one.explain(key).wire_key)) == 1
    mortal.servers[0].kill()
    mortal.servers[0].start()
    until(
        lambda: (
            {
                client.stats().shards[names[0]].state
                for client in (one, two)
                if client.get(key) is None
            }
            == {"closed"}
        )
    )
    second = begin(two.get_or_set, key, gate(), policy=policy)
    until(lambda: two.stats().loading.waits or gate.calls > 1)
    gate.open()
    assert (first.result(30), second.result(30), gate.most) == ("loaded", "loaded", 1)


DYING = """
import sys, time
from shardcache import LoadPolicy, ShardCache
cache = ShardCache(sys.argv[2:], namespace=sys.argv[1], timeout=20)
def load():
    print("loading", flush=True)
    time.sleep(60)
cache.get_or_set("k", load, policy=LoadPolicy(lock_ttl=0.5))
"""


def test_a_killed_loader_has_one_successor(shards, make, namespace, begin, gate, servers) -> None:
    """Kill -9 in a load: when the lock ends one waiter loads, and the others get its value."""
    urls = [f"{url}{'&' if '?' in url else '?'}name={name}" for name, url in shards.urls.items()]
    with subprocess.Popen(
        [sys.executable, "-c", DYING, namespace, *urls], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"loading\n"
        clients = [make() for _ in range(4)]
        calls = [
            begin(client.get_or_set, "k", gate(), policy=LoadPolicy(wait=60)) for client in clients
        ]
        until(lambda: sum(client.stats().loading.waits for client in clients) == 4)
        assert gate.calls == 0
        os.kill(process.pid, signal.SIGKILL)
    gate.begun()
    gate.open()
    assert [call.result(30) for call in calls] == ["loaded"] * 4
    assert gate.calls == 1


def test_damaged_values_are_loaded_anew(cache, servers, counter) -> None:
    """A damaged value and a foreign list are counted as misses, and are overwritten."""
    own_shard = servers.own_shard(cache, "k")
    wire = cache.explain("k").wire_key
    own_shard.set(wire, b"\xff\x00damaged")
    assert cache.get_or_set("k", counter) == 1
    assert cache.get_or_set_many(["k"], counter) == {"k": 1}
    own_shard.delete(wire)
    own_shard.rpush(wire, "a list")
    assert cache.get_or_set("k", counter) == 2
    assert (cache.get("k"), cache.stats().damaged) == (2, 2)
    own_shard.delete(wire)
    own_shard.rpush(wire, "a list")
    assert cache.get_or_set_many(["k"], counter.of(lambda keys: {"k": "v"})) == {"k": "v"}
    assert cache.get("k") == "v"


@pytest.mark.parametrize(
    "settings",
    [
        {"serializer": "json"},
        {"serializer": "pickle"},
        {"compression": "zlib"},
        {"options": Options(signing_key=b"k" * 32)},
    ],
    ids=["json", "pickle", "zlib", "signed"],
)
def test_every_codec(make, counter, settings) -> None:
    """Loaded values go through the client's own codec."""
    cache = make(**settings)
    value = {"name": "x" * 3000, "n": [1, 2]}
    for _ in range(2):
        assert cache.get_or_set("k", counter.of(lambda: value), policy="swr") == value
    assert (cache.get("k"), counter.calls) == (value, 1)


def test_foreign_bytes(cache, servers, counter) -> None:
    """What somebody else has written is a value."""
    servers.own_shard(cache, "k").set(cache.explain("k").wire_key, b"theirs")
    assert (cache.get_or_set("k", counter), counter.calls) == (b"theirs", 0)
