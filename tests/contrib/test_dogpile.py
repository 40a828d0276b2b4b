"""dogpile.cache: its own tests of a backend, and what is about several servers."""

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import redis

from shardcache.embedded import LocalShards
from shardcache.errors import InvalidArgument

pytest.importorskip("dogpile.cache")

from dogpile.cache import make_region, register_backend
from dogpile.cache.api import NO_VALUE

from shardcache.contrib.dogpile import ShardCacheBackend

# Where the package is installed, its entry point does this.
register_backend("shardcache", "shardcache.contrib.dogpile", "ShardCacheBackend")


@pytest.fixture
def make(shards: LocalShards, namespace: str) -> Iterator[Callable[..., Any]]:
    """Make backends of one namespace."""
    made = []

    def build(**arguments: Any) -> ShardCacheBackend:
        given = {"url": shards.url, "namespace": namespace, "timeout": 20, **arguments}
        made.append(ShardCacheBackend(given))
        return made[-1]

    yield build
    for backend in made:
        backend.close()


@pytest.fixture(params=["shardcache", "dogpile.cache.redis"])
def new_region(
    request: pytest.FixtureRequest, shards: LocalShards, namespace: str
) -> Iterator[Callable[..., Any]]:
    """Make regions of one cache: over our backend, or over dogpile's own on one server."""
    ours, made = request.param == "shardcache", []

    def build(**arguments: Any) -> Any:
        given = {"url": shards.url, "namespace": namespace, "timeout": 20}
        if not ours:  # a lock of their default cannot be released by another thread
            given = {"url": shards.servers[0].url, "thread_local_lock": False}
        mangler = None if ours else lambda key: f"{namespace}:{key}"
        region = make_region(key_mangler=mangler)
        made.append(region.configure(request.param, arguments={**given, **arguments}))
        return made[-1]

    yield build
    for region in made:
        (region.backend.close if ours else region.backend.writer_client.close)()


def test_words(new_region: Callable[..., Any]) -> None:
    """What a region does is the same in both: values, absent ones, None, many keys."""
    region = new_region()
    region.set("k", {"a": (1, None)})
    region.set_multi({"x": None, "y": 2})
    assert region.get("k") == {"a": (1, None)}
    assert region.get_multi(["x", "absent", "y"]) == [None, NO_VALUE, 2]
    assert (region.get("absent"), region.get("x")) == (NO_VALUE, None)
    region.delete("k")
    region.delete_multi(["x", "absent"])
    assert region.get_multi(["k", "x", "y"]) == [NO_VALUE, NO_VALUE, 2]
    assert region.get_or_create("k", lambda: "made") == region.get_or_create("k", list) == "made"
    keys = ("y", "new")
    assert region.get_or_create_multi(keys, lambda *missing: list(missing)) == [2, "new"]


def test_mutex(new_region: Callable[..., Any], namespace: str) -> None:
    """One holder among all regions, who says so; free after its release."""
    mine, other = (
        new_region(distributed_lock=True, lock_timeout=600).backend.get_mutex(namespace)
        for _ in range(2)
    )
    assert mine.acquire()
    assert (mine.locked(), other.locked(), other.acquire(False)) == (True, True, False)
    mine.release()
    assert other.acquire(False)
    other.release()
    assert not mine.locked()


@pytest.mark.timeout(600)
def test_published_suite(
    shards: LocalShards, tmp_path: Path, run_suite: Callable[..., str]
) -> None:
    """dogpile.cache's own tests of a backend pass, those of serializers and mutexes too."""
    shutil.copy(Path(__file__).parent / "dogpile_suite.py", tmp_path / "test_shardcache.py")
    said = run_suite(tmp_path, "-p", "no:asyncio", "-n", "4", "test_shardcache.py", URL=shards.url)
    assert int(said.split()[0]) >= 60
    assert "skipped" not in said


def test_registered() -> None:
    """The installed package names the backend to dogpile.cache."""
    found = [one.value for one in entry_points(group="dogpile.cache") if one.name == "shardcache"]
    if not found:
        pytest.skip("the package was installed before it had the entry point")
    assert found == ["shardcache.contrib.dogpile:ShardCacheBackend"]


