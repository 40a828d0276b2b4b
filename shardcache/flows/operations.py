"""Single-key operations: each a row in the table of `Op` and a function that builds its request.

The functions are pure: they check every argument, encode key and value, and return a `Request`.
The clients send it and give the reply to ``op.read``; a pipeline queues it.
"""

import re
from functools import cache
from typing import Any, NamedTuple

from shardcache.codecs import Codec
from shardcache.errors import InvalidArgument, KeyMissing
from shardcache.flows.one_command import Argument, packed
from shardcache.flows.scripts import ADD_TO, FRESH_LEFT, PERSIST, TOUCH_FRESH
from shardcache.keys import Key, KeySpace
from shardcache.resp import Command, ErrorReply, Op, OpGroup, Reply
from shardcache.results import MISS
from shardcache.ttl import DEFAULT, TTL, Default, default_milliseconds, milliseconds

__all__ = (
    "ANYWHERE",
    "GET",
    "INVALIDATE",
    "LOOK",
    "NUMBER",
    "TEXT",
    "Request",
    "Requests",
    "invalidated",
)


def _same(reply: Reply) -> Any:
    return reply


def _is_one(reply: Reply) -> bool:
    return bool(reply == 1)


def _is_zero(reply: Reply) -> bool:
    return bool(reply == 0)


def _stored(reply: Reply) -> bool:
    return reply is not None  # SET with NX or XX answers nil when its condition does not hold


def _done(_: Reply) -> bool:
    return True


def _counted(reply: Reply) -> int:
    if reply is None:
        raise KeyMissing("the key to count on is not there; give initial=… to start it")
    return int(reply)


def _is_sum(reply: Reply) -> bool:
    return reply.__class__ is bytes and _SUM.fullmatch(reply) is not None


def _seconds(reply: Reply) -> float | None:
    return None if reply == -1 else max(int(reply), 0) / 1000


TEXT: frozenset[type] = frozenset({bytes, type(None), ErrorReply})
NUMBER: frozenset[type] = frozenset({int, ErrorReply})
_SUM = re.compile(rb"-?[0-9]{1,19}")  # see `ADD_TO`
_SUM_KINDS: frozenset[type] = frozenset({type(None), ErrorReply})

GET = Op(
    "get", idempotent=True, writes=False, degraded=MISS, read=_same, reply_types=TEXT, values=1
)
SET = Op("set", idempotent=True, writes=True, degraded=False, read=_stored, reply_types=TEXT)
ADD = Op("add", idempotent=False, writes=True, degraded=False, read=_stored, reply_types=TEXT)
ADD_DEAD = Op(
    "add", idempotent=True, writes=True, degraded=False, read=_is_zero, reply_types=NUMBER
)
REPLACE = Op(
    "replace", idempotent=True, writes=True, degraded=False, read=_stored, reply_types=TEXT
)
SET_DEAD = Op("set", idempotent=True, writes=True, degraded=False, read=_done, reply_types=NUMBER)
REPLACE_DEAD = Op(
    "replace", idempotent=False, writes=True, degraded=False, read=_is_one, reply_types=NUMBER
)
# Sent twice it may answer False for a key that it did delete; not sent again it would leave a stale
# value.
DELETE = Op(
    "delete", idempotent=True, writes=True, degraded=False, read=_is_one, reply_types=NUMBER
)
INCR = Op(
    "incr",
    idempotent=False,
    writes=True,
    degraded=None,
    read=_counted,
    reply_types=_SUM_KINDS,
    validate=_is_sum,
)
DECR = Op(
    "decr",
    idempotent=False,
    writes=True,
    degraded=None,
    read=_counted,
    reply_types=_SUM_KINDS,
    validate=_is_sum,
)
TOUCH = Op("touch", idempotent=True, writes=True, degraded=False, read=_is_one, reply_types=NUMBER)
TOUCH_DEAD = Op(
    "touch", idempotent=False, writes=True, degraded=False, read=_is_one, reply_types=NUMBER
)
LEFT = Op("ttl", idempotent=True, writes=False, degraded=0.0, read=_seconds, reply_types=NUMBER)
CONTAINS = Op(
    "contains", idempotent=True, writes=False, degraded=False, read=_is_one, reply_types=NUMBER
)
INVALIDATE = Op(
    "void", idempotent=True, writes=True, degraded=False, read=_is_one, reply_types=NUMBER
)
LOOK = OpGroup(GET, LEFT)
# What may be asked of a replica, where the client reads from replicas. All else never is.
ANYWHERE = frozenset({GET, LEFT, CONTAINS})


@cache
def invalidated(op: Op) -> OpGroup:
    """Return the group that is sent for an operation that invalidates a load of its key."""
    return OpGroup(INVALIDATE, op)


_INT64 = 2**63


class Request(NamedTuple):
    """One command for one key.

    ``default``: the result of a `GET` that is a miss.
    ``invalidates``: the command that is sent before it and deletes the fill token of a load: a
        load that began before this write must not overwrite it.
    """

    op: Op
    key: bytes
    command: Command
    default: Any = None
    invalidates: Command | None = None


