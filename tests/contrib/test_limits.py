"""limits: its own tests of strategies and storages, and what is about several servers."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardcache.embedded import LocalShards
from shardcache.errors import InvalidOption, ShardUnavailable

pytest.importorskip("limits")

from limits import RateLimitItemPerMinute, strategies
from limits.aio import strategies as async_strategies
from limits.errors import StorageError
from limits.storage import RedisStorage, storage_from_string

from shardcache.contrib.limits import AsyncShardCacheStorage, ShardCacheStorage

STRATEGIES = sorted(strategies.STRATEGIES)
LIMIT = RateLimitItemPerMinute(5)


@pytest.fixture
def storage(shards: LocalShards, namespace: str) -> Iterator[ShardCacheStorage]:
    """A storage whose calls are not about time."""
    made = ShardCacheStorage(url=shards.url, key_prefix=namespace, timeout=20)
    yield made
    made.close()


@pytest.fixture(params=["shardcache", "redis"])
def either(request: pytest.FixtureRequest, shards: LocalShards, namespace: str) -> Iterator[Any]:
    """Our storage, and limits' own on one server."""
    if request.param == "shardcache":
        yield request.getfixturevalue("storage")
        return
    made = RedisStorage(shards.servers[0].url, key_prefix=namespace)
    yield made
    made.storage.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("folder", ["tests", "tests/aio"])
def test_published_suite(
    shards: LocalShards,
    published: Callable[[str], Path],
    run_suite: Callable[..., str],
    tmp_path: Path,
    folder: str,
) -> None:
    """Limits' own tests of strategies and storages pass, those of asyncio too, in frozen time."""
    shutil.copytree(published("limits") / "tests", tmp_path / "tests")
    suite = Path(__file__).parent / "limits_suite.py"
    subprocess.run([sys.executable, suite, tmp_path / "tests"], check=True, timeout=60)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_default_fixture_loop_scope = function\nmarkers = flaky\n"
    )
    said = run_suite(
        tmp_path,
        *(f"{folder}/test_strategy.py", f"{folder}/test_storage.py"),
        SHARDCACHE_URL=shards.url,
        URLS=" ".join(server.url for server in shards.servers),
    )
    assert "skipped" not in said


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies(either: Any, name: str) -> None:
    """Every strategy lets through as many as it should, says so, and can be cleared."""
    limiter = strategies.STRATEGIES[name](either)
    assert [limiter.hit(LIMIT, "ada") for _ in range(7)] == [True] * 5 + [False] * 2
    assert (limiter.test(LIMIT, "ada"), limiter.test(LIMIT, "bob")) == (False, True)
    assert limiter.get_window_stats(LIMIT, "ada").remaining == 0
    assert limiter.hit(LIMIT, "bob", cost=4)
    assert limiter.get_window_stats(LIMIT, "bob").remaining == 1
    assert (limiter.test(LIMIT, "bob", cost=2), limiter.hit(LIMIT, "bob", cost=1)) == (False, True)
    limiter.clear(LIMIT, "ada")
    assert limiter.hit(LIMIT, "ada")


def test_words(either: Any) -> None:
    """What a storage is asked for one by one: counts, ends, and what is left after a reset."""
    assert (either.get("k"), either.check()) == (0, True)
    assert 0 <= either.get_expiry("absent") - time.time() + 1 <= 2  # now
    assert [either.incr("k", 1000, amount=amount) for amount in (1, 4)] == [1, 5]
    assert (either.get("k"), 900 < either.get_expiry("k") - time.time() <= 1001) == (5, True)
    assert either.acquire_entry("m", 3, 1000, 2)
    assert (either.acquire_entry("m", 3, 1000, 2), either.acquire_entry("m", 3, 1000)) == (
        False,
        True,
    )
    assert (either.get_moving_window("m", 3, 1000)[1], either.acquire_entry("m", 3, 1000, 4)) == (
        3,
        False,
    )
    assert either.acquire_sliding_window_entry("s", 3, 1000, 2)
    assert not either.acquire_sliding_window_entry("s", 3, 1000, 2)
    before, _, count, left = either.get_sliding_window("s", 1000)
    assert (before, count, 900 < left <= 2000) == (0, 2, True)
    either.clear_sliding_window("s", 1000)
    assert either.get_sliding_window("s", 1000)[2] == 0
    either.clear("m")
    assert either.get_moving_window("m", 3, 1000)[1] == 0
    assert (either.reset(), either.get("k")) == (1, 0)


@pytest.mark.parametrize("name", STRATEGIES)
def test_asyncio(shards: LocalShards, namespace: str, name: str) -> None:
    """The same on asyncio: of tasks at once as many get through as may."""

    async def hits() -> list[bool]:
        storage = AsyncShardCacheStorage(
            "async+shardcache://", url=shards.url, key_prefix=namespace, timeout=20
        )
        limiter = async_strategies.STRATEGIES[name](storage)
        found = await asyncio.gather(*(limiter.hit(LIMIT, "ada") for _ in range(20)))
        assert await storage.check()
        assert (await limiter.get_window_stats(LIMIT, "ada")).remaining == 0
        assert await storage.reset() == 1
        await storage.close()
        return found

    assert Counter(asyncio.run(hits()))[True] == 5


