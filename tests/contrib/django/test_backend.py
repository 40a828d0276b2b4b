"""What our backend promises beyond Django's API: exchanges, scope, forks, outages, signatures."""

import asyncio
import os
import pickle
import threading
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import redis
from django.core.cache.backends.redis import RedisCache
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.utils.safestring import mark_safe

from shardcache.contrib.django import ShardCacheBackend
from shardcache.embedded import LocalShards
from shardcache.errors import ShardUnavailable

KEYS = [f"key-{number}" for number in range(100)]


def test_many_keys_are_one_exchange_per_shard(
    backend: Callable[..., Any], exchanges: Callable[[], list[object]]
) -> None:
    """A hundred keys cost as many exchanges as there are shards, whatever is done with them."""
    cache = backend()
    cache.set_many(dict.fromkeys(KEYS, "warm"))  # connections are there from now on
    exchanges()
    for what in (
        lambda: cache.set_many(dict.fromkeys(KEYS, (1, 2))),
        lambda: cache.get_many(KEYS),
        lambda: cache.delete_many(KEYS),
    ):
        what()
        sent = exchanges()
        assert (len(sent), len(set(sent))) == (4, 4)


def test_clear_is_of_this_prefix_and_version(
    shards: LocalShards, namespace: str, new_clear: Callable[..., None], backend: Any
) -> None:
    """Other versions, other prefixes and other programs' keys stay."""
    cache = backend(KEY_PREFIX=f"{namespace}*[a]")
    others = [
        backend(VERSION=2, KEY_PREFIX=f"{namespace}*[a]"),
        backend(KEY_PREFIX=f"{namespace}x[a]"),
        backend(KEY_PREFIX=f"{namespace}*a"),
    ]
    for one in (cache, *others):
        one.set_many(dict.fromkeys(KEYS, 1))
    with redis.Redis.from_url(shards.servers[0].url) as plain:
        plain.set("other", "stays")
        new_clear(cache)
        assert (plain.get("other"), cache.get_many(KEYS)) == (b"stays", {})
    assert [len(one.get_many(KEYS)) for one in others] == [100, 100, 100]


@pytest.fixture(params=["sync", "async"])
def new_clear(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Clear a cache in both colours."""
    return lambda cache: cache.clear() if request.param == "sync" else asyncio.run(cache.aclear())


def test_clear_with_a_key_function_that_hides_the_key(backend: Any) -> None:
    """Nobody knows which keys are this cache's, so nothing is deleted, and a way out is named."""
    cache = backend(KEY_FUNCTION=lambda key, prefix, version: f"{hash((key, prefix, version))}")
    cache.set("k", 1)
    with pytest.raises(ImproperlyConfigured, match="change VERSION or KEY_PREFIX"):
        cache.clear()
    assert cache.get("k") == 1


def test_one_client_per_process_and_settings(backend: Any, namespace: str) -> None:
    """Each thread and task has a backend object of its own; the client behind them is one."""
    found: list[Any] = []
    start = threading.Barrier(4)

    def use() -> None:
        start.wait()
        cache = backend()
        found.append((cache, cache.client, cache.async_client))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(set(column)) for column in zip(*found, strict=True)] == [4, 1, 1]
    # Prefix, version and timeout are no settings of the client.
    assert backend(KEY_PREFIX="b", VERSION=3, TIMEOUT=None).client is found[0][1]
    assert backend(options={"timeout": 19}).client is not found[0][1]
    with override_settings(SECRET_KEY="s" * 50):
        assert backend().client is not found[0][1]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork(backend: Any) -> None:
    """A child made while a client is in use has connections of its own."""
    cache = backend()
    cache.set("k", "before")
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            cache.set("child", [cache.get("k")])
            os.write(write, b"fine" if backend().get("child") == ["before"] else b"bad")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)  # so that a child that failed leaves an end behind, and nothing to wait for
    assert (os.read(read, 10), cache.get("child")) == (b"fine", ["before"])
    os.close(read)


