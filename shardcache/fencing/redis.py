"""Fencing on one Redis or Valkey: each key has a guard beside it, and one script uses both."""

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any, Protocol

from shardcache.errors import DamagedPayload, InvalidArgument, InvalidOption, InvalidTTL, StaleToken
from shardcache.fencing.token import check_token
from shardcache.keys import Key, KeySpace, hash_tag
from shardcache.ttl import TTL, milliseconds

__all__ = ("FencedRedis", "guard_of")

STALE, DAMAGED = 0, 2  # 1: admitted

# KEYS: the guard, then the keys of the body.
# ARGV: the token, the life of the guard in ms ("" for ever), then the arguments of the body.
# Tokens are compared as text, and the longer one is greater: a number of Lua is a double, which
# loses digits from 2**53 on. The token is recorded before the body runs, because a script that
# fails halfway keeps what it did until then.
GUARDED = """\
local guard, token, life = KEYS[1], ARGV[1], ARGV[2]
local seen = redis.call('GET', guard)
if seen then
if not string.find(seen, '^[1-9]%d*$') then return {2, seen} end
if #seen > #token or (#seen == #token and seen > token) then return {0, seen} end
end
if life == '' then redis.call('SET', guard, token) \
else redis.call('SET', guard, token, 'PX', life) end
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
    """What a client must have: `eval` as in redis-py."""

    def eval(self, script: str, numkeys: str, /, *keys_and_args: Any) -> Any:
        """Run ``script`` and return its reply, or an awaitable of it."""


class FencedRedis:
    """Writes keys of one server only if no newer fencing token has been seen there.

    ``client``: a client of redis-py, or any object with its `eval`. If `eval` returns an awaitable
        (`redis.asyncio`), every method here returns one too: await it.
    ``guard_ttl``: how long a guard stays after the last write that it let in, as seconds above 0 or
        a timedelta; None (default) for ever. It must be longer than a holder may be paused.

    The highest token of a key is kept in a second key, the guard (`guard_of`), in the same slot of
    a cluster. Guarantee: a write with a token that is older than one that the guard has seen does
    nothing, and raises `StaleToken`. This holds as long as the guard is there: it must not be
    evicted, flushed, or lost in a restart or a failover.

    Raises `InvalidOption` if the client has no `eval`, and `InvalidTTL` for a wrong ``guard_ttl``.
    """

    def __init__(self, client: Scripting, *, guard_ttl: TTL = None) -> None:
        if not callable(getattr(client, "eval", None)):
            raise InvalidOption(
                "client must have eval(script, numkeys, *keys_and_args), got "
                f"{type(client).__name__}"
            )
        life = milliseconds(guard_ttl)
        if life == 0:
            raise InvalidTTL(f"guard_ttl must be above 0, or None for ever, got {guard_ttl!r}")
        self._client = client
        self._life = "" if life is None else str(life)

    def set(self, key: Key, value: str | bytes | float, token: int, *, ttl: TTL = None) -> Any:
        """Set a key; return True.

        ``key``: the key, as text or bytes.
        ``value``: str, bytes, int or float; stored as redis-py does.
        ``token``: the fencing token of the holder, 1 to 2⁶³ - 1.
        ``ttl``: seconds or a timedelta; None (default) for no expiry; 0 or less deletes the key.

        Raises before anything is sent `InvalidToken`, `InvalidKey`, `InvalidTTL`, and
        `InvalidArgument` for a value of another type. Raises after that `StaleToken` if the guard
        has seen a newer token, and `DamagedPayload` if the guard is no token.
        """
        if isinstance(value, bool) or not isinstance(value, (str, bytes, int, float)):
            raise InvalidArgument(
                f"a value must be str, bytes, int or float, got {type(value).__name__}"
            )
        life = milliseconds(ttl)
        return self._run(key, token, SET, [key], [value, "" if life is None else life], bool)

    def delete(self, key: Key, token: int) -> Any:
        """Delete a key; return whether it was there. The guard stays.

        ``key``: the key, as text or bytes.
        ``token``: the fencing token of the holder.

        Raises as `set`.
        """
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
        """Run a Lua script if the guard lets the token in; return the script's reply.

        ``script``: the text of the script.
        ``keys``: what it finds in KEYS.
        ``args``: what it finds in ARGV.
        ``token``: the fencing token of the holder. It counts as seen even if the script fails.
        ``guard``: the key whose guard is asked; None (default) for the first of ``keys``.

        Raises as `set`, and `InvalidArgument` if there is no key.
        """
        # Check what `_run` does not check.
        if not isinstance(script, str):
            raise InvalidArgument(f"a script must be a str of Lua, got {type(script).__name__}")
        if isinstance(keys, (str, bytes)) or (guard is None and not keys):
            raise InvalidArgument(
                "expected a sequence of keys, and one at least where no guard is given, got "
                f"{keys!r:.80}"
            )
        # The reply goes to the caller as it is.
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
        # The number of keys is a text. redis-py gives numbers to hiredis, which crashes the process
        # if a signal handler raises while hiredis packs a number.
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
    """Return the key under which the highest token of a key is kept.

    ``key``: the key, as text or bytes.

    Raises `InvalidKey`, as for any key.
    """
    raw = _KEYS.wire(key)
    # One form ends in a brace and the other does not, so no two keys share a guard.
    return b"fence:{" + raw + b"}" if hash_tag(raw) == raw else raw + b":fence"


def _number_as_bytes(argument: Any) -> Any:
    """Return a number as redis-py writes it, and anything else unchanged."""
    is_number = isinstance(argument, (int, float)) and not isinstance(argument, bool)
    return repr(argument).encode() if is_number else argument


async def _later(reply: Awaitable[Any], settle: Callable[[Any], Any]) -> Any:
    return settle(await reply)


def _as_it_is(result: Any) -> Any:
    return result
