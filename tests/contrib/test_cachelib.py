"""cachelib: its contract over several servers, and what its own Redis cache does otherwise."""

import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from shardcache.embedded import LocalShards
from shardcache.errors import InvalidOption

cachelib = pytest.importorskip("cachelib")

from cachelib.serializers import RedisSerializer  # noqa: E402

from shardcache.contrib.cachelib import ShardCacheBackend  # noqa: E402


@pytest.fixture
def cache(shards: LocalShards, namespace: str) -> Iterator[ShardCacheBackend]:
    """A cache whose calls are not about time."""
    made = ShardCacheBackend(shards.url, key_prefix=namespace, timeout=20)
    yield made
    made.close()


@pytest.fixture(params=["shardcache", "redis"])
def either(request: pytest.FixtureRequest, shards: LocalShards, namespace: str) -> Iterator[Any]:
    """Our cache, and cachelib's own on one server."""
    if request.param == "shardcache":
        yield request.getfixturevalue("cache")
        return
    with redis.Redis.from_url(shards.servers[0].url) as client:
        yield cachelib.RedisCache(client, key_prefix=namespace)


@pytest.mark.timeout(600)
def test_published_suite(
    shards: LocalShards, published: Callable[[str], Path], run_suite: Callable[..., str]
) -> None:
    """Cachelib's own tests of a cache pass, with and without a prefix."""
    tests = published("cachelib") / "tests"
    shutil.copy(Path(__file__).parent / "cachelib_suite.py", tests / "test_shardcache.py")
    said = run_suite(tests, "-p", "no:asyncio", "test_shardcache.py", URL=shards.url)
    assert "passed" in said
    assert "skipped" not in said
    assert int(said.split()[0]) >= 40


def test_words(either: Any) -> None:
    """What the words mean is the same in both: timeouts, absent keys, lists."""
    either.set("forever", 1, timeout=0)
    either.set("some time", 1)
    assert either.inc("new", 3) == 3
    assert either.dec("other", 3) == -3
    assert either.inc("forever") == 2
    assert either.get_many("forever", "nothing", "new") == [2, None, 3]
    assert either.get_dict("new", "nothing") == {"new": 3, "nothing": None}
    assert either.set_many({"a": 1, "b": None}) == ["a", "b"]
    assert either.has("b")
    assert either.get("b") is None
    assert either.add("a", 2) is False
    assert either.delete_many("a", "absent") == ["a", "absent"]
    assert (either.delete("b"), either.delete("b")) == (True, False)


def test_ttl_stays(cache: ShardCacheBackend) -> None:
    """`inc` keeps the ttl; 0 is for ever; no timeout is the default."""
    cache.set("n", 1, timeout=1000)
    cache.inc("n")
    assert 900 < (cache.client.ttl("n") or 0) <= 1000
    cache.set("forever", 1, timeout=0)
    assert cache.client.ttl("forever") is None
    cache.add("default", 1)
    assert 200 < (cache.client.ttl("default") or 0) <= 300


def test_many_keys_are_one_exchange_per_shard(
    cache: ShardCacheBackend, exchanges: Callable[[], list[object]]
) -> None:
    """A hundred keys cost as many exchanges as there are shards, whatever is done with them."""
    keys = [f"key-{n}" for n in range(100)]
    cache.set_many(dict.fromkeys(keys, "warm"))  # connections are there from now on
    exchanges()
    for what in (
        lambda: cache.set_many(dict.fromkeys(keys, "value")),
        lambda: cache.get_many(*keys),
        lambda: cache.get_dict(*keys),
        lambda: cache.delete_many(*keys),
    ):
        what()
        sent = exchanges()
        assert (len(sent), len(set(sent))) == (4, 4)


def test_clear_is_of_this_prefix(shards: LocalShards, cache: ShardCacheBackend) -> None:
    """Other keys of the same servers stay."""
    with redis.Redis.from_url(shards.servers[0].url) as other:
        other.set("other", "stays")
        cache.set_many({f"key-{n}": n for n in range(50)})
        assert cache.clear() is True
        assert not any(cache.get_many(*[f"key-{n}" for n in range(50)]))
        assert other.get("other") == b"stays"


def test_shard_that_is_out(mortal: LocalShards) -> None:
    """Keys of a dead shard are misses; the others go on; nothing is raised."""
    cache = ShardCacheBackend(mortal.url, timeout=20)
    keys = [f"key-{n}" for n in range(40)]
    cache.set_many(dict.fromkeys(keys, 1))
    mortal.servers[0].kill()
    dead = [key for key in keys if cache.client.explain(key).shard == "shard-1"]
    alive = [key for key in keys if key not in dead]
    assert [key for key, value in cache.get_dict(*keys).items() if value == 1] == alive
    assert cache.set_many(dict.fromkeys(keys, 2)) == alive
    one = dead[0]
    assert (cache.get(one), cache.has(one), cache.inc(one), cache.dec(one)) == (
        None,
        False,
        None,
        None,
    )
    assert (cache.set(one, 1), cache.add(one, 1), cache.delete(one)) == (False, False, False)
    assert cache.delete_many(*keys) == alive
    assert cache.clear() is True
    cache.ignore_delete_many_errors = False
    with pytest.raises(RuntimeError, match="Failed to delete"):
        cache.delete_many(*keys)
    cache.close()


def test_values_of_the_other_cache(shards: LocalShards, namespace: str) -> None:
    """A pickle of `RedisCache` is a miss; with its serializer, and when asked for, it is read."""
    with ShardCacheBackend(shards.url, key_prefix=namespace, timeout=20).client as client:
        wire = client.explain("old").wire_key
        with client.redis("old") as server:
            server.set(wire, RedisSerializer().dumps({"a": (1, 2)}))
        assert client.get("old") is None
    moving = ShardCacheBackend(shards.url, key_prefix=namespace, timeout=20, read_foreign=True)
    moving.serializer = RedisSerializer()
    assert moving.get("old") == {"a": (1, 2)}
    assert moving.set("new", {1, 2})
    assert moving.get_many("new", "old") == [{1, 2}, {"a": (1, 2)}]
    assert moving.set("n", 1)
    assert moving.inc("n") == 2
    moving.close()


def test_pickles_are_asked_for_and_signed(shards: LocalShards, namespace: str) -> None:
    """Without asking, what only a pickle can hold is refused; a pickle without signature a miss."""
    with pytest.raises(InvalidOption, match="did you mean 'signing_key'"):
        ShardCacheBackend(shards.url, signing_keys=b"0" * 16)
    cache = ShardCacheBackend(
        shards.url,
        key_prefix=namespace,
        timeout=20,
        serializer="pickle",
        signing_key=b"0123456789abcdef",
    )
    assert cache.set("path", Path("/"))
    assert cache.get("path") == Path("/")
    with cache.client.redis("path") as server:
        server.set(cache.client.explain("path").wire_key, b"\xf9" + pickle.dumps(1))
    assert cache.get("path") is None
    cache.close()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        pytest.param({"key_prefix": 1}, "key prefix must be a text", id="prefix"),
        pytest.param({"key_prefix": "a", "namespace": "b"}, "are one", id="both"),
        pytest.param({"decode_responses": True}, "no setting of a client", id="redis-py"),
        pytest.param({"options": None, "failures": 2}, "within options=", id="twice"),
    ],
)
def test_what_cannot_be(settings: dict[str, Any], complaint: str) -> None:
    """Wrong settings are an error when the cache is made."""
    with pytest.raises(InvalidOption, match=complaint):
        ShardCacheBackend("redis://127.0.0.1", **settings)
