"""OPTIONS of django-redis and of Django's own backend: taken over, or refused with what to write.

Names are compared without regard to case, since the one writes SOCKET_TIMEOUT where the other
writes socket_timeout.
"""

from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from redis.credentials import UsernamePasswordCredentialProvider

__all__ = ("translated",)

# What is said of connections that this client does not have, or that it always does.
_WITHOUT_EFFECT = frozenset(
    {
        "close_connection",
        "cull_frequency",
        "health_check_interval",
        "max_entries",
        "parser_class",
        "pickle_version",
        "retry_on_timeout",
        "reverse_key_function",
        "socket_keepalive",
    }
)
_CLIENT_CLASSES = ("DefaultClient", "HerdClient", "ShardClient")
_POOLS = tuple(
    f"{module}.{name}"
    for module in ("redis", "redis.connection")
    for name in ("BlockingConnectionPool", "ConnectionPool")
)
_COMPRESSORS = {"identity": None, "zlib": "zlib", "zstd": "zstd"}

_IN_THE_URL = 'it belongs into the URL: "LOCATION": "redis://10.0.0.1:6379/1"'
_TLS = (
    'it belongs into the URL: "LOCATION": "rediss://10.0.0.1:6379?ssl_ca_certs=/etc/ssl/my-ca.pem"'
)
_SENTINEL = '"LOCATION": "redis+sentinel://10.0.0.1:26379,10.0.0.2:26379?masters=a,b"'
_INSTEAD = {
    "connection_factory": 'leave it out; addresses stand in "LOCATION"',
    "connection_pool_class_kwargs": "leave it out",
    "db": _IN_THE_URL,
    "host": _IN_THE_URL,
    "port": _IN_THE_URL,
    "redis_client_class": "leave it out; cache.client is the client of shardcache",
    "redis_client_kwargs": "leave it out; cache.client is the client of shardcache",
    "replica_read_only": "leave it out",
    "sentinel_kwargs": f"write {_SENTINEL}",
    "sentinels": f"write {_SENTINEL}",
}


def translated(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return OPTIONS in the words of shardcache.

    Raises `ImproperlyConfigured` for what has no counterpart, with the line to write instead. What
    is unknown stays as it is.
    """
    found: dict[str, Any] = {}
    login: dict[str, Any] = {}
    for name, value in options.items():
        word = str(name).lower()
        if word in _WITHOUT_EFFECT:
            continue
        if word in ("username", "password"):
            login[word] = value
        elif word in _READ:
            found.update(_READ[word](value))
        elif word in ("socket_timeout", "socket_connect_timeout"):
            # The longer one: it is the deadline of the whole call here.
            found["timeout"] = max(value, found.get("timeout", value))
        elif word in _INSTEAD:
            raise _refused(name, _INSTEAD[word])
        elif word.startswith("ssl_"):
            raise _refused(name, _TLS)
        elif word == "connection_pool_kwargs":
            found.update(translated(value))
        else:
            found[name] = value
    if login.get("password"):
        provider = UsernamePasswordCredentialProvider(login.get("username"), login["password"])
        found.setdefault("credential_provider", provider)
    # What is written in shardcache's own words counts.
    return found | {name: options[name] for name in found if name in options}


def _refused(name: str, instead: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"OPTIONS: {name} has no meaning here: {instead}")


def _client_class(value: Any) -> dict[str, Any]:
    last = str(value).rpartition(".")[2]
    if last == "SentinelClient":
        raise _refused("CLIENT_CLASS", f"write {_SENTINEL}")
    if not str(value).startswith("django_redis.client.") or last not in _CLIENT_CLASSES:
        raise _refused("CLIENT_CLASS", "leave it out; keys are spread over all of LOCATION")
    return {}


def _pool_class(value: Any) -> dict[str, Any]:
    name = value if isinstance(value, str) else f"{value.__module__}.{value.__qualname__}"
    if name not in _POOLS:
        raise _refused("CONNECTION_POOL_CLASS", 'leave it out; "max_idle" is the size of the pool')
    return {}


def _serializer(value: Any) -> dict[str, Any]:
    """Read the one of both that is no word of shardcache's: SERIALIZER of django-redis."""
    if not str(value).startswith("django_redis."):
        return {"serializer": value}
    if ".pickle." in str(value):
        return {"serializer": "pickle"}
    raise _refused(f"SERIALIZER {value}", 'write "serializer": "json" or "safe"')


def _compressor(value: Any) -> dict[str, Any]:
    kind = str(value).removeprefix("django_redis.compressors.").partition(".")[0]
    if kind not in _COMPRESSORS:
        raise _refused(f"COMPRESSOR {value}", 'write "compression": "zlib" or "zstd"')
    return {"compression": _COMPRESSORS[kind]}


_READ: dict[str, Callable[[Any], dict[str, Any]]] = {
    "client_class": _client_class,
    "compressor": _compressor,
    "connection_pool_class": _pool_class,
    "ignore_exceptions": lambda value: {"on_unavailable": "degrade" if value else "raise"},
    "max_connections": lambda value: {"max_idle": value},
    "pool_class": _pool_class,
    "serializer": _serializer,
}
