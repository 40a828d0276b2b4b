"""Every method against real servers of each kind, in RESP3 and RESP2, in both colours."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
import redis

from shardcache import MISS, AsyncShardCache, Hit, Miss, Options, ShardCache
from shardcache.errors import KeyMissing, WrongType

from .servers import Backend, Fleet, Server

LONG_TIMEOUT = 30.0  # seconds after which something that has to happen never will
VALUES = {
    "none": None,
    "truth": True,
    "count": -(2**63),
    "huge": 2**200,
    "ratio": 0.1,
    "text": "caffè\r\n\x00",
    "bytes": bytes(range(256)),
    "empty": "",
    "nested": {"list": [1, (2, {3, 4}), frozenset({"five"})], b"six": {}},
    "when": datetime(2024, 2, 29, 12, 30, 15, 999_999, UTC),
    "day": date(1, 1, 1),
    "span": timedelta(days=-1, microseconds=1),
    "price": Decimal("19.90"),
    "id": UUID(int=2**127),
    "long": "x" * 3_000_000,
    "key with spaces\n": "odd",
}

Servers = Mapping[str, Server]


@pytest.fixture(params=[3, 2], ids=["RESP3", "RESP2"])
def options(request: pytest.FixtureRequest) -> Options:
    """Speak each version of the protocol, under a name that the servers list."""
    return Options(protocol=request.param, client_name="shardcache-test")


@pytest.fixture
def servers(fleet: Fleet) -> Servers:
    """Give three servers by name."""
    return dict(zip("abc", fleet(3), strict=True))


@pytest.fixture
def urls(servers: Servers) -> dict[str, str]:
    return {name: server.url for name, server in servers.items()}


@pytest.fixture
def cache(urls: Mapping[str, str], options: Options) -> Iterator[ShardCache]:
    """Return a client whose deadline a busy machine does not reach, and which logs its failures."""
    with ShardCache(
        urls, namespace="shop", timeout=10.0, on_unavailable="raise", options=options
    ) as client:
        yield client


def until_gone(cache: ShardCache, key: str) -> None:
    deadline = time.monotonic() + LONG_TIMEOUT
    while key in cache:
        assert time.monotonic() < deadline


def test_each_backend_is_what_its_name_says(backend: Backend, server: Server) -> None:
    """The same tests meet two products, not one under two names."""
    with redis.Redis.from_url(server.url) as client:
        info = client.info("server")
    assert info.get("server_name", "redis") == backend.name.split("-", maxsplit=1)[0]


def test_the_protocol_asked_for_is_spoken(
    cache: ShardCache, servers: Servers, options: Options
) -> None:
    """Every shard lists our one connection, with its name and the RESP version asked for."""
    cache.get_many(str(number) for number in range(50))
    for server in servers.values():
        with redis.Redis.from_url(server.url) as client:
            ours = [row for row in client.client_list() if row["name"] == "shardcache-test"]
        assert [row["resp"] for row in ours] == [str(options.protocol)]


def test_values_come_back_equal_and_of_the_same_type(cache: ShardCache) -> None:
    """Set one by one and read at once, set at once and read one by one: the values are the same."""
    assert [cache.set(key, value) for key, value in VALUES.items()] == [True] * len(VALUES)
    at_once = cache.get_many(VALUES)
    assert at_once == VALUES
    assert cache.clear() == len(VALUES)
    assert cache.set_many(VALUES) == []
    one_by_one = {key: cache.get(key, MISS) for key in VALUES}
    assert one_by_one == VALUES
    for found in (at_once, one_by_one):
        assert {key: type(value) for key, value in found.items()} == {
            key: type(VALUES[key]) for key in VALUES
        }


def test_thousands_of_keys_take_one_connection_a_shard(cache: ShardCache) -> None:
    """Batches larger than one MGET find every key, miss the others, and count what they delete."""
    stored = {f"key-{number}": [number] for number in range(5_000)}
    absent = [f"absent-{number}" for number in range(100)]
    assert cache.set_many(stored) == []
    assert cache.get_many([*absent, *stored]) == stored
    assert {cache.explain(key).shard for key in stored} == {"a", "b", "c"}
    assert cache.delete_many([*absent, *stored]) == len(stored)
    assert cache.get_many(stored) == {}
    assert [shard.connects for shard in cache.stats().shards.values()] == [1, 1, 1]


def test_each_key_lies_on_its_shard_and_nowhere_else(cache: ShardCache, servers: Servers) -> None:
    """`explain` names the one server that holds a key, under the wire key that it says."""
    keys = [f"key-{number}" for number in range(60)]
    cache.set_many(dict.fromkeys(keys, 1))
    for name, server in servers.items():
        with redis.Redis.from_url(server.url) as client:
            held = set(client.keys("*"))
        assert held == {
            there.wire_key for key in keys if (there := cache.explain(key)).shard == name
        }


def test_fetch_many_says_why(cache: ShardCache, servers: Servers) -> None:
    """A hit, a miss and a key that holds something else are told apart."""
    cache.set("hit", None)
    with redis.Redis.from_url(servers[cache.explain("list").shard].url) as client:
        client.set("shop:list", b"\xc1 nothing of ours")
    found = cache.fetch_many(["hit", "miss"])
    assert dict(found) == {"hit": Hit(None), "miss": Miss()}
    assert not isinstance(cache.fetch_many(["list"])["list"], Miss)


def test_conditions_are_the_servers_own(cache: ShardCache) -> None:
    """`add` stores only what is absent, `replace` only what is present."""
    assert cache.replace("k", 1) is False
    assert cache.add("k", 2) is True
    assert cache.add("k", 3) is False
    assert cache.get("k") == 2
    assert cache.replace("k", 4) is True
    assert cache.get("k") == 4
    assert cache.delete("k") is True
    assert cache.delete("k") is False


def test_what_expires_is_gone(cache: ShardCache) -> None:
    """The server counts the ttl; `touch` gives a new one or takes it away; zero deletes."""
    assert cache.ttl("k") == 0.0
    cache.set("k", 1, ttl=1000)
    remaining = cache.ttl("k")
    assert remaining is not None
    assert 0 < remaining <= 1000
    assert cache.touch("k", ttl=None) is True
    assert cache.ttl("k") is None
    assert cache.touch("k", ttl=timedelta(milliseconds=20)) is True
    until_gone(cache, "k")
    assert cache.get("k", MISS) is MISS
    assert cache.touch("k", ttl=1) is False
    cache.set_many({"m": 1, "n": 2}, ttl=0.02)
    until_gone(cache, "m")
    until_gone(cache, "n")
    cache.set("k", 1)
    cache.set("k", 2, ttl=0)
    assert "k" not in cache


def test_counters_count_on_the_server(cache: ShardCache, servers: Servers) -> None:
    """`incr` and `decr` keep the ttl, start where told, and refuse what is no number."""
    with pytest.raises(KeyMissing):
        cache.incr("n")
    assert cache.incr("n", 5, initial=10, ttl=1000) == 15
    assert cache.decr("n", 16) == -1
    remaining = cache.ttl("n")
    assert remaining is not None
    assert 0 < remaining <= 1000
    assert cache.get("n") == -1
    with redis.Redis.from_url(servers[cache.explain("n").shard].url) as client:
        assert client.get("shop:n") == b"-1"
        client.incrby("shop:n", 3)
    assert cache.get("n") == 2
    cache.set("text", "one")
    with pytest.raises(WrongType):
        cache.incr("text")


def test_pipeline_answers_in_order(cache: ShardCache) -> None:
    """Calls of every kind, over all shards, in one go."""
    keys = [f"key-{number}" for number in range(30)]
    with cache.pipeline() as pipe:
        for key in keys:
            pipe.set(key, [key], ttl=None)
        for key in keys:
            pipe.get(key)
        pipe.incr("n", 2, initial=0)
        pipe.contains("n")
        pipe.ttl(keys[0])
        pipe.delete(keys[0])
        pipe.get(keys[0], MISS)
    assert pipe.results == [*[True] * 30, *[[key] for key in keys], 2, True, None, True, MISS]


def test_scan_and_clear_stay_in_their_namespace(
    cache: ShardCache, urls: Mapping[str, str], options: Options
) -> None:
    """Each namespace sees and clears its own keys; `flush` empties the databases."""
    with ShardCache(urls, namespace="other", timeout=10.0, options=options) as other:
        mine, theirs = (
            {f"mine-{number}" for number in range(1_200)},
            {f"their-{number}" for number in range(7)},
        )
        cache.set_many(dict.fromkeys(mine, 1))
        other.set_many(dict.fromkeys(theirs, 2))
        assert set(cache.scan()) == mine
        assert set(cache.scan("mine-1?")) == {f"mine-{number}" for number in range(10, 20)}
        assert cache.clear() == len(mine)
        assert set(cache.scan()) == set()
        assert set(other.scan()) == theirs
        cache.clear(flush=True)
        assert set(other.scan()) == set()


def test_ping_reaches_every_shard(cache: ShardCache) -> None:
    """`ping` gives seconds for each shard by name."""
    answers = cache.ping()
    assert {name: answer.ok for name, answer in answers.items()} == dict.fromkeys("abc", True)


def test_scripts_survive_their_loss(cache: ShardCache, servers: Servers) -> None:
    """What the client needs a script for still works after the servers forgot every script."""
    assert cache.incr("n", initial=0) == 1
    for server in servers.values():
        with redis.Redis.from_url(server.url) as client:
            client.script_flush()
    assert cache.incr("n", initial=0) == 2
    assert cache.decr("n") == 1


def test_tasks_get_the_same_answers(
    urls: Mapping[str, str], options: Options, cache: ShardCache
) -> None:
    """Both colours read what the other wrote, and every method of the asyncio client works."""
    cache.set_many(VALUES)

    async def everything() -> None:
        async with AsyncShardCache(
            urls, namespace="shop", timeout=10.0, on_unavailable="raise", options=options
        ) as tasks:
            assert await tasks.get_many(VALUES) == VALUES
            assert await asyncio.gather(*map(tasks.get, VALUES)) == list(VALUES.values())
            assert await tasks.clear() == len(VALUES)
            assert await tasks.set_many(VALUES) == []
            assert {key async for key in tasks.scan()} == VALUES.keys()
            assert (await tasks.fetch_many(["none", "no"]))["no"] == Miss()
            assert await tasks.delete_many(["none", "no"]) == 1
            assert await tasks.add("k", 1, ttl=None) is True
            assert await tasks.replace("k", 2, ttl=None) is True
            assert await tasks.ttl("k") is None
            assert await tasks.touch("k", ttl=1000) is True
            assert await tasks.contains("k") is True
            assert await asyncio.gather(*(tasks.incr("n", initial=0) for _ in range(100))) == list(
                range(1, 101)
            )
            async with tasks.pipeline() as pipe:
                pipe.decr("n", 99)
                pipe.get("k")
                pipe.delete("k")
            assert pipe.results == [1, 2, True]
            assert all(answer.ok for answer in (await tasks.ping()).values())
            assert max(shard.connects for shard in tasks.stats().shards.values()) <= 2

    asyncio.run(everything())
    assert cache.get("text") == VALUES["text"]
    assert cache.get("n") == 1
