"""Flask-Caching: `ShardCacheBackend`, set by ``CACHE_TYPE``.

Views are cached as pickles, as Flask-Caching does it, and signed with the application's SECRET_KEY.
"""

from collections.abc import Sequence
from typing import Any

from flask_caching.backends.base import BaseCache

from shardcache.contrib import cachelib
from shardcache.errors import InvalidOption

__all__ = ("ShardCacheBackend",)


class ShardCacheBackend(cachelib.ShardCacheBackend, BaseCache):
    """The cache of Flask-Caching over several Redis or Valkey servers.

    The application's configuration::

        CACHE_TYPE = "shardcache.contrib.flask_caching.ShardCacheBackend"
        CACHE_SHARDCACHE_URL = "redis://h1?name=a,redis://h2?name=b"

    ``CACHE_SHARDCACHE_URL``: as for `ShardCache.from_url`. Default: SHARDCACHE_URL.
    ``CACHE_DEFAULT_TIMEOUT``: seconds; 0: for ever. Default: 300.
    ``CACHE_KEY_PREFIX``: the namespace. Default: Flask-Caching's own, ``flask_cache_``.
    ``CACHE_OPTIONS``: parameters of `ShardCache` and fields of `Options`.

    Values are pickles signed with SECRET_KEY, so that whoever can write to a server cannot run code
    in the application; those signed with one of SECRET_KEY_FALLBACKS are read too. ``serializer``
    or ``signing_key`` in CACHE_OPTIONS say it otherwise. Raises `InvalidOption` if there is neither
    of these nor a SECRET_KEY.
    """

    @classmethod
    def factory(
        cls, app: Any, config: dict[str, Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> "ShardCacheBackend":
        """Make the cache of one application; Flask-Caching calls it.

        ``app``: the Flask application.
        ``config``: its configuration.
        ``args``: CACHE_ARGS; they win over the configuration.
        ``kwargs``: CACHE_OPTIONS, with Flask-Caching's own settings.
        """
        settings = {"key_prefix": config.get("CACHE_KEY_PREFIX") or None, **kwargs}
        if "namespace" in settings:
            del settings["key_prefix"]
        if not settings.keys() & {"serializer", "signing_key", "options"}:
            settings |= {"serializer": "pickle", "signing_key": _signing_keys(app)}
        positional = args or [config.get("CACHE_SHARDCACHE_URL")]
        return cls(*positional, **settings)

    def unlink(self, *keys: str) -> list[Any]:
        """Delete the keys, as `delete_many` does: the server frees the memory in the background.

        ``keys``: the keys.
        """
        return self.delete_many(*keys)


def _signing_keys(app: Any) -> list[bytes | str]:
    keys = [app.config.get("SECRET_KEY"), *(app.config.get("SECRET_KEY_FALLBACKS") or ())]
    if not keys[0]:
        raise InvalidOption(
            "what Flask-Caching stores are pickles, which execute code when they are read, so they "
            "are signed with SECRET_KEY: set it, or CACHE_OPTIONS = {'signing_key': …}, or "
            "{'serializer': 'safe'}, which keeps plain data alone, or {'serializer': 'pickle'}, "
            "which trusts whoever can write to the servers"
        )
    return keys