@pytest.mark.parametrize("name", STRATEGIES)
def test_one_round_trip(
    storage: ShardCacheStorage, exchanges: Callable[[], list[object]], name: str
) -> None:
    """A hit is one exchange with the key's own shard."""
    limiter = strategies.STRATEGIES[name](storage)
    for who in range(20):
        limiter.hit(LIMIT, str(who))  # connections are there from now on
    exchanges()
    for who in range(20):
        limiter.hit(LIMIT, str(who))
    sent = exchanges()
    assert (len(sent), len(set(sent))) == (20, 4)


def test_windows_go_on(storage: ShardCacheStorage) -> None:
    """The window before counts by the part of it that is left, by the server's clock."""
    key, client = "k", storage.client
    # As if all had happened a window and a quarter ago.
    assert storage.acquire_sliding_window_entry(key, 100, 1000, 40)
    stored = client.command(f"{key}/sliding", "HGET", "began")
    client.command(f"{key}/sliding", "HSET", "began", int(stored) - 1_250_000)
    before, before_left, count, left = storage.get_sliding_window(key, 1000)
    assert (before, count) == (40, 0)
    assert 600 < before_left <= 750
    assert left == 0
    assert not storage.acquire_sliding_window_entry(key, 30, 1000, 6)  # 24 to 30 of the 40 count
    assert storage.acquire_sliding_window_entry(key, 36, 1000, 6)
    client.command(f"{key}/sliding", "HSET", "began", int(stored) - 2_500_000)
    assert storage.get_sliding_window(key, 1000) == (0, 0.0, 0, 0.0)


def test_oldest_hits_leave(storage: ShardCacheStorage) -> None:
    """A moving window is full until the oldest hit has left it."""
    assert storage.acquire_entry("k", 3, 1000, 2)
    [newest, oldest] = storage.client.command("k/moving", "LRANGE", 0, -1)
    storage.client.command("k/moving", "LSET", 1, int(oldest) - 999_000_000)
    assert storage.get_moving_window("k", 3, 1000)[1] == 1
    assert newest == oldest
    assert storage.acquire_entry("k", 3, 1000, 2)
    assert not storage.acquire_entry("k", 3, 1000)
    assert storage.get_moving_window("k", 3, 1000)[1] == 3
    assert not storage.acquire_entry("k", 3, 1000, 4)


def test_shard_that_is_out(mortal: LocalShards) -> None:
    """Its limits do not hold, and nothing is raised; where errors are wanted, they come."""
    storage = ShardCacheStorage(url=mortal.url, timeout=20)
    limiters = [strategies.STRATEGIES[name](storage) for name in STRATEGIES]
    for server in mortal.servers:
        server.kill()
    for limiter in limiters:
        assert all(limiter.hit(LIMIT, "ada") for _ in range(7))
        assert limiter.test(LIMIT, "ada")
        assert limiter.get_window_stats(LIMIT, "ada").remaining == 5
        limiter.clear(LIMIT, "ada")
    assert (storage.check(), storage.reset()) == (False, 0)
    strict = {"url": mortal.url, "timeout": 20, "on_unavailable": "raise"}
    raising = ShardCacheStorage(**strict)
    wrapped = ShardCacheStorage(wrap_exceptions=True, **strict)
    with pytest.raises(ShardUnavailable):
        raising.incr("k", 1)
    with pytest.raises(StorageError):
        wrapped.acquire_entry("k", 1, 1)
    for one in (storage, raising, wrapped):
        one.close()


def test_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    """A URI names the servers, or SHARDCACHE_URL does; each scheme is registered."""
    found = storage_from_string(
        "shardcache://h1?name=a,redis://h2:6380?name=b&timeout=2", key_prefix="mine"
    )
    assert isinstance(found, ShardCacheStorage)
    assert list(found.client.stats().shards) == ["a", "b"]
    assert found.client.explain("k").wire_key == b"mine:k"
    found.close()
    monkeypatch.setenv("SHARDCACHE_URL", "redis://h1?name=a&namespace=theirs")
    found = storage_from_string("shardcache://", key_prefix=None)
    assert found.client.explain("k").wire_key == b"theirs:k"
    found.close()
    with pytest.raises(InvalidOption, match="the scheme must be shardcache"):
        ShardCacheStorage("redis://h1")


def test_flask_limiter(shards: LocalShards, namespace: str) -> None:
    """Flask-Limiter counts in it."""
    flask = pytest.importorskip("flask")
    limiter_of = pytest.importorskip("flask_limiter")
    app = flask.Flask("site")
    limiter = limiter_of.Limiter(
        lambda: "somebody",
        app=app,
        storage_uri="shardcache://",
        storage_options={"url": shards.url, "key_prefix": namespace, "timeout": 20},
        strategy="moving-window",
    )

    @app.get("/")
    @limiter.limit("2/hour")
    def page() -> str:
        return "a page"

    with app.test_client() as http:
        assert [http.get("/").status_code for _ in range(4)] == [200, 200, 429, 429]
    limiter.storage.close()
