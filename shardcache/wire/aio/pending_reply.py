"""A caller's place in the queue of replies of an asyncio connection, and what is owed to it."""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from shardcache.resp import Op, Reply
from shardcache.wire.reply_parser import Answers
from shardcache.wire.sync.connection import mark

__all__ = (
    "EchoChecked",
    "Lost",
    "PendingReply",
    "ReplyBatch",
    "ReplySink",
    "ignore",
    "in_place_of",
    "lose",
    "marked",
    "plain_reply",
    "tell_sink",
)


class ReplyBatch:
    """What is owed for ``number`` commands that go together: a list of replies (one: bare), which ``validate`` accepts.

    ``answers``: what there can be in them. ``reads``: the commands change nothing. ``in_order``: they take effect behind those
    with the same mark that were sent before.
    """

    __slots__ = ("answers", "in_order", "number", "reads", "validate")

    reply_types: ClassVar[frozenset[type]] = (
        frozenset()
    )  # none of them answers alone, unlike the reply to an `Op`

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


class EchoChecked:
    """What is owed on a marked link: the replies of ``pending``, and ``answer`` behind them."""

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
    """What a reply goes to: a future, or what does as much without waking anybody. It must not raise."""

    def done(self) -> bool: ...

    def set_result(self, reply: Any, /) -> None: ...

    def set_exception(self, error: Any, /) -> None: ...


# A caller's place in the queue of replies: the future that it awaits, its deadline, the bytes that are sent
# for it, what is owed for them, and who is told instead of the future when there is no reply, or an error
# reply to one command. A plain tuple, because one is made for every call.
Lost = Callable[["PendingReply", Exception], None]
PendingReply = tuple[ReplySink, float, bytes, Op | ReplyBatch | EchoChecked, Lost]


def marked(pending: PendingReply) -> PendingReply:
    """Return ``pending`` with an ECHO of a fresh number behind its commands."""
    future, deadline, payload, op, lost = pending
    echo, answer = mark()
    number = op.number if isinstance(op, ReplyBatch) else 1
    return future, deadline, payload + echo, EchoChecked(number + 1, pending, answer), lost


def plain_reply(pending: PendingReply) -> PendingReply:
    """Return the slot as its caller made it."""
    op = pending[3]
    return op.pending if isinstance(op, EchoChecked) else pending


def in_place_of(pending: PendingReply, plain: PendingReply) -> PendingReply:
    """Return ``plain`` as ``pending`` was queued: with its mark, if it had one."""
    op = pending[3]
    if not isinstance(op, EchoChecked):
        return plain
    sink, deadline, _, _, lost = plain
    return sink, deadline, pending[2], EchoChecked(op.number, plain, op.answer), lost


def lose(pending: PendingReply, error: Exception) -> None:
    """Tell whoever cares for ``pending``, if anybody waits for it, that no reply will come."""
    if not pending[0].done():
        pending[4](plain_reply(pending), error)


def ignore(_: PendingReply, __: Exception) -> None:
    """Tell nobody: the slot waits elsewhere as well."""


def tell_sink(pending: PendingReply, error: Exception) -> None:
    """Tell whoever waits for ``pending`` that no reply will come."""
    pending[0].set_exception(error)