def test_many_keys_are_one_exchange_per_shard(
    make: Callable[..., Any], exchanges: Callable[[], list[object]]
) -> None:
    """A hundred keys cost as many exchanges as there are shards."""
    backend = make()
    keys = [f"key-{n}" for n in range(100)]
    backend.set_serialized_multi(dict.fromkeys(keys, b"warm"))
    exchanges()
    for what in (
        lambda: backend.set_serialized_multi(dict.fromkeys(keys, b"value")),
        lambda: backend.get_serialized_multi(keys),
        lambda: backend.delete_multi(keys),
    ):
        what()
        sent = exchanges()
        assert (len(sent), len(set(sent))) == (4, 4)


def test_two_processes_of_the_fleet(new_region: Callable[..., Any]) -> None:
    """Two regions with clients of their own create a value once, one after the other."""
    inside, created = threading.Lock(), []

    def create() -> str:
        assert inside.acquire(blocking=False)
        created.append(1)
        inside.release()
        return "value"

    regions = [new_region(distributed_lock=True) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda n: regions[n % 2].get_or_create("k", create), range(16)))
    assert (values, created) == (["value"] * 16, [1])


def test_released_by_another_thread(make: Callable[..., Any]) -> None:
    """An asynchronous creator gives back what the caller took; two mutexes exclude each other."""
    backend = make(distributed_lock=True)
    mutex, other = backend.get_mutex("k"), make(distributed_lock=True).get_mutex("k")
    assert mutex.acquire()
    assert (mutex.acquire(False), other.acquire(False), other.locked()) == (False, False, True)
    thread = threading.Thread(target=mutex.release)
    thread.start()
    thread.join()
    assert other.acquire(False)
    other.release()
    assert not mutex.locked()


def test_dead_shards(mortal: LocalShards) -> None:
    """Without any server values are created, by one thread of the process at a time."""
    backend = ShardCacheBackend(
        {"url": mortal.url, "distributed_lock": True, "timeout": 20, "lock_timeout": 30}
    )
    backend.set_serialized("k", b"v")
    for server in mortal.servers:
        server.kill()
    assert backend.get_serialized("k") is NO_VALUE
    assert backend.get_serialized_multi(["a", "k"]) == [NO_VALUE, NO_VALUE]
    backend.set_serialized_multi({"a": b"v"})
    backend.delete_multi(["a", "k"])
    mutex = backend.get_mutex("k")
    assert mutex.acquire()
    assert (mutex.acquire(False), mutex.locked()) == (False, True)
    mutex.release()
    assert mutex.acquire(False)
    mutex.release()
    backend.close()


def test_lost_lease_is_no_error(make: Callable[..., Any]) -> None:
    """A lock that an operator took away is given back without an error."""
    backend = make(distributed_lock=True)
    mutex = backend.get_mutex("k")
    assert mutex.acquire()
    backend.client.lock("k").force_release()
    mutex.release()
    assert not mutex.locked()


def test_values_of_the_redis_backend(
    make: Callable[..., Any], shards: LocalShards, namespace: str
) -> None:
    """What dogpile's own Redis backend has stored is read, unless values are signed."""
    region = make_region().configure(
        "dogpile.cache.redis", arguments={"url": shards.servers[0].url}
    )
    region.set(f"{namespace}:k", {"a": 1})
    with redis.Redis.from_url(shards.servers[0].url) as server:
        stored = server.get(f"{namespace}:k")
    region.backend.writer_client.close()
    backend = make()
    with backend.client.redis("k") as server:
        server.set(f"{namespace}:k", stored)
    assert backend.get_serialized("k") == stored
    assert make(signing_key="0123456789abcdef").get_serialized("k") is NO_VALUE


def test_what_cannot_be(make: Callable[..., Any]) -> None:
    """A lock_timeout that cannot be is an error when the backend is made; others are warned of."""
    with pytest.raises(InvalidArgument):
        make(distributed_lock=True, lock_timeout=-1)
    with pytest.warns(UserWarning, match="leaves out the arguments lock_sleep; it knows url"):
        make(lock_sleep=1)


def test_expiration(make: Callable[..., Any]) -> None:
    """Servers keep values for ever, or as long as they are told."""
    backend = make()
    backend.set_serialized("k", b"v")
    assert backend.client.ttl("k") is None
    limited = make(redis_expiration_time=1000)
    limited.set_serialized("k", b"v")
    assert 900 < (limited.client.ttl("k") or 0) <= 1000
