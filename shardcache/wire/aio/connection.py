"""One asyncio connection that carries every task's commands: automatic pipelining.

Theory of operation
-------------------
Whatever is sent in one turn of the event loop is written in one go at the end of that turn, and
replies resolve slots in the order of sending. A `PendingReply` stands for one caller's commands and stays
in the queue until as many replies have come as it is owed, whether anybody still waits for them
or not: a cancelled or timed-out caller leaves its slot behind to be drained, so that nobody
else's reply shifts (G1; redis-py #2624 is the failure to learn from).

A reply is checked here, before anybody sees it or the one behind it: of a kind that its command can
have, or, for several commands, of a shape that fits them.

All calls on a link have the same time to live, so the oldest slot is the first to be overdue, and
one timer for the head of the queue serves them all: no timer per call. A link whose head is
overdue for a whole further deadline is given up: its server hangs, and the prober will
open another when it is back. That time counts from when this process could listen again, if it stood still.

Replies come in order, so one request that is never answered holds up all behind it. A second timer
therefore looks every eighth of a deadline whether the same slot is still at the head and nothing
has come meanwhile; then the link *stands still*, and whoever uses it is told.

Anything odd in the stream (a protocol error, a reply that nobody is owed, one that does not fit, the
end of the connection) ends the link and every slot on it.
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
from shardcache.flows.own_pause import held_up, longer
from shardcache.flows.steps import ServerRun
from shardcache.resp import ErrorReply, Op, Reply
from shardcache.wire.aio.pending_reply import (
    EchoChecked,
    Lost,
    PendingReply,
    ReplyBatch,
    ignore,
    in_place_of,
    lose,
    marked,
    plain_reply,
    tell_sink,
)
from shardcache.wire.reply_parser import NOT_YET, SLACK, Answers, ReplyParser
from shardcache.wire.sync.connection import MAX_VALUE, unmark

__all__ = ("AsyncConnection",)

_Push: Any = hiredis.PushNotification
_BEATS = 8  # looks in one deadline at whether a link stands still


class AsyncConnection(asyncio.Protocol):
    """One connection to ``shard``. ``on_end`` hears why it ended.

    ``on_room`` hears how many single commands have just been answered, and that there may be room for more.
    """

    __slots__ = (
        "_beat",
        "_beat_at",
        "_closed",
        "_due",
        "_flushing",
        "_gets",
        "_got",
        "_head",
        "_heard",
        "_listening",
        "_loop",
        "_on_end",
        "_on_room",
        "_on_stall",
        "_out",
        "_parser",
        "_received",
        "_stalled",
        "_timer",
        "_transport",
        "born",
        "bytes_owed",
        "ended",
        "last_words",
        "latest",
        "marked",
        "run_id",
        "shard",
        "slots",
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
        self.slots: deque[PendingReply] = deque()  # callers who are owed replies
        self.bytes_owed = 0
        self.ended: Exception | None = None
        self.marked = False
        self.run_id: bytes | None = (
            None  # which life of the server this is; it began not later than ``born``
        )
        self.born = 0.0
        self.latest = 0.0  # the deadline of whoever was answered last
        self.last_words: list[Reply] = []  # the whole replies that had come when it ended
        self.used = False  # whether it has ever answered: a used link may have died of old age
        self._loop = loop
        self._on_end = on_end
        self._on_room = on_room
        self._parser = ReplyParser(shard, max_value)
        self._gets = self._parser.gets
        self._received = 0  # bytes, since a caller was last served
        self._got: list[Reply] = []  # of the slot at the head, if it is owed several
        self._out: list[bytes] = []
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf
        self._listening = (
            -math.inf
        )  # since when: when this process was last found to have stood still
        self._on_stall: Callable[[AsyncConnection], None] | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._beat_at = 0.0
        self._head: PendingReply | None = None  # the first slot at the last beat
        self._heard = False  # whether anything has come since then
        self._stalled = False
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] = loop.create_future()

    def __len__(self) -> int:
        """How many callers are owed replies."""
        return len(self.slots)

    def set_server_run(self, run: ServerRun | None) -> None:
        """Note who is at the other end."""
        if run is not None:
            self.run_id, self.born = run.id, self._loop.time() - run.age

    @property
    def run(self) -> ServerRun | None:
        """Who is at the other end, and for how long by now."""
        return (
            None if self.run_id is None else ServerRun(self.run_id, self._loop.time() - self.born)
        )

    @property
    def alive(self) -> bool:
        return self.ended is None

    @property
    def stands_still(self) -> bool:
        """Whether it owes replies and has been silent for an eighth of a deadline at least."""
        return self._stalled and not self._heard and self.ended is None

    def watch(self, on_stall: Callable[["AsyncConnection"], None]) -> None:
        """Tell ``on_stall`` when the link stands still, again and again as long as it does."""
        self._on_stall = on_stall
        if self._due < math.inf:
            self._look_soon()

    def hand_over(
        self, stranded: Callable[[Lost, PendingReply, Exception], None]
    ) -> list[PendingReply]:
        """Return the reads that somebody waits for, to be sent over another link as well: the first reply is taken.

        What goes wrong with them here is told nobody any more; with the others, ``stranded``, and who would have been told.
        """
        taken: list[PendingReply] = []
        kept: deque[PendingReply] = deque()
        for pending in self.slots:
            sink, deadline, payload, op, lost = plain = plain_reply(pending)
            if op.reads and not sink.done():
                taken.append(plain)
                lost = ignore
            else:
                lost = partial(stranded, lost)
            kept.append(in_place_of(pending, (sink, deadline, payload, op, lost)))
        self.slots = kept
        return taken

    def send(
        self,
        payload: bytes,
        owed: int,
        deadline: float,
        validate: Callable[[list[Reply]], bool] | None = None,
    ) -> "asyncio.Future[Any]":
        """Queue packed commands; return a future of their reply, or of the list of them if ``owed`` is not 1. ``fit`` as in `ReplyBatch`.

        The future ends with OSError (TimeoutError among them) or `OutOfStep` where there is no reply.
        Cancelling it is safe at any time.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.ended is None:
            self.put((future, deadline, payload, ReplyBatch(owed, validate), tell_sink))
        else:
            future.set_exception(copy(self.ended))
        return future

    def put(self, pending: PendingReply) -> None:
        """Queue the commands of ``pending``, as `send` does. The link must be alive."""
        if self.marked:
            pending = marked(pending)
        _, deadline, payload, _, _ = pending
        self.bytes_owed += len(payload)
        self.slots.append(pending)
        self._out.append(payload)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        if deadline < self._due:
            self._wake_at(deadline)

    def end(self, error: Exception) -> None:
        """Close the connection and end every slot with ``error``."""
        if self.ended is not None:
            return
        self.ended = error
        self._rest()
        if self._beat is not None:
            self._beat.cancel()
        self._head = None
        if self._transport is not None:
            self._transport.abort()
        self._out.clear()
        self.last_words = [*self.last_words, *self._got]
        self._got.clear()
        self.bytes_owed = 0
        slots, self.slots = self.slots, deque()
        for pending in slots:
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

    def _wake_at(self, due: float) -> None:
        self._rest()
        self._due = due
        self._timer = self._loop.call_at(due, self._tick)
        if self._beat is None and self._on_stall is not None:
            self._look_soon()

    def _rest(self) -> None:
        self._due = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        """The oldest slot may be due: read what has come in meanwhile, then judge.

        The loop runs timers before it reads, if it was held up. So the judgement waits until it has read once; or for a moment
        more, if this timer comes so late that the process must have stood still.
        """
        now, due = self._loop.time(), self._due
        self._rest()
        self._due = -math.inf  # no other timer meanwhile
        if held_up(now, due):
            self._listening = now
        due = now + longer(now, due)
        self._timer = self._loop.call_at(due, self._judge, due)

    def _judge(self, due: float) -> None:
        """Time out the slots whose deadline has passed, and look again when the next one may be due."""
        self._rest()
        now = self._loop.time()
        if held_up(now, due):  # once more, just before this
            self._due = due
            self._tick()
            return
        slots = self.slots
        if slots and (gone := max(slots[0][1], self._listening) + self.timeout) <= now:
            self.end(TimeoutError("no reply before the deadline"))
            return
        due = math.inf
        late = []
        for pending in slots:
            if pending[1] > now:
                due = min(due, pending[1])
            else:
                late.append(pending)
        if slots:
            # A millisecond of grace, so that a stalled link with thousands waiting is looked at in batches.
            self._wake_at(min(max(due, now + 0.001), gone))
        for pending in late:
            lose(pending, TimeoutError("no reply before the deadline"))
        if late:
            self._on_room(0)

    def _look_soon(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
        self._beat_at = self._loop.time() + self.timeout / _BEATS
        self._beat = self._loop.call_at(self._beat_at, self._tick_beat)

    def _tick_beat(self) -> None:
        """Read what has come in meanwhile, then look, as in `_tick`."""
        self._beat = self._loop.call_later(longer(self._loop.time(), self._beat_at), self._look)

    def _look(self) -> None:
        """Find out whether the link stands still. While nobody is owed anything there is nothing to look at."""
        self._beat = None
        head = self.slots[0] if self.slots else None
        self._stalled = head is not None and head is self._head and not self._heard
        self._head = head
        self._heard = False
        if self._due < math.inf:
            self._look_soon()
        if self._stalled and self._on_stall is not None:
            self._on_stall(self)

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
        """Take what lies there although writing has failed: a server that takes nobody in says why before it hangs up."""
        transport = self._transport
        sock = None if transport is None else transport.get_extra_info("socket")
        # The transport of asyncio closes its socket after this; that of uvloop may have done so, and hides it.
        if isinstance(sock, TransportSocket) and transport.get_extra_info("sslcontext") is None:  # type: ignore[union-attr]
            with suppress(OSError, hiredis.ProtocolError):
                self._parser.feed(os.read(sock.fileno(), SLACK))
                reply = self._gets()
                if isinstance(reply, ErrorReply):
                    self.last_words.append(reply)

    def data_received(self, data: bytes) -> None:
        if self.ended is not None:
            return
        slots = self.slots
        gets = self._gets
        parser = self._parser
        waiting = len(slots)
        size = answers = 0
        latest = self.latest
        self._heard = True
        self._received += len(data)
        try:
            if self._received > SLACK:
                self._judge_length()
            parser.feed(data)
            while slots:
                reply = gets()
                if reply is NOT_YET:
                    if parser.held and self._more():
                        continue
                    break
                kind = reply.__class__
                pending = slots[0]
                future, latest, payload, op, lost = pending
                if kind not in op.reply_types:
                    if kind is not _Push:
                        answers += self._collect(pending, reply)
                    continue
                slots.popleft()
                size += len(payload)
                if future.done():
                    continue
                if kind is ErrorReply:
                    lost(pending, reply)
                else:
                    future.set_result(reply)
                    answers += 1
            while not slots and (
                parser.has_data() or parser.held
            ):  # asked first, as in `Link.settled`
                reply = gets()
                if reply is NOT_YET and parser.held and self._more():
                    continue
                if reply.__class__ is not _Push:
                    self.last_words.append(reply)
                    raise OutOfStep(self.shard, "more came back than was asked for")
        except OutOfStep as error:
            self.end(error)
        except Exception as error:  # noqa: BLE001 - hiredis lets TypeError and others through for some broken input
            broken = OutOfStep(self.shard, f"the reply breaks the protocol: {error}")
            broken.__cause__ = error
            self.end(broken)
        else:
            self.used = True
            self.bytes_owed -= size
            if len(slots) < waiting:
                self._received = 0
                self.latest = latest
            if answers and not self._flushing:
                # Behind the callers who wake up now: what they ask next goes out in this turn, not in the next.
                self._flushing = True
                self._loop.call_soon(self._flush)
            self._on_room(answers)

    def _judge_length(self) -> None:
        """Raise `ReplyTooLarge` if more has come than there can be in what the caller at the head is owed."""
        self._parser.answers = self._answers()
        if self._received > self._parser.most():
            raise ReplyTooLarge(
                self.shard, f"{self._received} bytes have come, more than can be in the answer"
            )

    def _more(self) -> bool:
        """Let the parser have more of what it holds back, as far as the caller at the head can be owed that."""
        self._parser.answers = self._answers()
        return self._parser.more()

    def _answers(self) -> Answers:
        """Return what there can be in what is being received."""
        if not self.slots:
            return 0
        op = plain_reply(self.slots[0])[3]
        if isinstance(op, ReplyBatch):
            return op.answers
        return op.values if isinstance(op, Op) else 0

    def _collect(self, pending: PendingReply, reply: Reply) -> int:
        """Take one of several replies to the slot at the head; return how many single commands that answered."""
        owed = pending[3]
        if (
            owed.__class__ is ReplyBatch and owed.number == 1 and owed.validate is None
        ):  # the common case
            self.slots.popleft()
            self.bytes_owed -= len(pending[2])
            if not pending[0].done():
                pending[0].set_result(reply)
            return 0
        if isinstance(owed, Op):  # and of a type that has to be looked at
            if not owed.accepts(reply):
                raise self._misfit(owed, reply)
            self.slots.popleft()
            self.bytes_owed -= len(pending[2])
            if pending[0].done():
                return 0
            pending[0].set_result(reply)
            return 1
        got = self._got
        got.append(reply)
        if len(got) < owed.number:
            return 0
        self._got = []
        if isinstance(owed, EchoChecked):
            unmark(self.shard, got, owed.answer)
        plain = plain_reply(pending)
        future, _, _, op, lost = plain
        if isinstance(op, ReplyBatch) and op.validate is not None and not op.validate(got):
            raise OutOfStep(self.shard, "the replies do not fit the commands")
        found = got[0] if len(got) == 1 else got
        single = isinstance(op, Op)
        if isinstance(op, Op) and not op.accepts(found):
            raise self._misfit(op, found)
        self.slots.popleft()
        self.bytes_owed -= len(pending[2])
        if future.done():
            return 0
        if single and found.__class__ is ErrorReply:
            lost(plain, found)
            return 0
        future.set_result(found)
        return int(single)

    def _misfit(self, op: Op, reply: Reply) -> OutOfStep:
        return OutOfStep(self.shard, f"{op.name} was answered with {type(reply).__name__}")