def test_async_methods_use_no_thread(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every method is the asyncio client's own: Django's way around by a thread is not taken."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a thread was asked for")

    monkeypatch.setattr("django.core.cache.backends.base.sync_to_async", refuse)
    monkeypatch.setattr(asyncio.BaseEventLoop, "run_in_executor", refuse)
    cache = backend()
    monkeypatch.setattr(type(cache), "client", property(refuse))

    async def value() -> int:
        return 5

    async def run() -> list[Any]:
        return [
            await cache.aset("a", 1),
            await cache.aadd("a", 2),
            await cache.aget("a"),
            await cache.aset_many({"b": 2, "c": 3}),
            await cache.aget_many("abc"),
            await cache.aincr("a"),
            await cache.adecr("a"),
            await cache.atouch("a", 5),
            await cache.ahas_key("a"),
            await cache.aget_or_set("d", value),
            await cache.aincr_version("a"),
            await cache.adecr_version("a", version=2),
            await cache.adelete("a"),
            await cache.adelete_many("b"),
            await cache.aclear(),
            await cache.aclose(),
            await cache.aget_many("abcd"),
        ]

    assert asyncio.run(run()) == [
        *(True, False, 1, [], {"a": 1, "b": 2, "c": 3}, 2, 1, True, True, 5),
        *(2, 1, True, None, None, None, {}),
    ]


def test_get_or_set_loads_once(backend: Any) -> None:
    """All threads that miss a key at once get the value of one load."""
    calls: list[int] = []
    go = threading.Event()

    def load() -> str:
        calls.append(1)
        go.wait(20)
        return "value"

    found: list[str] = []
    cache = backend()
    threads = [
        threading.Thread(target=lambda: found.append(cache.get_or_set("k", load))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert (calls, found) == ([1], ["value"] * 5)


def test_get_or_set_within_its_own_load(backend: Any) -> None:
    """What would be a circle of loads is computed, as Django's own backends do."""
    cache = backend()
    assert cache.get_or_set("k", lambda: cache.get_or_set("k", lambda: 1) + 1) == 2


def test_shard_that_is_out(mortal: LocalShards, namespace: str, caplog: Any) -> None:
    """Its keys are misses, the others go on, nothing is raised, and the log says so."""
    cache = ShardCacheBackend(mortal.url, {"KEY_PREFIX": namespace, "OPTIONS": {"timeout": 5}})
    cache.set_many(dict.fromkeys(KEYS, 1))
    mortal.servers[0].kill()
    alive = cache.get_many(KEYS)
    dead = [key for key in KEYS if key not in alive]
    assert dead
    assert alive
    assert sorted(cache.set_many(dict.fromkeys(KEYS, 2))) == sorted(dead)
    key = dead[0]
    for _ in range(3):
        assert (cache.get(key, "default"), cache.has_key(key), cache.incr(key)) == (
            "default",
            False,
            None,
        )
        assert (cache.set(key, 1), cache.add(key, 1), cache.touch(key)) == (False, False, False)
        assert (cache.get_or_set(key, lambda: 5), cache.ttl(key)) == (5, 0)
        cache.delete_many(KEYS)
        cache.clear()
    assert (cache.keys(), cache.delete_pattern("*")) == ([], 0)
    assert asyncio.run(cache.aget(key)) is None
    assert "shard 'shard-1' is out of service" in caplog.text


def test_ignore_exceptions_false(mortal: LocalShards) -> None:
    """Who wants to hear of it writes so, in the words of django-redis."""
    cache = ShardCacheBackend(mortal.url, {"OPTIONS": {"IGNORE_EXCEPTIONS": False}})
    for server in mortal.servers:
        server.kill()
    with pytest.raises(ShardUnavailable):
        cache.get("k")


# --- what is stored


def _stored(cache: Any, key: str) -> tuple[Any, bytes]:
    place = cache.client.explain(cache.make_key(key))
    return cache.client.redis(cache.make_key(key)), place.wire_key


def test_what_is_stored(backend: Any) -> None:
    """Ints, text and bytes are plain, all else is signed; the key is the one that Django makes."""
    cache = backend()
    safe = mark_safe("<b>")
    cache.set_many(
        {"n": 42, "text": "abc", "bytes": b"abc", "list": [1], "none": None, "html": safe}
    )
    for key, first in (
        ("n", b"42"),
        ("text", b"\xf6abc"),
        ("bytes", b"\xf5abc"),
        ("list", b"\xfd"),
        ("none", b"\xfd"),
        ("html", b"\xfd"),
    ):
        server, wire = _stored(cache, key)
        with server:
            assert wire == cache.make_key(key).encode()
            assert server.get(wire).startswith(first)


def test_text_is_signed_if_wished(backend: Any) -> None:
    """A key of the site's own signs text too, and so does `sign_plain`; both forms are read."""
    old = backend(options={"sign_plain": True})
    old.set("k", "abc")
    server, wire = _stored(old, "k")
    with server:
        assert server.get(wire).startswith(b"\xfd")
    new = backend()
    assert (new.get("k"), new.get_many(["k"])) == ("abc", {"k": "abc"})
    new.set("k", "abc")
    assert (old.get("k"), new.get("k")) == (None, "abc")
    own = backend(options={"signing_key": "0123456789abcdef"})
    own.set("k", "abc")
    assert (own.get("k"), new.get("k")) == ("abc", None)


class Dangerous:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.putenv, ("ESCAPED", "1"))


@pytest.mark.parametrize(
    "forged",
    [
        pickle.dumps(Dangerous()),
        b"\xf9" + pickle.dumps(Dangerous()),
        b"\xfb" + zlib.compress(b"\xf9" + pickle.dumps(Dangerous())),
        b"\xfd" + bytes(16) + b"\xf9" + pickle.dumps(Dangerous()),
    ],
    ids=["bare", "envelope", "compressed", "signed"],
)
def test_only_the_site_itself_makes_pickles(backend: Any, forged: bytes, monkeypatch: Any) -> None:
    """A pickle that somebody else put there is a miss, and is not even looked at."""
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("a forged pickle was loaded"))
    cache = backend()
    server, wire = _stored(cache, "k")
    with server:
        server.set(wire, forged)
    assert (cache.get("k"), cache.get_many(["k"])) == (None, {})


