"""Sessions of starsessions in a cache over several servers."""

from starsessions.stores.base import SessionStore as Store

from shardcache.async_client import AsyncShardCache
from shardcache.errors import InvalidOption

__all__ = ("SessionStore",)

_KEPT = 30 * 24 * 3600  # seconds that a session of no set length is kept for, as by starsessions


class SessionStore(Store):
    """The sessions of starsessions, each on the shard of its key.

    ``cache``: the client.
    ``prefix``: text before the session's id in its key. Default: "session:".

    While a shard is out, its sessions are empty, and what is stored in them is lost: a cache is no
    place for what must not be lost.
    """

    def __init__(self, cache: AsyncShardCache, prefix: str = "session:") -> None:
        if not isinstance(cache, AsyncShardCache):
            raise InvalidOption(f"cache must be an AsyncShardCache, got a {type(cache).__name__}")
        self._cache = cache
        self._prefix = prefix

    async def read(self, session_id: str, lifetime: int) -> bytes:
        """Return what is stored; empty if there is nothing.

        ``session_id``: the session.
        ``lifetime``: seconds; not used.
        """
        found = await self._cache.get(self._prefix + session_id)
        return found if isinstance(found, bytes) else b""

    async def write(self, session_id: str, data: bytes, lifetime: int, ttl: int) -> str:
        """Store a session; return its id.

        ``session_id``: the session.
        ``data``: its bytes.
        ``lifetime``: seconds; 0: until the browser is closed, and here for 30 days.
        ``ttl``: seconds that are left of it.
        """
        kept = max(ttl, 1) if lifetime else _KEPT
        await self._cache.set(self._prefix + session_id, data, kept)
        return session_id

    async def remove(self, session_id: str) -> None:
        """Delete a session.

        ``session_id``: the session.
        """
        await self._cache.delete(self._prefix + session_id)