class Requests:
    """Builds requests for one namespace, codec and default ttl."""

    __slots__ = ("_default_ttl", "_encode", "_invalidates", "_pass", "_wire")

    def __init__(
        self, keys: KeySpace, codec: Codec, default_ttl: TTL, *, void_loads: bool = True
    ) -> None:
        self._wire = keys.wire
        self._pass = keys.fill_token
        self._encode = codec.encode
        self._default_ttl = default_milliseconds(default_ttl)
        self._invalidates = void_loads

    def ttl_ms(self, ttl: TTL | Default) -> int | None:
        """Return milliseconds, 0 for "gone at once", None for no expiry."""
        return self._default_ttl if ttl is DEFAULT else milliseconds(ttl)

    def invalidate_load(self, wire: bytes) -> Command | None:
        """Return the command that invalidates a running load of this key, if writes do that."""
        return (b"UNLINK", self._pass(wire)) if self._invalidates else None

    def get(self, key: Key, default: Any = None) -> Request:
        wire = self._wire(key)
        return Request(GET, wire, (b"GET", wire), default)

    def set(self, key: Key, value: Any, ttl: TTL | Default = DEFAULT) -> Request:
        wire = self._wire(key)
        raw = self._encode(value, wire)
        ms = self._default_ttl if ttl is DEFAULT else milliseconds(ttl)
        if ms is None:
            return Request(SET, wire, (b"SET", wire, raw), invalidates=self.invalidate_load(wire))
        if ms:
            return Request(
                SET,
                wire,
                (b"SET", wire, raw, b"PX", b"%d" % ms),
                invalidates=self.invalidate_load(wire),
            )
        return Request(SET_DEAD, wire, (b"UNLINK", wire), invalidates=self.invalidate_load(wire))

    def add(self, key: Key, value: Any, ttl: TTL | Default = DEFAULT) -> Request:
        return self._conditional(ADD, b"NX", Request(ADD_DEAD, b"", (b"EXISTS",)), key, value, ttl)

    def replace(self, key: Key, value: Any, ttl: TTL | Default = DEFAULT) -> Request:
        return self._conditional(
            REPLACE, b"XX", Request(REPLACE_DEAD, b"", (b"UNLINK",)), key, value, ttl
        )

    def _conditional(
        self, op: Op, flag: bytes, dead: Request, key: Key, value: Any, ttl: TTL | Default
    ) -> Request:
        wire = self._wire(key)
        raw = self._encode(value, wire)
        ms = self.ttl_ms(ttl)
        if ms is None:
            return Request(
                op, wire, (b"SET", wire, raw, flag), invalidates=self.invalidate_load(wire)
            )
        if ms:
            return Request(
                op,
                wire,
                (b"SET", wire, raw, flag, b"PX", b"%d" % ms),
                invalidates=self.invalidate_load(wire),
            )
        return Request(dead.op, wire, (*dead.command, wire), invalidates=self.invalidate_load(wire))

    def delete(self, key: Key) -> Request:
        wire = self._wire(key)
        return Request(DELETE, wire, (b"UNLINK", wire), invalidates=self.invalidate_load(wire))

    def incr(
        self, key: Key, delta: int, initial: int | None = None, ttl: TTL | Default = DEFAULT
    ) -> Request:
        return self._count(INCR, key, _whole("delta", delta), initial, ttl)

    def _count(
        self, op: Op, key: Key, step: int, initial: int | None, ttl: TTL | Default
    ) -> Request:
        wire = self._wire(key)
        ms = self.ttl_ms(ttl)
        if initial is None:
            return Request(
                op,
                wire,
                (b"EVAL", ADD_TO, b"1", wire, b"%d" % step),
                invalidates=self.invalidate_load(wire),
            )
        first = _whole("initial", initial) + step
        if not -_INT64 <= first < _INT64:
            raise InvalidArgument(f"{op.name}: the first sum must fit in 64 bits, got {first}")
        if ms == 0:
            raise InvalidArgument(
                f"{op.name}: a ttl of zero or less would drop the counter at once; use delete"
            )
        command: Command = (
            *(b"EVAL", ADD_TO, b"1", wire),
            *(b"%d" % step, b"%d" % first, b"" if ms is None else b"%d" % ms),
        )
        return Request(op, wire, command, invalidates=self.invalidate_load(wire))

    def decr(
        self, key: Key, delta: int, initial: int | None = None, ttl: TTL | Default = DEFAULT
    ) -> Request:
        if _whole("delta", delta) == -_INT64:
            raise InvalidArgument(f"delta must be above {-_INT64} for decr, got {delta}")
        return self._count(DECR, key, -delta, initial, ttl)

    def touch(self, key: Key, ttl: TTL | Default = DEFAULT) -> Request:
        wire = self._wire(key)
        ms = self.ttl_ms(ttl)
        if ms is None:
            return Request(TOUCH, wire, (b"EVAL", PERSIST, b"1", wire))
        if ms:
            return Request(TOUCH, wire, (b"EVAL", TOUCH_FRESH, b"1", wire, b"%d" % ms))
        return Request(TOUCH_DEAD, wire, (b"UNLINK", wire), invalidates=self.invalidate_load(wire))

    def command(self, key: Key, name: str, arguments: tuple[Argument, ...]) -> Request:
        wire = self._wire(key)
        op, command = packed(wire, name, arguments)
        return Request(
            op, wire, command, invalidates=self.invalidate_load(wire) if op.writes else None
        )

    def ttl(self, key: Key) -> Request:
        wire = self._wire(key)
        return Request(LEFT, wire, (b"EVAL", FRESH_LEFT, b"1", wire))

    def contains(self, key: Key) -> Request:
        wire = self._wire(key)
        return Request(CONTAINS, wire, (b"EXISTS", wire))


def _whole(name: str, number: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not -_INT64 <= number < _INT64:
        raise InvalidArgument(f"{name} must be an int of 64 bits, got {number!r:.80}")
    return number