def test_keys_of_the_site_change(backend: Any) -> None:
    """Values signed with a fallback are read; without it they are misses."""
    backend().set("k", [1])
    old = "a secret of fifty characters, as Django makes them"
    with override_settings(SECRET_KEY="n" * 50, SECRET_KEY_FALLBACKS=[old]):
        cache = backend()
        assert cache.get("k") == [1]
        cache.set("new", [2])
    with override_settings(SECRET_KEY="n" * 50):
        assert backend().get_many(["k", "new"]) == {"new": [2]}


def test_pickles_without_signature(backend: Any) -> None:
    """Who trusts all writers says so."""
    plain = backend(options={"signing_key": None})
    plain.set("k", [1])
    server, wire = _stored(plain, "k")
    with server:
        assert server.get(wire).startswith(b"\xf9")
    assert (plain.get("k"), backend().get("k")) == ([1], None)


def test_django_own_values_are_misses(shards: LocalShards, namespace: str, backend: Any) -> None:
    """What Django's own backend wrote is not read, except for ints."""
    theirs = RedisCache(shards.servers[0].url, {"KEY_PREFIX": namespace})
    ours = backend(location=shards.servers[0].url)
    theirs.set_many({"n": 5, "list": [1]})
    assert ours.get_many(["n", "list"]) == {"n": 5}
    assert ours.incr("n") == 6
    assert theirs.get("n") == 6


@pytest.mark.parametrize("function", [None, lambda key, prefix, version: f"{version}/{key}"])
@pytest.mark.parametrize(
    "keys",
    [[], ["a"], ["a", "b c"], ["ä\u200b"], ["a", "x" * 250], [1, "a"], ["", "\x7f"], ["a", "a"]],
    ids=repr,
)
def test_many_keys_are_made_as_one_is(backend: Any, keys: list[Any], function: Any) -> None:
    """The keys, and Django's warnings of them, are those of one key after the other."""
    cache = backend(KEY_FUNCTION=function)
    for version in (None, 7):
        with warnings.catch_warnings(record=True) as each:
            warnings.simplefilter("always")
            expected = {cache._made(key, version): key for key in keys}
        with warnings.catch_warnings(record=True) as together:
            warnings.simplefilter("always")
            assert cache._made_many(iter(keys), version) == expected
        assert [str(one.message) for one in together] == [str(one.message) for one in each]
