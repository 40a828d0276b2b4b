"""A client of redis-py for one shard, with the shard's address, login and TLS.

It is for what this library has no method for.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

from shardcache.options import TLS, Options
from shardcache.urls import Address

if TYPE_CHECKING:
    import redis.asyncio

    Redis: TypeAlias = redis.Redis
    AsyncRedis: TypeAlias = redis.asyncio.Redis

__all__ = ("async_redis_client", "sync_redis_client")


def sync_redis_client(address: Address, tls: TLS, options: Options, timeout: float) -> "Redis":
    """Return a client that connects when it is first used. The caller has to close it.

    It retries nothing: redis-py's default is ten retries, each of which has the whole ``timeout``.

    ``timeout``: seconds for connecting, and for each command.
    """
    from redis import Redis  # slow to import, and few need it
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    settings = _settings(address, tls, options, timeout)
    if address.path:
        # With RESP3, redis-py 7.0 listens for maintenance, and raises if there is no host.
        settings["protocol"] = 2
    return Redis(**settings, retry=Retry(NoBackoff(), 0))


def async_redis_client(
    address: Address, tls: TLS, options: Options, timeout: float
) -> "AsyncRedis":
    """As `sync_redis_client`, for asyncio."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Redis(**_settings(address, tls, options, timeout), retry=Retry(NoBackoff(), 0))


def _settings(address: Address, tls: TLS, options: Options, timeout: float) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "db": address.db,
        "client_name": options.client_name,
        "protocol": options.protocol,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
    }
    if options.credential_provider is not None:
        settings["credential_provider"] = options.credential_provider
    else:
        settings |= {"username": address.username, "password": address.password}
    if address.path:
        return settings | {"unix_socket_path": address.path}
    settings |= {"host": address.host, "port": address.port}
    if address.tls:
        settings |= {
            "ssl": True,
            "ssl_ca_certs": tls.ca_file,
            "ssl_certfile": tls.cert_file,
            "ssl_keyfile": tls.key_file,
            "ssl_cert_reqs": "required" if tls.verify else "none",
            "ssl_check_hostname": tls.verify and tls.check_hostname,
        }
    return settings
