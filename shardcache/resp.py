"""What an operation is, and what a server's error reply means.

An operation is data: whether it may be sent twice, whether it writes, and how its reply is read.
The table of operations is in `flows/operations.py`. A command is a tuple of bytes that the wire
packs, such as ``(b"GET", key)``; the maker of a command makes bytes of its numbers (``b"%d" % n``).
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

__all__ = ("Command", "ErrorReply", "Op", "OpGroup", "Reply", "as_error")

# Bytes only: hiredis 3.5 crashes the process if a signal handler raises while it packs a number.
Command = tuple[bytes, ...]
Reply = Any  # bytes, int, None, list, dict or ErrorReply: the types of RESP


class ErrorReply(Exception):
    """A server's error reply as the parser returns it: data, until `as_error` names the error."""


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One operation of the client.

    ``name``: the name of the method.
    ``idempotent``: whether sending it twice leaves the same state as once, so that it may be sent
        again when a connection broke before the reply.
    ``writes``: whether it changes something; a degraded call is counted as a dropped write then.
    ``degraded``: the result of a call whose shard is out.
    ``read``: makes the result of the reply.
    ``reply_types``: the types that a reply can have, whatever is in it.
    ``values``: how many stored values a reply can have, which bounds its length.
    ``validate``: says of a reply of another type whether it can be right; None: it cannot.

    A reply that is not accepted means that the connection is out of step.
    """

    name: str
    idempotent: bool
    writes: bool
    degraded: Any
    read: Callable[[Reply], Any]
    reply_types: frozenset[type]
    values: int = 0
    validate: Callable[[Reply], bool] | None = None
    number: ClassVar[int] = 1  # of commands, as in `OpGroup`
    in_order: ClassVar[bool] = False  # as in `ReplyBatch` of `wire/aio/pending_reply.py`

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.idempotent and not self.writes

    def accepts(self, reply: Reply) -> bool:
        """Whether a reply can be right. Fast callers look into ``reply_types`` first."""
        return reply.__class__ in self.reply_types or (
            self.validate is not None and self.validate(reply)
        )


class OpGroup:
    """Several operations that are sent together, in this order, seen as one."""

    __slots__ = ("_fitting", "_ops", "idempotent", "name", "number", "reads", "values")

    reply_types: ClassVar[frozenset[type]] = frozenset()  # it takes a look: see `Op.accepts`

    def __init__(self, *ops: Op) -> None:
        self._ops = ops
        self._fitting: set[tuple[type, ...]] = set()  # types of replies that fit, whatever they say
        self.name = " and ".join(op.name for op in ops)
        self.number = len(ops)
        self.idempotent = all(op.idempotent for op in ops)
        self.reads = all(op.reads for op in ops)
        self.values = sum(op.values for op in ops)

    def accepts(self, replies: list[Reply]) -> bool:
        """Whether each reply can be right for its operation."""
        kinds = tuple(map(type, replies))
        if kinds in self._fitting:
            return True
        looked = False
        for op, reply in zip(self._ops, replies, strict=True):
            if reply.__class__ not in op.reply_types:
                looked = True
                if not op.accepts(reply):
                    return False
        if not looked:
            self._fitting.add(kinds)
        return True


# The first word of an error reply of a server that is there, and does not serve now.
_NOT_SERVING = frozenset({"LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED"})
# Of a server that serves reads and refuses writes: MISCONF after a failed snapshot (also in reply
# to PING), the others by its role.
_NO_WRITES = frozenset({"MISCONF", "READONLY", "NOREPLICAS"})
_CREDENTIALS = frozenset({"NOAUTH", "WRONGPASS"})
_ACL = ("ACL failure in script", "user executing the script can't")
_LOGIN = ("invalid password", "without any password configured")  # of servers from before WRONGPASS
_KIND = ("not an integer", "not a valid integer", "not a valid float", "would overflow")


def as_error(shard: str, reply: ErrorReply, keys: str = "*") -> ShardError:
    """Return the error that an error reply stands for.

    ``shard``: the name of the shard.
    ``reply``: the error reply.
    ``keys``: the pattern of the client's keys, for the user's ACL.
    """
    # The first word tells the kind; some servers only say it in the text.
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
    # A refusal has the first word too, as the caller may want to look at it.
    reason = explained(text)
    error = kind(shard, reason)
    if isinstance(error, CommandRefused):
        error = type(error)(shard, reason, code)
    error.__cause__ = ErrorReply(text)  # not the reply as it came: it may quote a password
    return error
