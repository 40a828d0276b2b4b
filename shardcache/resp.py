"""The table of operations, and what a server's error reply means.

An operation is data: whether it may be sent twice, whether it writes, and how its reply reads.
A command is a tuple of bytes that the wire packs (``(b"GET", key)``); numbers become bytes where commands are made (`decimal`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from shardcache.errors import (
    AccessDenied,
    AuthenticationFailed,
    CommandRefused,
    OutOfMemory,
    ShardError,
    ShardUnavailable,
    WritesRefused,
    WrongType,
)
from shardcache.refusals import explained, words

__all__ = ("Command", "ErrorReply", "Op", "OpGroup", "Reply", "as_error", "decimal")

# Bytes only: hiredis 3.5 ends the process when it packs a number and a signal handler raises at that moment.
Command = tuple[bytes, ...]
Reply = Any  # bytes, int, None, list, dict or ErrorReply: what RESP has


def decimal(number: int) -> bytes:
    """Return a number as it stands in a command; True and False are 1 and 0."""
    return b"%d" % number


class ErrorReply(Exception):
    """A server's error reply as the parser hands it out: data, until `as_error` names it."""


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One operation of the client.

    ``idempotent`` says that sending it a second time leaves the same state, so that it may be retried
    when a connection broke before the reply; ``writes`` what a degraded call is counted as;
    ``degraded`` what the call answers when its shard is out; ``read`` turns the reply into the
    result. ``kinds`` are the types that its reply can have, whatever it says; of other types it must ``fit``. Anything else means that the
    connection is out of step. ``values``: how many stored values the reply can hold, which bounds its length.
    """

    name: str
    idempotent: bool
    writes: bool
    degraded: Any
    read: Callable[[Reply], Any]
    reply_types: frozenset[type]
    values: int = 0
    validate: Callable[[Reply], bool] | None = None
    in_order: ClassVar[bool] = False  # as in `ReplyBatch` of `wire/aio/pending_reply.py`

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.idempotent and not self.writes

    def accepts(self, reply: Reply) -> bool:
        """Whether it can be answered so. Who must be fast looks into ``kinds`` first."""
        return reply.__class__ in self.reply_types or (
            self.validate is not None and self.validate(reply)
        )


class OpGroup:
    """Several operations that go out together, in this order: what holds of all of them."""

    __slots__ = ("_ops", "idempotent", "number", "reads", "values")

    def __init__(self, *ops: Op) -> None:
        self._ops = ops
        self.number = len(ops)
        self.idempotent = all(op.idempotent for op in ops)
        self.reads = all(op.reads for op in ops)
        self.values = sum(op.values for op in ops)

    def validate(self, replies: list[Reply]) -> bool:
        """Whether each reply is of a kind that its operation can have."""
        for op, reply in zip(self._ops, replies, strict=True):
            if reply.__class__ not in op.reply_types and not op.accepts(reply):
                return False
        return True


# First word of an error reply: the server is there but does not serve now.
_NOT_SERVING = frozenset({"LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED"})
# It serves reads, but takes no writes now: MISCONF after a failed snapshot (also in answer to a PING), the others by role.
_NO_WRITES = frozenset({"MISCONF", "READONLY", "NOREPLICAS"})
_CREDENTIALS = frozenset({"NOAUTH", "WRONGPASS"})
_ACL = ("ACL failure in script", "user executing the script can't")
_LOGIN = ("invalid password", "without any password configured")  # of servers from before WRONGPASS
_KIND = ("not an integer", "not a valid integer", "not a valid float", "would overflow")


def as_error(shard: str, reply: ErrorReply, keys: str = "*") -> ShardError:
    """Return the error that an error reply of ``shard`` stands for. ``keys``: the pattern that the client's keys match."""
    text = words(str(reply))
    code = text.partition(" ")[0]
    kind: type[ShardError]
    if code in _NOT_SERVING or text.startswith("ERR max number of clients"):
        kind = ShardUnavailable
    elif code in _NO_WRITES:
        kind = WritesRefused
    elif code in _CREDENTIALS or any(sign in text for sign in _LOGIN):
        kind = AuthenticationFailed
    elif code == "WRONGTYPE" or any(sign in text for sign in _KIND):
        kind = WrongType
    elif code == "NOPERM" or any(sign in text for sign in _ACL):
        kind = AccessDenied
        text = f"{text.rstrip('.')}. This client needs the keys ~{keys}"
    elif code == "OOM":
        kind = OutOfMemory
    else:
        kind = CommandRefused
    reason = explained(text)
    error = kind(shard, reason)
    if isinstance(error, CommandRefused):
        error = type(error)(shard, reason, code)
    error.__cause__ = ErrorReply(text)  # not the reply as it came: it may quote a password
    return error
