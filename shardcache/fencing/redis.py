"""Fencing on one Redis or Valkey: each key has a guard beside it, and a script looks at both at once."""

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any, Protocol

from shardcache.errors import DamagedPayload, InvalidArgument, InvalidOption, InvalidTTL, StaleToken
from shardcache.fencing.token import check_token
from shardcache.keys import Key, KeySpace, hash_tag
from shardcache.ttl import TTL, milliseconds

__all__ = ("FencedRedis", "guard_of")

STALE, DAMAGED = 0, 2  # 1: admitted

# KEYS: guard, then the body's own. ARGV: token, life of the guard in ms ("" for ever), then the body's own. Tokens
# are compared as text, since a number of Lua is a double and loses digits from 2**53 on: the longer one is greater.
# The token is recorded before the body runs: a script that fails halfway keeps what it did, and so its guard.
GUARDED = """\
local guard, token, life = KEYS[1], ARGV[1], ARGV[2]
local seen = redis.call('GET', guard)
if seen then
if not string.find(seen, '^[1-9]%d*$') then return {2, seen} end
if #seen > #token or (#seen == #token and seen > token) then return {0, seen} end
end
if life == '' then redis.call('SET', guard, token) else redis.call('SET', guard, token, 'PX', life) end
local function body(KEYS, ARGV)
"""
BODY_ENDS = """
end
return {1, body({unpack(KEYS, 2)}, {unpack(ARGV, 3)})}"""

SET = """\
if ARGV[2] == '' then redis.call('SET', KEYS[1], ARGV[1])
elseif ARGV[2] == '0' then redis.call('DEL', KEYS[1])
else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return 1"""
DELETE = "return redis.call('DEL', KEYS[1])"


class Scripting(Protocol):
    """What is asked of a client: redis-py's `eval`, of any of its clients."""

    def eval(self, script: str, numkeys: str, /, *keys_and_args: Any) -> Any:
        """Run ``script`` and return its reply, or an awaitable of it."""


class FencedRedis:
    """Writes keys of one server only if no newer fencing token has been seen there.

    ``client`` is a client of redis-py, or anything with its `eval`. If that returns an awaitable (`redis.asyncio`), so
    does every method here: await it. ``guard_ttl`` (seconds, a timedelta, or None for ever) is how long a guard
    outlives the last write that it admitted: longer than a paused holder may sleep, or it will find no guard.

    The highest token of a key is kept in a key of its own (`guard_of`), in the same slot of a cluster. Guarantee: a write
    with an older token than one that the guard has seen does nothing and raises `StaleToken`, as long as the guard is
    there: it must not be evicted, flushed, or lost in a restart or a failover.
    """

    def __init__(self, client: Scripting, *, guard_ttl: TTL = None) -> None:
        if not callable(getattr(client, "eval", None)):
            raise InvalidOption(
                f"client must have eval(script, numkeys, *keys_and_args), got {type(client).__name__}"
            )
        life = milliseconds(guard_ttl)
        if life == 0:
            raise InvalidTTL(f"guard_ttl must be above 0, or None for ever, got {guard_ttl!r}")
        self._client = client
        self._life = "" if life is None else str(life)

    def set(self, key: Key, value: str | bytes | float, token: int, *, ttl: TTL = None) -> Any:
        """Set ``key`` and return True. ``value`` is stored as redis-py does; ``ttl`` as in `ShardCache.set`.

        Raises `StaleToken`, and before anything is sent `InvalidToken`, `InvalidKey`, `InvalidTTL` and
        `InvalidArgument` (``value`` is not str, bytes, int or float).
        """
        if isinstance(value, bool) or not isinstance(value, (str, bytes, int, float)):
            raise InvalidArgument(
                f"a value must be str, bytes, int or float, got {type(value).__name__}"
            )
        life = milliseconds(ttl)
        return self._run(key, token, SET, [key], [value, "" if life is None else life], bool)

    def delete(self, key: Key, token: int) -> Any:
        """Delete ``key`` and return whether it was there. The guard stays. Raises as `set`."""
        return self._run(key, token, DELETE, [key], [], bool)

    def run(
        self,
        script: str,
        keys: Sequence[Key],
        args: Sequence[Any],
        token: int,
        *,
        guard: Key | None = None,
    ) -> Any:
        """Run a Lua ``script`` with ``keys`` as KEYS and ``args`` as ARGV, and return its reply.

        ``guard`` is the key whose guard is asked, by default the first of ``keys``. The token counts as seen even
        if the script fails. Raises as `set`, and `InvalidArgument` without a key.
        """
        if not isinstance(script, str):
            raise InvalidArgument(f"a script must be a str of Lua, got {type(script).__name__}")
        if isinstance(keys, (str, bytes)) or (guard is None and not keys):
            raise InvalidArgument(
                f"expected a sequence of keys, and one at least where no guard is given, got {keys!r:.80}"
            )
        return self._run(keys[0] if guard is None else guard, token, script, keys, args, _as_it_is)

    def _run(
        self,
        resource: Key,
        token: int,
        script: str,
        keys: Sequence[Key],
        args: Sequence[Any],
        read: Callable[[Any], Any],
    ) -> Any:
        wire = [guard_of(resource), *map(_KEYS.wire, keys)]
        given = [str(check_token(token)), self._life, *map(_number_as_bytes, args)]
        # A text, for redis-py hands numbers on to hiredis, which ends the process if a signal handler raises while it packs one.
        reply = self._client.eval(GUARDED + script + BODY_ENDS, str(len(wire)), *wire, *given)

        def settle(reply: Any) -> Any:
            verdict, result = (*reply, None)[:2]
            if verdict == STALE:
                raise StaleToken(resource, token, int(result))
            if verdict == DAMAGED:
                raise DamagedPayload(
                    f"the guard of {resource!r:.80} should hold a fencing token, got {result!r:.80}"
                )
            # A script may return an error instead of raising one.
            if isinstance(result, Exception):
                raise result
            return read(result)

        return _later(reply, settle) if isawaitable(reply) else settle(reply)


_KEYS = KeySpace()


def guard_of(key: Key) -> bytes:
    """Return the key under which the highest token of ``key`` is kept; raise `InvalidKey` as for any key."""
    raw = _KEYS.wire(key)
    # One ends in a brace and the other does not: no two keys share a guard.
    return b"fence:{" + raw + b"}" if hash_tag(raw) == raw else raw + b":fence"


def _number_as_bytes(argument: Any) -> Any:
    """Write out a number as redis-py does; all else is left to it."""
    is_number = isinstance(argument, (int, float)) and not isinstance(argument, bool)
    return repr(argument).encode() if is_number else argument


async def _later(reply: Awaitable[Any], settle: Callable[[Any], Any]) -> Any:
    return settle(await reply)


def _as_it_is(result: Any) -> Any:
    return result
