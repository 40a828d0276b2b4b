"""LOCATION and OPTIONS: what each form means, and what to write in the place of others'."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from shardcache.contrib.django import ShardCacheBackend
from shardcache.contrib.django.translation import translated

URLS = ["redis://127.0.0.1:1?name=a", "redis://127.0.0.1:2?name=b"]


def _names(location: Any, **options: Any) -> list[str]:
    return list(ShardCacheBackend(location, {"OPTIONS": options}).client.stats().shards)


@pytest.mark.parametrize(
    "location",
    [
        URLS,
        tuple(URLS),
        ",".join(URLS),
        "; ".join(URLS),
        {"a": "redis://127.0.0.1:1", "b": "redis://127.0.0.1:2"},
        [*URLS[:1], f"{URLS[1]}&timeout=0.3"],
    ],
    ids=["list", "tuple", "commas", "semicolons", "mapping", "settings"],
)
def test_location(location) -> None:
    """All forms name the same shards."""
    assert _names(location) == ["a", "b"]


def test_no_location(monkeypatch) -> None:
    """Without one the environment says it; without that too, the error says so."""
    monkeypatch.setenv("SHARDCACHE_URL", URLS[0])
    assert _names("") == ["a"]
    monkeypatch.delenv("SHARDCACHE_URL")
    with pytest.raises(ImproperlyConfigured, match="SHARDCACHE_URL is not set"):
        _names("", timeout=7)


def test_cluster_and_sentinel() -> None:
    """One URL stands for all servers of a cluster, or of the Sentinels."""
    for location in ("redis+cluster://127.0.0.1:1", ["redis+sentinel://127.0.0.1:1?masters=a"]):
        assert ShardCacheBackend(location, {}).client


def test_options_of_django_redis() -> None:
    """A configuration as it stands in its README is taken over."""
    options = {
        "CLIENT_CLASS": "django_redis.client.ShardClient",
        "SERIALIZER": "django_redis.serializers.pickle.PickleSerializer",
        "COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor",
        "SOCKET_CONNECT_TIMEOUT": 5,
        "SOCKET_TIMEOUT": 2,
        "CONNECTION_POOL_KWARGS": {"max_connections": 100, "retry_on_timeout": True},
        "CONNECTION_POOL_CLASS": "redis.BlockingConnectionPool",
        "PARSER_CLASS": "redis.connection._HiredisParser",
        "PICKLE_VERSION": -1,
        "IGNORE_EXCEPTIONS": True,
        "MAX_ENTRIES": 1000,
    }
    assert translated(options) == {
        "serializer": "pickle",
        "compression": "zlib",
        "timeout": 5,
        "max_idle": 100,
        "on_unavailable": "degrade",
    }
    assert _names(URLS, **options) == ["a", "b"]


def test_login() -> None:
    """Name and password of OPTIONS are sent to every shard, and shown nowhere."""
    provider = translated({"USERNAME": "u", "PASSWORD": "secret"})["credential_provider"]
    assert provider.get_credentials() == ("u", "secret")
    assert "secret" not in repr(ShardCacheBackend(URLS, {"OPTIONS": {"password": "secret"}}).client)


@pytest.mark.parametrize(
    ("options", "instead"),
    [
        ({"db": 1}, "redis://10.0.0.1:6379/1"),
        ({"CLIENT_CLASS": "django_redis.client.SentinelClient"}, "redis\\+sentinel://"),
        ({"CLIENT_CLASS": "my.Client"}, "leave it out"),
        ({"SENTINELS": [("h", 1)]}, "redis\\+sentinel://"),
        ({"CONNECTION_POOL_KWARGS": {"ssl_cert_reqs": None}}, "rediss://"),
        ({"CONNECTION_POOL_CLASS": "my.Pool"}, "max_idle"),
        ({"CONNECTION_FACTORY": "my.Factory"}, "LOCATION"),
        ({"SERIALIZER": "django_redis.serializers.json.JSONSerializer"}, '"serializer": "json"'),
        ({"COMPRESSOR": "django_redis.compressors.lzma.LzmaCompressor"}, '"compression": "zlib"'),
        ({"REPLICA_READ_ONLY": True}, "leave it out"),
        ({"serializer": "no.such.Thing"}, "dotted path"),
        ({"timout": 1}, "did you mean 'timeout'"),
        ({"timeout": -1}, "timeout must be"),
    ],
    ids=str,
)
def test_refused_options(options, instead) -> None:
    """What has no counterpart is refused with what to write; nothing is sent."""
    with pytest.raises(ImproperlyConfigured, match=instead):
        _names(URLS, **options)


def test_ignored_exceptions_of_the_site() -> None:
    """The global setting of django-redis counts where OPTIONS say nothing."""
    with override_settings(DJANGO_REDIS_IGNORE_EXCEPTIONS=False):
        found = ShardCacheBackend(URLS, {"OPTIONS": {"failures": 9}}).client
    assert found is not ShardCacheBackend(URLS, {"OPTIONS": {"failures": 9}}).client


class Serializer:
    """As Django's own: dumps and loads."""

    def dumps(self, value: Any) -> bytes:
        return repr(value).encode()

    def loads(self, data: bytes) -> Any:
        return f"read {data.decode()}"


@pytest.mark.parametrize("kind", ["path", "class", "object"])
def test_serializer(backend: Any, kind: str, monkeypatch: Any) -> None:
    """A serializer of the site's own is named, or handed over."""
    monkeypatch.setattr("shardcache.contrib.django.setup.import_string", lambda _: Serializer)
    chosen = {"path": "my.Serializer", "class": Serializer, "object": Serializer()}[kind]
    cache = backend(options={"serializer": chosen})
    cache.set("k", [1])
    assert cache.get("k") == "read [1]"


@pytest.mark.parametrize("name", ["safe", "json"])
def test_named_serializer(backend: Any, name: str) -> None:
    """What cannot run code needs no signature."""
    cache = backend(options={"serializer": name})
    cache.set("k", [1])
    assert cache.get("k") == [1]
    with pytest.raises(ValueError, match="is not among what the serializer"):
        cache.set("k", object())
