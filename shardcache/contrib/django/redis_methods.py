"""What users of django-redis call beyond Django's own API."""

import math
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

from shardcache.contrib.django.basis import Basis
from shardcache.contrib.django.redis_lock import RedisLock
from shardcache.locks import AsyncQuorumLock

__all__ = ("RedisMethods",)

_RENEWED = 30.0  # seconds of a lease of a lock that has no timeout: it is renewed while it is held


class RedisMethods(Basis):
    """Times left, patterns and locks, under the names and with the results of django-redis.

    These parameters mean the same in all methods:

    ``key``: a text, made into the stored key as everywhere.
    ``timeout``: seconds; of the methods that begin with "p": milliseconds.
    ``version``: None (the default): VERSION of the settings.
    ``when``: a point in time: a datetime, or seconds (milliseconds) since 1970.
    ``pattern``, ``search``: a glob, as in Redis, that keys must fit, without prefix and version.
    ``itersize``: has no effect: each step of a walk looks at some 500 keys.
    """

    def ttl(self, key: Any, version: int | None = None) -> int | None:
        """Return the seconds that a key has left; None: no expiry; 0: it is not there."""
        left = self.client.ttl(self._made(key, version))
        return None if left is None else math.ceil(left)

    def pttl(self, key: Any, version: int | None = None) -> int | None:
        """Return the same in milliseconds."""
        left = self.client.ttl(self._made(key, version))
        return None if left is None else round(left * 1000)

    def persist(self, key: Any, version: int | None = None) -> bool:
        """Take away the timeout of a key; return whether it was there."""
        return self.client.touch(self._made(key, version), None)

    def expire(self, key: Any, timeout: float, version: int | None = None) -> bool:
        """Give a key a new timeout; return whether it was there."""
        return self.client.touch(self._made(key, version), timeout)

    def pexpire(self, key: Any, timeout: int, version: int | None = None) -> bool:
        """Give a key a new timeout; return whether it was there."""
        return self.client.touch(self._made(key, version), timeout / 1000)

    def expire_at(self, key: Any, when: datetime | int, version: int | None = None) -> bool:
        """Have a key end at a time of the server's clock; return whether it was there."""
        seconds = when.timestamp() if isinstance(when, datetime) else when
        return self.pexpire_at(key, int(seconds * 1000), version)

    def pexpire_at(self, key: Any, when: datetime | int, version: int | None = None) -> bool:
        """Do the same by milliseconds."""
        ms = int(when.timestamp() * 1000) if isinstance(when, datetime) else when
        return bool(self.client.command(self._made(key, version), "PEXPIREAT", ms))

    def keys(self, search: str = "*", version: int | None = None) -> list[str]:
        """Return the keys that fit, of this prefix and version, from all shards."""
        return list(dict.fromkeys(self.iter_keys(search, version=version)))

    def iter_keys(
        self, search: str = "*", itersize: int | None = None, version: int | None = None
    ) -> Iterator[str]:
        """Iterate over the same, shard by shard; a key may come twice."""
        del itersize
        around = self.around_keys(version)
        return map(around.key, self.client.scan(around.glob(search)))

    def delete_pattern(
        self, pattern: str, version: int | None = None, *, itersize: int | None = None
    ) -> int:
        """Delete the keys that fit, all shards at once; return how many were there."""
        del itersize
        return self.client.clear(match=self.around_keys(version).glob(pattern))

    def lock(
        self,
        key: Any,
        version: int | None = None,
        timeout: float | None = None,
        *,
        sleep: float | None = None,
        blocking: bool = True,
        blocking_timeout: float | None = None,
        thread_local: bool = True,
    ) -> RedisLock:
        """Return a lock with the methods of redis-py's, granted by a majority of the shards.

        ``timeout``: how long it is held at most; None (the default): until it is released, or its
            process ends.
        ``sleep``: has no effect: who waits is woken.
        ``blocking``: whether to wait for it. Default: True.
        ``blocking_timeout``: seconds to wait; None (the default): as long as others hold it.
        ``thread_local``: whether only the thread that took it may release it. Default: True.
        """
        del sleep
        lock = self.client.lock(
            self._made(key, version),
            _RENEWED if timeout is None else timeout,
            auto_renew=timeout is None,
            owner=None if thread_local else "any thread",
        )
        return RedisLock(lock, blocking=blocking, timeout=blocking_timeout)

    def alock(
        self,
        key: Any,
        version: int | None = None,
        timeout: float | None = None,
        *,
        blocking_timeout: float | None = None,
    ) -> AsyncQuorumLock:
        """Return an `AsyncQuorumLock`, for ``async with``.

        ``timeout``: as for `lock`.
        ``blocking_timeout``: as for `lock`.
        """
        return self.async_client.lock(
            self._made(key, version),
            _RENEWED if timeout is None else timeout,
            auto_renew=timeout is None,
            timeout=blocking_timeout,
        )

    async def attl(self, key: Any, version: int | None = None) -> int | None:
        """Do as `ttl`."""
        left = await self.async_client.ttl(self._made(key, version))
        return None if left is None else math.ceil(left)

    async def aiter_keys(self, search: str = "*", version: int | None = None) -> AsyncIterator[str]:
        """Do as `iter_keys`."""
        around = self.around_keys(version)
        async for made in self.async_client.scan(around.glob(search)):
            yield around.key(made)

    async def adelete_pattern(self, pattern: str, version: int | None = None) -> int:
        """Do as `delete_pattern`."""
        return await self.async_client.clear(match=self.around_keys(version).glob(pattern))
