"""One asyncio connection that carries every task's commands: automatic pipelining.

Theory of operation
-------------------
Whatever is sent in one turn of the event loop is written in one go at the end of that turn, and
replies resolve callers in the order of sending. A `PendingReply` stands for one caller's commands.
It stays in the queue until as many replies have come as it is owed, whether anybody still waits for
them or not: a cancelled or timed-out caller leaves its place in the queue behind to be drained, so
that nobody else's reply shifts (G1; redis-py #2624 is the failure to learn from).

A reply is checked here, before any caller sees it or the one behind it: it must be of a kind that
its command can have, or, for several commands, of a shape that fits them.

One timer serves the deadlines of all calls (`DeadlineTimer`). A connection whose oldest call is
overdue for a whole further deadline is given up: its server hangs, and the prober will open another
one when it is back.

A connection that owes replies and is silent *stands still* (`StallWatch`). Its user is told.

Anything odd in the stream (a protocol error, a reply that nobody is owed, one that does not fit,
the end of the connection) ends the connection and every call on it.
"""

import asyncio
import math
import os
from asyncio.trsock import TransportSocket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from functools import partial
from typing import Any

import hiredis

from shardcache.errors import OutOfStep, ReplyTooLarge
from shardcache.flows.steps import ServerRun
from shardcache.resp import ErrorReply, Op, Reply
from shardcache.wire.aio.deadline_timer import DeadlineTimer
from shardcache.wire.aio.pending_reply import (
    EchoChecked,
    Lost,
    PendingReply,
    ReplyBatch,
    answers_to,
    ignore,
    in_place_of,
    lose,
    marked,
    plain_reply,
    tell_sink,
)
from shardcache.wire.aio.stall_watch import StallWatch
from shardcache.wire.reply_parser import NOT_YET, SLACK, ReplyParser
from shardcache.wire.sync.connection import MAX_VALUE, unmark

__all__ = ("AsyncConnection",)

_Push: Any = hiredis.PushNotification


