"""`command`: a command of the server for one key, sent to that key's shard.

The commands that are allowed are listed here. A command is allowed if its only key comes first, if
it answers at once (BLPOP waits, and with it all that share the connection), and if it leaves the
connection as it was (SELECT, MULTI and SUBSCRIBE do not). A reading command may be sent again when
a connection turns out to be dead. A writing command never is, since it may have had its effect.
EVAL is allowed too: a script whose only key this is.
"""

import math
import re

from shardcache.errors import InvalidArgument
from shardcache.resp import Command, ErrorReply, Op, Reply

__all__ = ("READING", "WRITING", "Argument", "called", "keys_of", "packed")

Argument = bytes | str | int | float

READING = frozenset(
    """
    BITCOUNT BITFIELD_RO BITPOS DUMP EXPIRETIME
    GEODIST GEOHASH GEOPOS GEOSEARCH GET GETBIT GETRANGE
    HEXISTS HEXPIRETIME HGET HGETALL HKEYS HLEN HMGET HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSTRLEN
    HTTL HVALS
    LINDEX LLEN LPOS LRANGE PEXPIRETIME PTTL
    SCARD SISMEMBER SMEMBERS SMISMEMBER SRANDMEMBER SSCAN STRLEN TTL TYPE
    XLEN XPENDING XRANGE XREVRANGE
    ZCARD ZCOUNT ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK
    ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE
    """.split()  # noqa: SIM905 - ninety words are easier to read so
) | {"MEMORY USAGE", "OBJECT ENCODING", "OBJECT FREQ", "OBJECT IDLETIME"}
READING |= {"XINFO CONSUMERS", "XINFO GROUPS", "XINFO STREAM"}
WRITING = frozenset(
    """
    APPEND BITFIELD DECR DECRBY EXPIRE EXPIREAT GEOADD GETDEL GETEX GETSET
    HDEL HEXPIRE HEXPIREAT HGETDEL HGETEX HINCRBY HINCRBYFLOAT HMSET HPERSIST HPEXPIRE HPEXPIREAT
    HSET HSETEX HSETNX
    INCR INCRBY INCRBYFLOAT LINSERT LPOP LPUSH LPUSHX LREM LSET LTRIM
    PERSIST PEXPIRE PEXPIREAT PFADD PSETEX RESTORE RPOP RPUSH RPUSHX
    SADD SET SETBIT SETEX SETNX SETRANGE SPOP SREM XACK XADD XAUTOCLAIM XCLAIM XDEL XTRIM
    ZADD ZINCRBY ZPOPMAX ZPOPMIN ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE
    """.split()  # noqa: SIM905
) | {
    "XGROUP CREATE",
    "XGROUP CREATECONSUMER",
    "XGROUP DELCONSUMER",
    "XGROUP DESTROY",
    "XGROUP SETID",
}
_OF_A_MODULE = re.compile(r"(?:BF|CF|CMS|JSON|TDIGEST|TOPK|TS)\.[A-Z]+")
_OF_SEVERAL = frozenset(
    {
        "CMS.MERGE",
        "JSON.MGET",
        "JSON.MSET",
        "TDIGEST.MERGE",
        "TS.CREATERULE",
        "TS.DELETERULE",
        "TS.MADD",
    }
    | {"TS.MGET", "TS.MRANGE", "TS.MREVRANGE", "TS.QUERYINDEX"}
)

_OF_TWO_WORDS = frozenset(name.split()[0].encode() for name in READING | WRITING if " " in name)

# All types of RESP.
_ANYTHING: frozenset[type] = frozenset(
    {bytes, str, int, float, bool, type(None), list, dict, set, tuple, ErrorReply}
)


def _same(reply: Reply) -> Reply:
    return reply


READ = Op(
    "command",
    idempotent=True,
    writes=False,
    degraded=None,
    read=_same,
    reply_types=_ANYTHING,
    values=1,
)
WRITE = Op(
    "command",
    idempotent=False,
    writes=True,
    degraded=None,
    read=_same,
    reply_types=_ANYTHING,
    values=1,
)


def packed(wire: bytes, name: str, arguments: tuple[Argument, ...]) -> tuple[Op, Command]:
    """Return the `Op` for the command ``name``, and the command with the key in its place.

    Raises `InvalidArgument` for a command that is not allowed, and for an argument that is neither
    text, bytes nor a number.
    """
    words = name.upper().split() if isinstance(name, str) else []
    known = " ".join(words)
    if known == "EVAL":
        return WRITE, _script(wire, [_encoded(*one) for one in enumerate(arguments, 1)])
    if known in READING:
        op = READ
    elif known in WRITING or (_OF_A_MODULE.fullmatch(known) and known not in _OF_SEVERAL):
        op = WRITE
    else:
        raise InvalidArgument(
            "command takes the name of a command whose one key comes first and that answers "
            f"at once, got {name!r:.80}; "
            "cache.redis(key) returns a client of the key's shard for all others"
        )
    encoded = (_encoded(place, argument) for place, argument in enumerate(arguments, 1))
    return op, (*(word.encode() for word in words), wire, *encoded)


def _script(wire: bytes, arguments: list[bytes]) -> Command:
    """Return the command that runs a script, the first argument, on the one key."""
    if not arguments:
        raise InvalidArgument("EVAL takes the script as its first argument, got none")
    return (b"EVAL", arguments[0], b"1", wire, *arguments[1:])


def called(op: Op, command: Command) -> str:
    """Return what was called, for messages: the method; of `command` also the command's name."""
    if op is not READ and op is not WRITE:
        return op.name
    words = b" ".join(command[:2] if command[0] in _OF_TWO_WORDS else command[:1])
    return f"{op.name} {words.decode()}"


_OF_NO_KEY = frozenset({b"ASKING", b"DBSIZE", b"FLUSHDB", b"INFO", b"PING", b"SCAN"})
_OF_MANY_KEYS = frozenset({b"MGET", b"UNLINK", b"EXISTS", b"DEL"})


def keys_of(command: Command) -> tuple[bytes, ...]:
    """Return the keys of a command that this client sends; all of them lie in one slot."""
    verb = command[0]
    if verb == b"EVAL":
        return command[3 : 3 + int(command[2])]
    if verb in _OF_NO_KEY:
        return ()
    if verb in _OF_MANY_KEYS:
        return command[1:]
    return command[2:3] if verb in _OF_TWO_WORDS else command[1:2]


def _encoded(place: int, argument: object) -> bytes:
    kind = type(argument)
    if isinstance(argument, bytes):
        return bytes(argument)
    if isinstance(argument, str):
        try:
            return str.encode(argument)
        except UnicodeEncodeError:
            raise InvalidArgument(
                f"argument {place} must be encodable as UTF-8, got {argument!r:.80}"
            ) from None
    if kind is int:
        return b"%d" % argument  # type: ignore[str-format]
    if kind is float and not math.isnan(argument):  # type: ignore[arg-type]
        return repr(argument).encode()
    raise InvalidArgument(
        f"argument {place} must be bytes, str, int or float, got {argument!r:.80}"
    )
