"""A caller's place in the queue of replies of an asyncio connection, and what is owed to it."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar, Protocol

from shardcache.resp import Op, OpGroup, Reply
from shardcache.wire.reply_parser import Answers
from shardcache.wire.sync.connection import mark

__all__ = (
    "EchoChecked",
    "Lost",
    "PendingReply",
    "ReplyBatch",
    "ReplySink",
    "answers_to",
    "batch_of",
    "ignore",
    "in_place_of",
    "lose",
    "marked",
    "plain_reply",
    "tell_sink",
)


class ReplyBatch:
    """The replies that are due for several commands that go together.

    The result is a list of replies, or the bare reply if there is only one.

    ``number``: how many commands there are.
    ``validate``: whether the replies can be replies to these commands.
    ``answers``: what the replies can hold.
    ``reads``: the commands change nothing.
    ``in_order``: the commands take effect behind earlier ones that are ``in_order`` as well.
    """

    __slots__ = ("answers", "in_order", "number", "reads", "validate")

    # No single reply is the result, unlike the reply to an `Op`.
    reply_types: ClassVar[frozenset[type]] = frozenset()

    def __init__(
        self,
        number: int,
        validate: Callable[[list[Reply]], bool] | None = None,
        answers: Answers = 0,
        *,
        reads: bool = False,
        in_order: bool = False,
    ) -> None:
        self.number = number
        self.validate = validate
        self.answers = answers
        self.reads = reads
        self.in_order = in_order


@lru_cache(maxsize=64)
def batch_of(ops: OpGroup) -> ReplyBatch:
    """Return the replies due for a group of operations: the same object each time."""
    return ReplyBatch(ops.number, ops.accepts, ops.values, reads=ops.reads)


class EchoChecked:
    """The replies due on a marked connection: those of ``pending``, and ``answer`` behind them."""

    __slots__ = ("answer", "number", "pending")

    reply_types: ClassVar[frozenset[type]] = frozenset()

    def __init__(self, number: int, pending: "PendingReply", answer: bytes) -> None:
        self.number = number
        self.pending = pending
        self.answer = answer

    @property
    def reads(self) -> bool:
        return self.pending[3].reads

    @property
    def in_order(self) -> bool:
        return self.pending[3].in_order


class ReplySink(Protocol):
    """The receiver of a reply: a future, or an object that wakes no task. It must not raise."""

    def done(self) -> bool: ...

    def set_result(self, reply: Any, /) -> None: ...

    def set_exception(self, error: Any, /) -> None: ...


# A caller's place in the queue of replies: the future that it awaits, its deadline, the bytes that
# are sent for it, the replies that are due, and the function that is called instead of the future
# if no reply comes, or an error reply to one command. It is a plain tuple, because each call makes
# one.
Lost = Callable[["PendingReply", Exception], None]
PendingReply = tuple[ReplySink, float, bytes, Op | ReplyBatch | EchoChecked, Lost]


def marked(pending: PendingReply) -> PendingReply:
    """Return ``pending`` with an ECHO of a fresh number behind its commands."""
    future, deadline, payload, op, lost = pending
    echo, answer = mark()
    number = op.number if isinstance(op, ReplyBatch) else 1
    return future, deadline, payload + echo, EchoChecked(number + 1, pending, answer), lost


def plain_reply(pending: PendingReply) -> PendingReply:
    """Return ``pending`` as its caller made it, without a mark."""
    op = pending[3]
    return op.pending if isinstance(op, EchoChecked) else pending


def in_place_of(pending: PendingReply, plain: PendingReply) -> PendingReply:
    """Return ``plain`` as ``pending`` was queued: with its mark, if it had one."""
    op = pending[3]
    if not isinstance(op, EchoChecked):
        return plain
    sink, deadline, _, _, lost = plain
    return sink, deadline, pending[2], EchoChecked(op.number, plain, op.answer), lost


def answers_to(pending: PendingReply | None) -> Answers:
    """Return what the replies to ``pending`` can hold, which bounds their length."""
    if pending is None:
        return 0
    op = plain_reply(pending)[3]
    if isinstance(op, ReplyBatch):
        return op.answers
    return op.values if isinstance(op, Op) else 0


def lose(pending: PendingReply, error: Exception) -> None:
    """Call the function of ``pending`` for a lost reply, unless its future is done already."""
    if not pending[0].done():
        pending[4](plain_reply(pending), error)


def ignore(_: PendingReply, __: Exception) -> None:
    """Do nothing: the same reply is awaited on another connection as well."""


def tell_sink(pending: PendingReply, error: Exception) -> None:
    """End the future of ``pending`` with the error: no reply will come."""
    pending[0].set_exception(error)
