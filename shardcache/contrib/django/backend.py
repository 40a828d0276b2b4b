"""`ShardCacheBackend`: Django's cache API over a `ShardCache`, with Django's own meanings."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from shardcache.contrib.django.async_methods import AsyncMethods
from shardcache.contrib.django.basis import NO_LOAD, loaded_alone, not_a_number
from shardcache.contrib.django.redis_methods import RedisMethods
from shardcache.errors import WrongType
from shardcache.policy import LoadPolicy
from shardcache.policy.load_policy import Preset
from shardcache.results import MISS

__all__ = ("ShardCacheBackend",)


class ShardCacheBackend(AsyncMethods, RedisMethods):
    """A cache of Django over several Redis or Valkey servers.

    ``location``: LOCATION of an entry of CACHES: URLs in a list or a text (joined by "," or ";"),
        a mapping of names to URLs, one ``redis+cluster://`` or ``redis+sentinel://`` URL, or
        nothing: the environment variable SHARDCACHE_URL.
    ``params``: the rest of the entry. OPTIONS has the parameters of `ShardCache` and the fields of
        `Options`; ``serializer`` is "pickle" by default, signed by a key derived from SECRET_KEY.

    A shard that is out makes reads miss and writes do nothing. Raises `ImproperlyConfigured` for
    settings that cannot be. These parameters mean the same in all methods:

    ``key``: a text, made into the stored key by KEY_PREFIX, ``version`` and KEY_FUNCTION.
    ``keys``: an iterable of such.
    ``value``: whatever the serializer takes.
    ``timeout``: seconds; None: no expiry; zero or less: not stored, or deleted. Default: TIMEOUT.
    ``version``: None (the default): VERSION of the settings.
    ``default``: what a miss returns; of `get_or_set`: the value, or a function that makes it.
    """

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return self.client.get(self._made(key, version), default)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return the keys that are there with their values, by one exchange per shard."""
        made = self._made_many(keys, version)
        return {made[key]: value for key, value in self.client.get_many(made).items()}

    def set(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        nx: bool = False,
        xx: bool = False,
    ) -> bool:
        """Store a value; return whether it was stored.

        ``nx``: only if the key is absent. Default: False.
        ``xx``: only if the key is present. Default: False.
        """
        if nx and xx:
            raise ValueError("set: nx and xx exclude each other, got both")
        client = self.client
        store = client.add if nx else client.replace if xx else client.set
        return store(self._made(key, version), value, self.get_backend_timeout(timeout))

    def add(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Store a value only if the key is absent, by one command; return whether it was."""
        return self.client.add(self._made(key, version), value, self.get_backend_timeout(timeout))

    def set_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """Store several values, by one exchange per shard; return the keys that were not stored.

        ``data``: the values by their keys.
        """
        made = self._made_many(data, version)
        values = {wire: data[key] for wire, key in made.items()}
        failed = self.client.set_many(values, self.get_backend_timeout(timeout))
        return [made[key] for key in failed]

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Give a key a new timeout; return whether it was there."""
        return self.client.touch(self._made(key, version), self.get_backend_timeout(timeout))

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Delete a key; return whether it was there."""
        return self.client.delete(self._made(key, version))

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Delete keys, by one exchange per shard."""
        self.client.delete_many(self._made_many(keys, version))

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Return whether a key is there, without reading its value."""
        return self.client.contains(self._made(key, version))

    def incr(
        self,
        key: Any,
        delta: int = 1,
        version: int | None = None,
        *,
        ignore_key_check: bool = False,
    ) -> int | None:
        """Add a number to an integer, which keeps its timeout; return the sum.

        ``delta``: the number. Default: 1.
        ``ignore_key_check``: whether an absent key counts from 0, without expiry. Default: False.

        Returns None if the shard is out. Raises `ValueError` for an absent key, and `NotANumber`
        for a value that is no integer.
        """
        initial = 0 if ignore_key_check else None
        try:
            return self.client.incr(self._made(key, version), delta, initial=initial, ttl=None)
        except WrongType as error:
            raise not_a_number(error) from error

    def get_or_set(
        self,
        key: Any,
        default: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        *,
        policy: LoadPolicy | Preset | None = None,
    ) -> Any:
        """Return the value of a key; if it is absent, have it made once in the fleet, and store it.

        ``policy``: a `LoadPolicy`, "simple" (the default), "swr" or "strict".
        """
        made, ttl = self._made(key, version), self.get_backend_timeout(timeout)
        try:
            return self.client.get_or_set(made, default, ttl, policy=policy)
        except NO_LOAD:
            return loaded_alone(default)

    def incr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Move a value to another version with the time that it has left; return the version.

        ``delta``: what is added to the version. Default: 1.

        Raises `ValueError` for an absent key.
        """
        version = self.version if version is None else version
        made, new = self._made(key, version), self._made(key, version + delta)
        value, left = self.client.get(made, MISS), self.client.ttl(made)
        self._check_movable(key, value)
        self.client.set(new, value, left)
        self.client.delete(made)
        return version + delta

    def clear(self) -> None:
        """Delete all keys of this KEY_PREFIX and VERSION, and no others."""
        self.client.clear(match=self.around_keys().glob("*"))

    def close(self, **_: Any) -> None:
        """Do nothing: Django calls it after each request, and the connections are kept."""
