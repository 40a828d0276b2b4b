"""limits: rate limits whose counters are spread over several servers.

Importing this registers the schemes ``shardcache://`` and ``async+shardcache://``, for limits
itself, Flask-Limiter and slowapi. Each hit or look is one round trip to the shard of its key; times
are the server's, so the clocks of the callers need not agree.

What is stored for a key of limits:

    strategy                 key              value
    ----------------------   --------------   ---------------------------------------------------
    fixed window             key              the count; its ttl is the end of the window
    moving window            key/moving       a list of the times of the last hits, newest first
    sliding window counter   key/sliding      a hash: begin of the window, its count, the one before
"""

import time
from collections.abc import Mapping
from typing import Any, TypeVar

from limits.aio import storage as aio
from limits.storage import MovingWindowSupport, SlidingWindowCounterSupport, Storage

from shardcache.async_client import AsyncShardCache
from shardcache.client import ShardCache
from shardcache.client_base import CacheBase
from shardcache.contrib.settings import client_of, namespace_of
from shardcache.errors import InvalidOption, ShardCacheError

__all__ = ("AsyncShardCacheStorage", "ShardCacheStorage")

C = TypeVar("C", bound=CacheBase)

# ``shardcache://h1,h2`` -> ``redis://h1,h2``
_SCHEMES = {
    "shardcache": "redis",
    "shardcache+rediss": "rediss",
    "shardcache+cluster": "redis+cluster",
    "shardcache+sentinel": "redis+sentinel",
}

_NOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""

# limit, window in ms, amount. A hit fits if the one that it would push out has left the window.
_ENTER = f"""
local limit, window, amount = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if amount > limit then return 0 end
{_NOW}
local pushed_out = redis.call('LINDEX', KEYS[1], limit - amount)
if pushed_out and tonumber(pushed_out) > now - window then return 0 end
local some = {{}}
for at = 1, math.min(amount, 1000) do some[at] = now end
for done = 0, amount - 1, 1000 do
    redis.call('LPUSH', KEYS[1], unpack(some, 1, math.min(amount - done, 1000)))
end
redis.call('LTRIM', KEYS[1], 0, limit - 1)
redis.call('PEXPIRE', KEYS[1], window)
return 1
"""

# window in ms. The times fall from left to right, so those within the window are found by halving.
_ENTERED = f"""
{_NOW}
local after = now - tonumber(ARGV[1])
local inside, outside = 0, redis.call('LLEN', KEYS[1])
while inside < outside do
    local middle = math.floor((inside + outside) / 2)
    if tonumber(redis.call('LINDEX', KEYS[1], middle)) > after then
        inside = middle + 1
    else
        outside = middle
    end
end
if inside == 0 then return {{0, 0}} end
return {{now - redis.call('LINDEX', KEYS[1], inside - 1), inside}}
"""

# The window that `began` goes on for one length; then its count is that of the window before.
_WINDOWS = f"""
local window = tonumber(ARGV[1])
{_NOW}
local stored = redis.call('HMGET', KEYS[1], 'began', 'count', 'before')
local began, count, before = tonumber(stored[1]), tonumber(stored[2]), tonumber(stored[3])
if not began or now >= began + 2 * window then
    began, count, before = now, 0, 0
elseif now >= began + window then
    began, count, before = began + window, 0, count
end
local left = began + window - now
"""

# window in ms, limit, amount
_COUNT = f"""
{_WINDOWS}
local limit, amount = tonumber(ARGV[2]), tonumber(ARGV[3])
if math.floor(before * left / window) + count + amount > limit then return 0 end
redis.call('HSET', KEYS[1], 'began', began, 'count', count + amount, 'before', before)
redis.call('PEXPIRE', KEYS[1], left + window)
return 1
"""

# window in ms. limits takes the time left modulo the window, so the whole of it must not be left:
# the reset of a window that has just begun would be now.
_COUNTED = f"""
{_WINDOWS}
local ends = math.min(left, window - 1) + window
return {{before, before > 0 and left or 0, count, count > 0 and ends or 0}}
"""


def _moving(key: str) -> str:
    return f"{key}/moving"


def _sliding(key: str) -> str:
    return f"{key}/sliding"


def _ms(expiry: float) -> int:
    return max(int(expiry * 1000), 1)


# The answers of a shard that is out: there is room, and nothing has been counted.


def _allowed(reply: Any) -> bool:
    return reply is None or reply == 1


def _start_and_count(reply: Any) -> tuple[float, int]:
    age, count = reply or (0, 0)
    return time.time() - age / 1000, count


def _both_windows(reply: Any) -> tuple[int, float, int, float]:
    before, before_left, count, left = reply or (0, 0, 0, 0)
    return before, before_left / 1000, count, left / 1000


def _end(left: float | None) -> float:
    return time.time() + (left or 0.0)


def _client(kind: type[C], uri: str | None, prefix: str | None, options: Mapping[str, Any]) -> C:
    """Return the client for a URI of limits."""
    scheme, mark, rest = (uri or "shardcache://").removeprefix("async+").partition("://")
    if scheme not in _SCHEMES or not mark:
        raise InvalidOption(
            f"the scheme must be {', '.join(_SCHEMES)}, with async+ before it for asyncio, "
            f"got {scheme!r:.40}"
        )
    settings = dict(options)
    if prefix is not None:
        settings.setdefault("namespace", namespace_of(prefix))
    if "options" not in settings:
        # Nothing is loaded here, so no hit has to invalidate a load.
        settings.setdefault("void_loads", False)
    url = settings.pop("url", None)
    return client_of(kind, f"{_SCHEMES[scheme]}://{rest}" if rest else url, settings)


