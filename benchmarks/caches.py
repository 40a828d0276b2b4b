"""How each library is asked for "this key, or load it": what the stampede is run on.

A `Way` is made in the worker's own process, after the fork. ``read`` returns the value, by itself
or as a coroutine. Peers use the first server only: none of them knows shards.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio

from shardcache import AsyncShardCache, ShardCache

__all__ = ("KEY", "PEERS", "WAYS", "Loader")

KEY = "stampede"
MOST = 5000  # connections of a peer: none is to fail for want of one
Loader = Callable[..., Any]
Urls = Sequence[str]


def ours(urls: Mapping[str, str], load: Loader, ttl: float) -> tuple[Any, Any]:
    cache = ShardCache(urls, timeout=5)
    return lambda: cache.get_or_set(KEY, load, ttl), cache


def ours_tasks(urls: Mapping[str, str], load: Loader, ttl: float) -> tuple[Any, Any]:
    cache = AsyncShardCache(urls, timeout=5)
    return lambda: cache.get_or_set(KEY, load, ttl), cache


def nothing(urls: Mapping[str, str], load: Loader, ttl: float) -> tuple[Any, Any]:
    client = redis.Redis.from_url(_first(urls), max_connections=MOST)

    def read() -> Any:
        value = client.get(KEY)
        if value is None:
            value = load()
            client.set(KEY, value, px=round(ttl * 1000))
        return value

    return read, None


def django(urls: Mapping[str, str], load: Loader, ttl: float) -> tuple[Any, Any]:
    return _django(
        "django.core.cache.backends.redis.RedisCache", {"max_connections": MOST}, urls, load, ttl
    )


def django_redis(urls: Mapping[str, str], load: Loader, ttl: float) -> tuple[Any, Any]:
    options = {"CONNECTION_POOL_KWARGS": {"max_connections": MOST}}
    return _django("django_redis.cache.RedisCache", options, urls, load, ttl)


def _django(
    backend: str, options: dict[str, Any], urls: Mapping[str, str], load: Loader, ttl: float
) -> Any:
    from django.conf import settings
    from django.core.cache import caches

    settings.configure(
        CACHES={"default": {"BACKEND": backend, "LOCATION": _first(urls), "OPTIONS": options}}
    )
    # The cache object of one thread for all: each thread would open a pool of its own.
    cache = caches["default"]
    return lambda: cache.get_or_set(KEY, load, timeout=ttl), None


def dogpile(urls: Mapping[str, str], load: Loader, ttl: float) -> tuple[Any, Any]:
    from dogpile.cache import make_region

    settings = {
        "url": _first(urls),
        "redis_expiration_time": round(ttl * 10),
        "distributed_lock": True,
        "thread_local_lock": False,
        "lock_timeout": 10,
        "connection_kwargs": {"max_connections": MOST},
    }
    region = make_region().configure("dogpile.cache.redis", expiration_time=ttl, arguments=settings)
    return lambda: region.get_or_create(KEY, load), None


def cashews_lock(urls: Mapping[str, str], load: Loader, ttl: float) -> tuple[Any, Any]:
    cache = _cashews(urls)
    return cache(ttl=ttl, key=KEY, lock=True)(load), None


def cashews_early(urls: Mapping[str, str], load: Loader, ttl: float) -> tuple[Any, Any]:
    cache = _cashews(urls)
    return cache.early(ttl=ttl, early_ttl=ttl * 0.7, key=KEY)(load), None


def _cashews(urls: Mapping[str, str]) -> Any:
    from cashews import Cache

    cache = Cache()
    cache.setup(
        _first(urls), max_connections=MOST, socket_timeout=30, wait_for_connection_timeout=30
    )
    return cache


def aiocache(urls: Mapping[str, str], load: Loader, ttl: float) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from aiocache import Cache, cached_stampede
    place = urlsplit(_first(urls))
    settings = {
        "endpoint": place.hostname,
        "port": place.port,
        "timeout": 30,
        "pool_max_size": MOST,
    }
    return cached_stampede(lease=2, ttl=ttl, key=KEY, cache=Cache.REDIS, **settings)(load), None


def _first(urls: Mapping[str, str]) -> str:
    return next(iter(urls.values()))


# By name: what makes a way, whether it is asked by tasks, and which package it needs.
WAYS: dict[str, tuple[Callable[..., tuple[Any, Any]], bool, str]] = {
    "shardcache, threads": (ours, False, "shardcache"),
    "shardcache, tasks": (ours_tasks, True, "shardcache"),
    "no protection": (nothing, False, "redis"),
    "Django get_or_set": (django, False, "django"),
    "django-redis get_or_set": (django_redis, False, "django_redis"),
    "dogpile.cache, redis lock": (dogpile, False, "dogpile"),
    "cashews, lock": (cashews_lock, True, "cashews"),
    "cashews, early": (cashews_early, True, "cashews"),
    "aiocache cached_stampede": (aiocache, True, "aiocache"),
}
PEERS = tuple(
    name for name, (_, _, package) in WAYS.items() if package != "shardcache" and find_spec(package)
)
