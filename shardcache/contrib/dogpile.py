"""dogpile.cache: the backend ``shardcache``, with a mutex for the whole fleet if wanted."""

import threading
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from dogpile.cache.api import NO_VALUE, BytesBackend, CacheMutex

from shardcache.client import ShardCache
from shardcache.contrib.settings import SETTINGS, client_of
from shardcache.errors import LockError, QuorumUnavailable
from shardcache.locks.quorum_lock import QuorumLock

__all__ = ("FleetMutex", "ShardCacheBackend")

_OWN = ("url", "distributed_lock", "lock_timeout", "redis_expiration_time")


class ShardCacheBackend(BytesBackend):
    """A backend of dogpile.cache over several Redis or Valkey servers.

    ``arguments``: a mapping, which is not changed, of:

    - ``url``: the servers, as for `ShardCache.from_url`. Default: SHARDCACHE_URL.
    - ``distributed_lock``: whether one creator runs in the fleet for each key; else one in each
      process. Default: False.
    - ``lock_timeout``: seconds after which the lock of a process that died is free, 0.02 to
      604 800. While the process lives the lock is renewed. Default: 10.
    - ``redis_expiration_time``: whole seconds that servers keep a value; 0 or None (the default):
      without an end, so that dogpile.cache can serve it stale.
    - parameters of `ShardCache` and fields of `Options`, such as ``namespace`` or ``timeout``.

    Other arguments are left out with a warning, since dogpile.cache allows them. A shard that is
    out is a miss and stores nothing; it raises nothing.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        unknown = sorted(name for name in arguments if name not in (*_OWN, *SETTINGS))
        if unknown:
            warnings.warn(
                f"the backend shardcache leaves out the arguments {', '.join(unknown)}; it knows "
                f"{', '.join((*_OWN, *SETTINGS))}",
                stacklevel=2,
            )
        settings = {name: arguments[name] for name in arguments if name in SETTINGS}
        settings.setdefault("default_ttl", arguments.get("redis_expiration_time") or None)
        # What dogpile.cache's Redis backend has stored is read; a signed cache refuses it anyway.
        if not settings.keys() & {"options", "serializer"}:
            settings.setdefault("read_foreign", True)
        self.client = client_of(ShardCache, arguments.get("url"), settings)
        self.distributed_lock = bool(arguments.get("distributed_lock"))
        self.lock_timeout = float(arguments.get("lock_timeout") or 10)
        if self.distributed_lock:
            self._lock("checked now")  # a wrong lock_timeout is an error here

    def get_mutex(self, key: str) -> "FleetMutex | None":
        return FleetMutex(self, key) if self.distributed_lock else None

    def _lock(self, key: str) -> QuorumLock:
        # An owner of its own: dogpile.cache shares a mutex between threads.
        return self.client.lock(key, self.lock_timeout, auto_renew=True, owner=object())

    def get_serialized(self, key: str) -> Any:
        return self.client.get(key, NO_VALUE)

    def get_serialized_multi(self, keys: Iterable[str]) -> list[Any]:
        asked = list(keys)
        found = self.client.get_many(asked)
        return [found.get(key, NO_VALUE) for key in asked]

    def set_serialized(self, key: str, value: bytes) -> None:
        self.client.set(key, value)

    def set_serialized_multi(self, mapping: Mapping[str, bytes]) -> None:
        self.client.set_many(mapping)

    def delete(self, key: str) -> None:
        self.client.delete(key)

    def delete_multi(self, keys: Iterable[str]) -> None:
        self.client.delete_many(keys)

    def close(self) -> None:
        """Close all connections; later calls raise `ClientClosed`."""
        self.client.close()


class FleetMutex(CacheMutex):
    """The mutex of one key: a quorum lock, and without a quorum a lock of this process.

    ``backend``: the backend whose servers vote.
    ``key``: the key that is created.

    It may be shared between threads, and released by another thread than the one that took it.
    """

    def __init__(self, backend: ShardCacheBackend, key: str) -> None:
        self._backend = backend
        self._key = key
        self._local = threading.Lock()
        # By thread, because a lease may end under its holder while another thread gets the next.
        self._held: dict[int, QuorumLock | threading.Lock] = {}

    def acquire(self, wait: bool = True) -> bool:
        """Take the mutex; return whether it was taken.

        ``wait``: whether to wait for it. Default: True.
        """
        lock = self._backend._lock(self._key)  # noqa: SLF001  of the same module
        try:
            # At first without waiting: a wait for a quorum would last for the whole lock_timeout.
            taken = lock.acquire(blocking=False) or (wait and lock.acquire())
        except QuorumUnavailable:
            return self._keep(self._local, taken=self._local.acquire(wait))
        return self._keep(lock, taken=taken)

    def _keep(self, lock: "QuorumLock | threading.Lock", *, taken: bool) -> bool:
        if taken:
            self._held[threading.get_ident()] = lock
        return taken

    def release(self) -> None:
        """Give the mutex back. A lease that has ended meanwhile is no error."""
        lock = self._held.pop(threading.get_ident(), None) or self._held.popitem()[1]
        # A request must not fail for that: the ttl ends the lease in any case.
        with suppress(LockError):
            lock.release()

    def locked(self) -> bool:
        """Return whether anybody in the fleet has the mutex; without a quorum: in this process."""
        try:
            return self._backend._lock(self._key).locked()  # noqa: SLF001
        except QuorumUnavailable:
            return self._local.locked()
