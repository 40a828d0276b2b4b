"""One asyncio connection that carries every task's commands: automatic pipelining.

Theory of operation
-------------------
Whatever is sent in one turn of the event loop is written in one go at the end of that turn, and
replies resolve slots in the order of sending. A `Slot` stands for one caller's commands and stays
in the queue until as many replies have come as it is owed, whether anybody still waits for them
or not: a cancelled or timed-out caller leaves its slot behind to be drained, so that nobody
else's reply shifts (G1; redis-py #2624 is the failure to learn from).

All calls on a link have the same time to live, so the oldest slot is the first to be overdue, and
one timer for the head of the queue serves them all: no timer per call. A link whose head is
overdue for a whole further deadline is given up: its server hangs, and the prober will
open another when it is back.

Anything odd in the stream (a protocol error, a reply that nobody is owed, the end of the
connection) ends the link and every slot on it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from copy import copy
from typing import Any

import hiredis

from shardcache.commands import ErrorReply, Reply
from shardcache.errors import OutOfStep
from shardcache.wire.link import mark, unmark

__all__ = ("AsyncLink", "Slot")

_NOT_YET: Any = object()
_Push: Any = hiredis.PushNotification


class Slot:
    """A caller's place in the queue of replies: ``future`` gets the list of them, or one alone."""

    __slots__ = ("answer", "deadline", "future", "owed", "replies", "size")

    def __init__(self, future: "asyncio.Future[Any]", owed: int, deadline: float, size: int, answer: bytes) -> None:
        self.future = future
        self.owed = owed  # replies still to come
        self.deadline = deadline
        self.size = size  # bytes sent for it
        self.answer = answer  # to the mark behind its commands, on a marked link
        self.replies: list[Reply] | None = None if owed == 1 else []


class AsyncLink(asyncio.Protocol):
    """One connection to ``shard``. ``on_end`` hears why it ended, ``on_room`` when it has drained enough."""

    __slots__ = (
        "_closed",
        "_due",
        "_ended",
        "_flushing",
        "_gets",
        "_loop",
        "_on_end",
        "_on_room",
        "_out",
        "_reader",
        "_slots",
        "_timer",
        "_transport",
        "bytes_owed",
        "marked",
        "shard",
        "timeout",
        "used",
    )

    def __init__(
        self,
        shard: str,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        on_end: Callable[["AsyncLink", BaseException], None],
        on_room: Callable[[], None],
    ) -> None:
        self.shard = shard
        self.timeout = timeout
        self.bytes_owed = 0
        self.marked = False
        self.used = False  # whether it has ever answered: a used link may have died of old age
        self._loop = loop
        self._on_end = on_end
        self._on_room = on_room
        self._reader = hiredis.Reader(replyError=ErrorReply, notEnoughData=_NOT_YET)
        self._gets = self._reader.gets
        self._slots: deque[Slot] = deque()
        self._out: list[bytes] = []
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._transport: asyncio.Transport | None = None
        self._ended: BaseException | None = None
        self._closed: asyncio.Future[None] = loop.create_future()

    def __len__(self) -> int:
        """How many callers are owed replies."""
        return len(self._slots)

    @property
    def alive(self) -> bool:
        return self._ended is None

    def send(self, payload: bytes, owed: int, deadline: float) -> "asyncio.Future[Any]":
        """Queue packed commands; return a future of their reply, or of the list of them if ``owed`` is not 1.

        The future ends with OSError (TimeoutError among them) or `OutOfStep` where there is no reply.
        Cancelling it is safe at any time.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._ended is not None:
            future.set_exception(copy(self._ended))
            return future
        answer = b""
        if self.marked:
            echo, answer = mark()
            payload += echo
            owed += 1
        size = len(payload)
        self.bytes_owed += size
        self._slots.append(Slot(future, owed, deadline, size, answer))
        self._out.append(payload)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        if self._timer is None:
            self._wake_at(deadline)
        elif deadline < self._due:  # it waited for its turn longer than those before it
            self._timer.cancel()
            self._wake_at(deadline)
        return future

    def end(self, error: BaseException) -> None:
        """Close the connection and end every slot with ``error``."""
        if self._ended is not None:
            return
        self._ended = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        self._out.clear()
        self.bytes_owed = 0
        slots, self._slots = self._slots, deque()
        for slot in slots:
            if not slot.future.done():
                slot.future.set_exception(copy(error))  # each gets its own, for a raise adds to the traceback
        self._on_end(self, error)

    async def wait_closed(self) -> None:
        """Wait until the transport has let go of its socket."""
        if self._transport is not None:
            await self._closed

    def _flush(self) -> None:
        self._flushing = False
        if self._ended is None and self._transport is not None:
            out = self._out
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    def _wake_at(self, due: float) -> None:
        self._due = due
        self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        """Time out the slots whose deadline has passed, and look again when the next one may be due."""
        self._timer = None
        now = self._loop.time()
        slots = self._slots
        if slots and slots[0].deadline + self.timeout <= now:
            self.end(TimeoutError("no reply before the deadline"))
            return
        due = None
        for slot in slots:
            if slot.deadline > now:
                due = slot.deadline if due is None else min(due, slot.deadline)
            elif not slot.future.done():
                slot.future.set_exception(TimeoutError("no reply before the deadline"))
        if slots:
            given_up = slots[0].deadline + self.timeout
            # A millisecond of grace, so that a stalled link with thousands waiting is looked at in batches.
            due = given_up if due is None else min(max(due, now + 0.001), given_up)
            self._wake_at(due)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        if self._ended is not None:
            self._transport.abort()  # type: ignore[union-attr]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        self.end(exc or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        if self._ended is not None:
            return
        slots = self._slots
        try:
            self._reader.feed(data)
            while True:
                reply = self._gets()
                if reply is _NOT_YET:
                    break
                if reply.__class__ is _Push:
                    continue
                if not slots:
                    raise OutOfStep(self.shard, "more came back than was asked for")
                slot = slots[0]
                slot.owed -= 1
                if slot.replies is not None:
                    slot.replies.append(reply)
                    if slot.owed:
                        continue
                    reply = slot.replies
                    if slot.answer:
                        unmark(self.shard, reply, slot.answer)
                        reply = reply if len(reply) > 1 else reply[0]
                slots.popleft()
                self.bytes_owed -= slot.size
                if not slot.future.done():
                    slot.future.set_result(reply)
            if not slots and self._reader.has_data():
                raise OutOfStep(self.shard, "more came back than was asked for")
        except OutOfStep as error:
            self.end(error)
        except Exception as error:  # noqa: BLE001 - hiredis lets TypeError and others through for some broken input
            broken = OutOfStep(self.shard, f"the reply breaks the protocol: {error}")
            broken.__cause__ = error
            self.end(broken)
        else:
            self.used = True
            self._on_room()
