"""django-redis' `ShardClient`, asked through Django's cache."""

import warnings
from typing import Any

from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.scenarios.case import Case
from shardcache.bench.scenarios.servers import Addresses

__all__ = ("PEER",)

SECONDS = 300


def _open(at: Addresses, case: Case) -> Calls:
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    from django_redis.cache import RedisCache

    options: dict[str, Any] = {"CLIENT_CLASS": "django_redis.client.ShardClient"}
    if case.serializer == "json":
        options["SERIALIZER"] = "django_redis.serializers.json.JSONSerializer"
    if case.compression:
        name = {"zlib": "zlib.Zlib", "zstd": "zstd.ZStd"}[case.compression]
        options["COMPRESSOR"] = f"django_redis.compressors.{name}Compressor"
    # It warns of the way in which it calls itself.
    warnings.filterwarnings("ignore", "get on sharded client|set on sharded client")
    cache: Any = RedisCache(list(at.urls.values()), {"TIMEOUT": SECONDS, "OPTIONS": options})
    return Calls(
        cache.close,
        get=cache.get,
        set=cache.set,
        get_many=cache.get_many,
        set_many=cache.set_many,
        incr=cache.incr,
    )


PEER = Peer("django-redis ShardClient", _open, "django-redis", "django_redis", "shards")