class AsyncConnection(asyncio.Protocol):
    """One connection to a server.

    ``shard``: the name of the shard.
    ``timeout``: seconds that a caller waits for a reply.
    ``on_end``: is told why the connection ended.
    ``on_room``: is told how many single commands have just been answered, and that there may be
        room for more.
    ``max_value``: bytes of the longest value that a reply may hold.
    """

    __slots__ = (
        "_closed",
        "_deadlines",
        "_flushing",
        "_gets",
        "_got",
        "_loop",
        "_on_end",
        "_on_room",
        "_out",
        "_parser",
        "_received",
        "_transport",
        "_watch",
        "born",
        "bytes_owed",
        "ended",
        "heard",
        "last_words",
        "latest",
        "marked",
        "queue",
        "run_id",
        "shard",
        "timeout",
        "used",
    )

    def __init__(
        self,
        shard: str,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        on_end: Callable[["AsyncConnection", Exception], None],
        on_room: Callable[[int], None],
        max_value: int = MAX_VALUE,
    ) -> None:
        self.shard = shard
        self.timeout = timeout
        self.queue: deque[PendingReply] = deque()  # the callers that are owed replies
        self.bytes_owed = 0
        self.ended: Exception | None = None
        self.marked = False
        # Which life of the server this is. It began not later than ``born``.
        self.run_id: bytes | None = None
        self.born = 0.0
        self.heard = False  # whether anything has come since the last look of the `StallWatch`
        self.latest = 0.0  # the deadline of the caller that was answered last
        self.last_words: list[Reply] = []  # the whole replies that had come when it ended
        self.used = False  # whether it has ever answered: a used one may have died of old age
        self._loop = loop
        self._on_end = on_end
        self._on_room = on_room
        self._parser = ReplyParser(shard, max_value)
        self._gets = self._parser.gets
        self._received = 0  # bytes, since a caller was last served
        self._got: list[Reply] = []  # for the caller at the head, if it is owed several
        self._out: list[bytes] = []
        self._flushing = False
        self._deadlines = DeadlineTimer(self, loop)
        self._watch: StallWatch | None = None
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] = loop.create_future()

    def __len__(self) -> int:
        """How many callers are owed replies."""
        return len(self.queue)

    def set_server_run(self, run: ServerRun | None) -> None:
        """Note who is at the other end."""
        if run is not None:
            self.run_id, self.born = run.id, self._loop.time() - run.age

    @property
    def run(self) -> ServerRun | None:
        """Which life of the server is at the other end, and for how long by now."""
        return (
            None if self.run_id is None else ServerRun(self.run_id, self._loop.time() - self.born)
        )

    @property
    def alive(self) -> bool:
        return self.ended is None

    @property
    def stands_still(self) -> bool:
        """Whether it owes replies and has been silent for an eighth of the timeout at least."""
        watch = self._watch
        return watch is not None and watch.stalled and not self.heard and self.ended is None

    @property
    def timed(self) -> bool:
        """Whether a timer runs for what is owed."""
        return self._deadlines.due < math.inf

    def first(self) -> PendingReply | None:
        """Return what is owed a reply first."""
        return self.queue[0] if self.queue else None

    def watch(self, on_stall: Callable[["AsyncConnection"], None]) -> None:
        """Tell ``on_stall`` when the connection stands still, repeatedly as long as it does."""
        self._watch = StallWatch(self, self._loop, partial(on_stall, self))
        if self.timed:
            self._watch.begin()

    def hand_over(
        self, stranded: Callable[[Lost, PendingReply, Exception], None]
    ) -> list[PendingReply]:
        """Return the reads that a caller waits for, to be sent over another connection as well.

        The first reply is taken. Nothing is told any more of what goes wrong with them here.

        stranded: is told of what goes wrong with the others, and which function would have been.
        """
        taken: list[PendingReply] = []
        waiting: deque[PendingReply] = deque()
        for pending in self.queue:
            sink, deadline, payload, op, lost = plain = plain_reply(pending)
            if op.reads and not sink.done():
                taken.append(plain)
                lost = ignore
            else:
                lost = partial(stranded, lost)
            waiting.append(in_place_of(pending, (sink, deadline, payload, op, lost)))
        self.queue = waiting
        return taken

    def send(
        self,
        payload: bytes,
        owed: int,
        deadline: float,
        validate: Callable[[list[Reply]], bool] | None = None,
    ) -> "asyncio.Future[Any]":
        """Queue packed commands; return a future of their replies.

        It ends with OSError (TimeoutError among them) or `OutOfStep` where there is no reply.
        Cancelling it is safe at any time.

        owed: how many commands there are. The result is a list of replies, or the reply to one.
        validate: as in `ReplyBatch`.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.ended is None:
            self.put((future, deadline, payload, ReplyBatch(owed, validate), tell_sink))
        else:
            future.set_exception(copy(self.ended))
        return future

    def put(self, pending: PendingReply) -> None:
        """Queue the commands of ``pending``, as `send` does. The connection must be alive."""
        if self.marked:
            pending = marked(pending)
        _, deadline, payload, _, _ = pending
        self.bytes_owed += len(payload)
        self.queue.append(pending)
        self._out.append(payload)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        if deadline < self._deadlines.due:
            self.wake_at(deadline)

    def end(self, error: Exception) -> None:
        """Close the connection and end every call on it with ``error``."""
        if self.ended is not None:
            return
        self.ended = error
        self._deadlines.clear()
        if self._watch is not None:
            self._watch.end()
            self._watch = None
        if self._transport is not None:
            self._transport.abort()
        self._out.clear()
        self.last_words = [*self.last_words, *self._got]
        self._got.clear()
        self.bytes_owed = 0
        queue, self.queue = self.queue, deque()
        for pending in queue:
            lose(pending, copy(error))  # each gets its own, for a raise adds to the traceback
        self._on_end(self, error)

    async def wait_closed(self) -> None:
        """Wait until the transport has let go of its socket."""
        if self._transport is not None:
            await self._closed

    def _flush(self) -> None:
        self._flushing = False
        out = self._out
        if out and self._transport is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    def wake_at(self, due: float) -> None:
        """Look at the deadlines at this time; look from now on whether it stands still."""
        self._deadlines.set(due)
        if self._watch is not None:
            self._watch.begin()

    def room(self) -> None:
        """Say that there may be room for more calls."""
        self._on_room(0)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        if self.ended is not None:
            self._transport.abort()  # type: ignore[union-attr]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        if isinstance(exc, ConnectionError) and self.ended is None and not self.used:
            self._hear_last_words()
        self.end(exc or ConnectionError("the server closed the connection"))

    def _hear_last_words(self) -> None:
        """Take what lies there although writing has failed.

        A server that takes no more clients says so before it hangs up.
        """
        transport = self._transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        # The transport of asyncio closes its socket after this. That of uvloop may have done so,
        # and hides it.
        if isinstance(sock, TransportSocket) and transport.get_extra_info("sslcontext") is None:
            with suppress(OSError, hiredis.ProtocolError):
                self._parser.feed(os.read(sock.fileno(), SLACK))
                reply = self._gets()
                if isinstance(reply, ErrorReply):
                    self.last_words.append(reply)

    def data_received(self, data: bytes) -> None:
        if self.ended is not None:
            return
        queue = self.queue
        gets = self._gets
        parser = self._parser
        waiting = len(queue)
        size = answers = 0
        latest = self.latest
        self.heard = True
        self._received += len(data)
        try:
            if self._received > SLACK:
                self._judge_length()
            parser.feed(data)
            # Each reply goes to the caller at the head of the queue.
            while queue:
                reply = gets()
                if reply is NOT_YET:
                    if parser.held and self._more():
                        continue
                    break
                kind = reply.__class__
                pending = queue[0]
                future, latest, payload, op, lost = pending
                # Several replies are due, or it is of a type that has to be looked at.
                if kind not in op.reply_types:
                    answers += 0 if kind is _Push else self._collect(pending, reply)
                    continue
                queue.popleft()
                size += len(payload)
                if future.done():
                    continue
                if kind is ErrorReply:
                    lost(pending, reply)
                else:
                    future.set_result(reply)
                    answers += 1
            if not queue and (parser.has_data() or parser.held):
                self._refuse_leftovers()
        # For some broken input hiredis lets TypeError and others through.
        except Exception as error:  # noqa: BLE001
            self.end(self._out_of_step(error))
        else:
            self.bytes_owed -= size
            self._note_served(waiting - len(queue), latest, answers)

    def _note_served(self, callers: int, latest: float, answers: int) -> None:
        """Note that a piece of the stream was in order.

        callers: how many have got what they were owed.
        latest: the deadline of the last of them.
        answers: how many single commands were answered.
        """
        self.used = True
        if callers:
            self._received = 0
            self.latest = latest
        if answers and not self._flushing:
            # Behind the callers that wake up now: what they ask next goes out in this turn of the
            # loop, not in the next one.
            self._flushing = True
            self._loop.call_soon(self._flush)
        self._on_room(answers)

    def _refuse_leftovers(self) -> None:
        """Raise `OutOfStep` for what was not asked for. Push messages may come at any time."""
        parser = self._parser
        # As in `Connection.settled`, ask whether there is anything before taking it.
        while parser.has_data() or parser.held:
            reply = self._gets()
            if reply is NOT_YET and parser.held and self._more():
                continue
            if reply.__class__ is not _Push:
                self.last_words.append(reply)
                raise OutOfStep(self.shard, "more came back than was asked for")

    def _out_of_step(self, error: Exception) -> OutOfStep:
        """Return the error for a stream that cannot be gone on with."""
        if isinstance(error, OutOfStep):
            return error
        broken = OutOfStep(self.shard, f"the reply breaks the protocol: {error}")
        broken.__cause__ = error
        return broken

    def _judge_length(self) -> None:
        """Raise `ReplyTooLarge` if more has come than the replies to the head can have."""
        self._parser.answers = answers_to(self.first())
        if self._received > self._parser.most():
            raise ReplyTooLarge(
                self.shard, f"{self._received} bytes have come, more than can be in the answer"
            )

    def _more(self) -> bool:
        """Let the parser have more of what it holds back, as far as the head can be owed that."""
        self._parser.answers = answers_to(self.first())
        return self._parser.more()

    def _collect(self, pending: PendingReply, reply: Reply) -> int:
        """Take one of several replies to the head, or one to be looked at.

        Return how many single commands that answered.
        """
        sink, _, payload, owed, _ = pending
        # A single command whose reply has to be looked at.
        if owed.__class__ is not ReplyBatch and isinstance(owed, Op):
            if not owed.accepts(reply):
                raise self._misfit(owed, reply)
            return self._serve(pending, reply)
        # One of several replies: they are judged together when the last has come.
        got, gets, parser = self._got, self._gets, self._parser
        got.append(reply)
        missing = owed.number - len(got)
        while missing:
            reply = gets()
            if reply is NOT_YET:
                if not (parser.held and self._more()):
                    return 0
            elif reply.__class__ is not _Push:
                got.append(reply)
                missing -= 1
        self._got = []
        if isinstance(owed, EchoChecked):
            unmark(self.shard, got, owed.answer)
            return self._collect_marked(pending, owed.pending, got)
        if owed.validate is not None and not owed.validate(got):
            raise self._unfit()
        self.queue.popleft()
        self.bytes_owed -= len(payload)
        if not sink.done():
            sink.set_result(got[0] if owed.number == 1 else got)
        return 0

    def _collect_marked(self, pending: PendingReply, plain: PendingReply, got: list[Reply]) -> int:
        """Give the replies to a marked head to its caller; return as `_collect` does.

        plain: the head as its caller made it.
        """
        op = plain[3]
        if isinstance(op, ReplyBatch):
            if op.validate is not None and not op.validate(got):
                raise self._unfit()
            self._serve(pending, got[0] if op.number == 1 else got)
            return 0
        [reply] = got
        if isinstance(op, Op) and not op.accepts(reply):
            raise self._misfit(op, reply)
        if reply.__class__ is not ErrorReply:
            return self._serve(pending, reply)
        self.queue.popleft()
        self.bytes_owed -= len(pending[2])
        if not plain[0].done():
            plain[4](plain, reply)
        return 0

    def _serve(self, pending: PendingReply, found: Any) -> int:
        """Give its result to the head; return whether it still waited for that, as 0 or 1."""
        self.queue.popleft()
        self.bytes_owed -= len(pending[2])
        if pending[0].done():
            return 0
        pending[0].set_result(found)
        return 1

    def _unfit(self) -> OutOfStep:
        return OutOfStep(self.shard, "the replies do not fit the commands")

    def _misfit(self, op: Op, reply: Reply) -> OutOfStep:
        return OutOfStep(self.shard, f"{op.name} was answered with {type(reply).__name__}")