class ShardCacheStorage(Storage, MovingWindowSupport, SlidingWindowCounterSupport):
    """A storage of limits over several Redis or Valkey servers.

    ``uri``: ``shardcache://h1:6379,h2:6379`` with the settings of a URL of `ShardCache.from_url`
        behind it; ``shardcache+rediss://``, ``shardcache+cluster://``, ``shardcache+sentinel://``;
        ``shardcache://`` alone takes ``url``, or SHARDCACHE_URL.
    ``wrap_exceptions``: whether errors come as limits' StorageError. Default: False.
    ``key_prefix``: the namespace; None: that of the URL. Default: "LIMITS".
    ``options``: ``url``, parameters of `ShardCache` and fields of `Options`.

    While the shard of a key is out, its limit does not hold: each hit is allowed. With
    ``on_unavailable="raise"`` it is `ShardUnavailable`, for those that have a fallback.
    """

    STORAGE_SCHEME = list(_SCHEMES)

    def __init__(
        self,
        uri: str | None = None,
        wrap_exceptions: bool = False,
        key_prefix: str | None = "LIMITS",
        **options: Any,
    ) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self.client = _client(ShardCache, uri, key_prefix, options)

    @property
    def base_exceptions(self) -> type[Exception]:
        return ShardCacheError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        return self.client.incr(key, amount, initial=0, ttl=expiry) or 0

    def get(self, key: str) -> int:
        return int(self.client.get(key, 0))

    def get_expiry(self, key: str) -> float:
        return _end(self.client.ttl(key))

    def acquire_entry(self, key: str, limit: int, expiry: float, amount: int = 1) -> bool:
        return _allowed(
            self.client.command(_moving(key), "EVAL", _ENTER, limit, _ms(expiry), amount)
        )

    def get_moving_window(self, key: str, limit: int, expiry: float) -> tuple[float, int]:
        return _start_and_count(self.client.command(_moving(key), "EVAL", _ENTERED, _ms(expiry)))

    def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: float, amount: int = 1
    ) -> bool:
        return _allowed(
            self.client.command(_sliding(key), "EVAL", _COUNT, _ms(expiry), limit, amount)
        )

    def get_sliding_window(self, key: str, expiry: float) -> tuple[int, float, int, float]:
        return _both_windows(self.client.command(_sliding(key), "EVAL", _COUNTED, _ms(expiry)))

    def clear_sliding_window(self, key: str, expiry: float) -> None:
        self.client.delete(_sliding(key))

    def clear(self, key: str) -> None:
        self.client.delete_many([key, _moving(key)])

    def check(self) -> bool:
        """Return whether all shards answer."""
        return all(found.ok for found in self.client.ping().values())

    def reset(self) -> int | None:
        """Delete the limits of this prefix; return how many keys they had."""
        return self.client.clear()

    def close(self) -> None:
        """Close all connections; later calls raise `ClientClosed`."""
        self.client.close()


class AsyncShardCacheStorage(aio.Storage, aio.MovingWindowSupport, aio.SlidingWindowCounterSupport):
    """`ShardCacheStorage` for asyncio: ``async+shardcache://h1:6379,h2:6379``.

    ``uri``: as for `ShardCacheStorage`, with ``async+`` before it.
    ``wrap_exceptions``: as there.
    ``key_prefix``: as there.
    ``options``: as there.
    """

    STORAGE_SCHEME = [f"async+{scheme}" for scheme in _SCHEMES]

    def __init__(
        self,
        uri: str | None = None,
        wrap_exceptions: bool = False,
        key_prefix: str | None = "LIMITS",
        **options: Any,
    ) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self.client = _client(AsyncShardCache, uri, key_prefix, options)

    @property
    def base_exceptions(self) -> type[Exception]:
        return ShardCacheError

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        return await self.client.incr(key, amount, initial=0, ttl=expiry) or 0

    async def get(self, key: str) -> int:
        return int(await self.client.get(key, 0))

    async def get_expiry(self, key: str) -> float:
        return _end(await self.client.ttl(key))

    async def acquire_entry(self, key: str, limit: int, expiry: float, amount: int = 1) -> bool:
        return _allowed(
            await self.client.command(_moving(key), "EVAL", _ENTER, limit, _ms(expiry), amount)
        )

    async def get_moving_window(self, key: str, limit: int, expiry: float) -> tuple[float, int]:
        return _start_and_count(
            await self.client.command(_moving(key), "EVAL", _ENTERED, _ms(expiry))
        )

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: float, amount: int = 1
    ) -> bool:
        return _allowed(
            await self.client.command(_sliding(key), "EVAL", _COUNT, _ms(expiry), limit, amount)
        )

    async def get_sliding_window(self, key: str, expiry: float) -> tuple[int, float, int, float]:
        return _both_windows(
            await self.client.command(_sliding(key), "EVAL", _COUNTED, _ms(expiry))
        )

    async def clear_sliding_window(self, key: str, expiry: float) -> None:
        await self.client.delete(_sliding(key))

    async def clear(self, key: str) -> None:
        await self.client.delete_many([key, _moving(key)])

    async def check(self) -> bool:
        """Return whether all shards answer."""
        return all(found.ok for found in (await self.client.ping()).values())

    async def reset(self) -> int | None:
        """Delete the limits of this prefix; return how many keys they had."""
        return await self.client.clear()

    async def close(self) -> None:
        """Close all connections; later calls raise `ClientClosed`."""
        await self.client.close()
