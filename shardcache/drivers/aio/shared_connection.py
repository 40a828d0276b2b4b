"""One connection of the asyncio client for many callers.

It is opened when needed, replaced when lost, and bounded.
"""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from shardcache.drivers.aio.replaced import Replaced
from shardcache.drivers.shard_health import may_retry
from shardcache.errors import ClientClosed, ShardError, ShardOut
from shardcache.flows.own_pause import held_up
from shardcache.policy.breaker import State
from shardcache.resp import ErrorReply, Op
from shardcache.wire.aio.connection import AsyncConnection
from shardcache.wire.aio.pending_reply import Lost, PendingReply, ReplyBatch, ReplySink
from shardcache.wire.aio.send_queue import SendQueue

if TYPE_CHECKING:
    from shardcache.drivers.aio.shard import AsyncShard

__all__ = ("SharedConnection",)


class SharedConnection:
    """A connection that is opened when first needed, and again when it was lost.

    What is in flight on it is bounded.

    A caller awaits one future, whatever happens behind it. Its `PendingReply` waits for a
    connection or for room, and is sent. It is sent again over a fresh connection if the one in use
    had simply died and the commands allow it. It ends with replies or with the named error.

    Replies come in order, so a request that is lost holds up all behind it. A connection that
    ``stands_still`` is therefore replaced, if another one can be opened meanwhile: a server that is
    only slow does not answer the handshake either. Reads that wait are sent again over the new one.
    All else keeps its place on the old one (`Replaced`), for it may still be carried out.

    ``steady``: it is never replaced while it lives.
    """

    __slots__ = (
        "_connecting",
        "_future",
        "_lost",
        "_max_bytes",
        "_max_calls",
        "_next_spare",
        "_resend",
        "_shard",
        "_steady",
        "connection",
        "replaced",
        "send_queue",
    )

    def __init__(
        self, shard: "AsyncShard", max_calls: int, max_bytes: int, *, steady: bool = False
    ) -> None:
        self._shard = shard
        self._steady = steady
        self._next_spare = 0.0  # when a successor to a live connection may be opened
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._connecting: asyncio.Task[None] | None = None
        # What the connection that is just ending leaves to its successor.
        self._resend: list[PendingReply] = []
        self._future = shard.loop.create_future
        self._lost = (self.fail, self.retry)
        self.connection: AsyncConnection | None = None
        self.replaced = Replaced()
        self.send_queue = SendQueue(shard.loop, self._unsent)

    @overload
    def send(
        self, payload: bytes, deadline: float, op: Op | ReplyBatch, idempotent: bool
    ) -> "asyncio.Future[Any]": ...
    @overload
    def send(
        self,
        payload: bytes,
        deadline: float,
        op: Op | ReplyBatch,
        idempotent: bool,
        sink: ReplySink,
    ) -> ReplySink: ...
    def send(
        self,
        payload: bytes,
        deadline: float,
        op: Op | ReplyBatch,
        idempotent: bool,
        sink: ReplySink | None = None,
    ) -> "asyncio.Future[Any] | ReplySink":
        """Send commands as soon as there is a connection with room; return a future, or ``sink``.

        It gets the reply to an `Op`, or what a `ReplyBatch` says. It ends with `ShardError` or
        `ClientClosed` by the deadline; the first kind has been told to the breaker by then.

        sink: what gets the reply (None: a new future).
        """
        if sink is None:
            sink = self._future()
        pending = (sink, deadline, payload, op, self._lost[idempotent])
        connection = self.connection
        if (
            connection is not None
            and connection.ended is None
            and not self.send_queue.waiting
            and connection.bytes_owed < self._max_bytes
            and len(connection.queue) < self._max_calls
        ):
            connection.put(pending)
        elif self._shard.closed:
            sink.set_exception(ClientClosed("the client is closed"))
        else:
            self.send_queue.wait(pending)
            self._connect_if_lost()
        return sink

    def send_in_order(
        self, payload: bytes, deadline: float, op: ReplyBatch, idempotent: bool, sink: ReplySink
    ) -> None:
        """Send commands as `send` does, behind those that were sent in order before.

        Raises `ShardOut` where too many of those are unanswered.
        """
        connection = self.replaced.in_order if self.replaced.connections else None
        if connection is None:
            self.send(payload, deadline, op, idempotent, sink)
        elif len(connection.queue) < self._max_calls and connection.bytes_owed < self._max_bytes:
            connection.put(
                (sink, deadline, payload, op, partial(self._stranded, self._lost[idempotent]))
            )
        else:
            raise ShardOut(
                self._shard.name, f"has {len(connection.queue)} requests still to answer"
            )

    def fail(
        self,
        pending: PendingReply,
        error: Exception,
        *,
        dialled: bool = False,
        stranded: bool = False,
    ) -> None:
        """End a call that gets no reply, or an error reply; tell the breaker.

        ``pending``: the call.
        ``error``: what happened, or the error reply.
        ``dialled``, ``stranded``: as in `ShardState.record_failure`.
        """
        # Name the error. Only a failure of the connection or the server counts for the breaker.
        shard = self._shard
        if isinstance(error, ErrorReply):
            error = shard.refusal(error)
        elif shard.closed and not isinstance(error, ClientClosed):
            closed = ClientClosed("the client was closed")
            closed.__cause__ = error
            error = closed
        elif isinstance(error, (OSError, ShardError)):
            began = pending[1] - shard.timeout
            error = shard.record_failure(
                error,
                dialled=dialled,
                began=began,
                deadline=pending[1],
                stranded=stranded,
                period=0,  # a call on trial gives back its place itself
                guessed=True,
            )
        # The caller's future raises it.
        pending[0].set_exception(error)

    def retry(self, pending: PendingReply, error: Exception) -> None:
        """Do as `fail` does, but if the connection had simply died, send again over the next one.

        It is for commands that may be sent twice.
        """
        connection = self.connection
        if self._shard.closed or connection is None or not connection.used or not may_retry(error):
            self.fail(pending, error)
            return
        self._send_again(pending)

    def _send_again(self, pending: PendingReply) -> None:
        """Send over the next connection what has been lost, if that is lost too for good."""
        self._shard.tally.retries += 1
        future, deadline, payload, op, _ = pending
        self._resend.append((future, deadline, payload, op, self.fail))

    def _left_behind(self, lost: Lost, pending: PendingReply, error: Exception) -> None:
        """End what gets no reply from an address that the shard has left."""
        if lost == self.retry and may_retry(error) and not self._shard.closed:
            self._send_again(pending)
        else:
            lost(pending, error)

    def _stranded(self, lost: Lost, pending: PendingReply, error: Exception) -> None:
        """End what gets no reply on a connection that has been replaced."""
        shard = self._shard
        if isinstance(error, TimeoutError) and shard.answers_later_than(pending[1] - shard.timeout):
            self.fail(pending, error, stranded=True)
        else:
            lost(pending, error)

    def _sent_again(
        self, answers: int, lost: Lost, pending: PendingReply, error: Exception
    ) -> None:
        """End what has been sent again and gets no reply.

        answers: how many calls the shard had answered when it was sent again.
        """
        if isinstance(error, TimeoutError) and self._shard.answers > answers:
            self.fail(pending, error, stranded=True)
        else:
            lost(pending, error)

    def _once_more(self, pending: PendingReply) -> PendingReply:
        """Return what is to be sent again.

        It stands behind older ones, so that it is answered last says little about the shard.
        """
        sink, deadline, payload, op, lost = pending
        return sink, deadline, payload, op, partial(self._sent_again, self._shard.answers, lost)

    def _unsent(self, pending: PendingReply, error: Exception) -> None:
        self.fail(pending, error, dialled=True)

    def on_room(self, answers: int) -> None:
        """Send what waits, as far as there is room now; tell the breaker of answers.

        answers: how many single commands were answered.
        """
        if answers:
            self._shard.served(answers)
        if self.send_queue.waiting:
            self.send_waiting()
        if self.replaced:
            self.replaced.end_unneeded()
        if not self._shard.in_service:
            self.retire()

    def retire(self) -> None:
        """Close the connection as soon as nobody waits for it; a later call opens another."""
        old = self.connection
        if old is not None and old.ended is None and not self.send_queue.waiting:
            self.connection = None
            self.replaced.connections.append(old)
            self.replaced.end_unneeded()

    def send_waiting(self) -> None:
        """Send what waits, as far as there is room."""
        connection = self.connection
        while (
            connection is not None
            and connection.ended is None
            and connection.bytes_owed < self._max_bytes
            and len(connection.queue) < self._max_calls
            and (pending := self.send_queue.next()) is not None
        ):
            connection.put(pending)

    @property
    def connecting(self) -> bool:
        """Whether a connection is being opened."""
        return self._connecting is not None

    def end(self, error: Exception) -> None:
        """End the connection, what waits for it, and the attempt to open it; wait for nothing."""
        self.send_queue.fail_all(error)
        if self._connecting is not None:
            self._connecting.cancel()
        self.replaced.end(error)
        if self.connection is not None:
            self.connection.end(error)

    async def close(self, error: Exception) -> None:
        """End the connection, what waits for it, and the attempt to open it."""
        connecting, connections = self._connecting, list(self.connections)
        self.end(error)
        if connecting is not None:
            await asyncio.wait([connecting])
        for connection in connections:
            await connection.wait_closed()

    @property
    def connections(self) -> Iterator[AsyncConnection]:
        """The connection in use, and those that it replaced."""
        if self.connection is not None:
            yield self.connection
        yield from self.replaced

    def _connect_if_lost(self) -> None:
        if (
            self.connection is None or self.connection.ended is not None
        ) and self._connecting is None:
            self._connecting = self._shard.loop.create_task(
                self._connect(), name=f"connect to {self._shard.name}"
            )

    def move(self) -> None:
        """Send nothing more to the address that the shard had.

        Reads that wait are sent again, to the new one. All else keeps its place on the old
        connection, which is closed when it owes nothing any more.
        """
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            self._shard.cancel(connecting)
        self._next_spare = 0.0
        old, self.connection = self.connection, None
        if old is not None and old.ended is None:
            again = old.hand_over(self._left_behind)
            self._shard.tally.retries += len(again)
            self.send_queue.put_back(again)
        self.replaced.leave(old)
        if self.send_queue.waiting:
            self._connect_if_lost()

    async def _connect(self) -> None:
        shard = self._shard
        deadline = shard.clock() + shard.timeout
        generation = shard.generation
        try:
            connection = await shard.dial(deadline, shard.timeout, self.on_end, self.on_room)
        # Whatever the error is (of a credential provider, say), the callers get it.
        except Exception as error:  # noqa: BLE001
            if shard.generation != generation:  # another attempt has taken the place of this one
                return
            self._connecting = None
            self._next_spare = shard.clock() + shard.timeout
            if isinstance(error, TimeoutError) and held_up(shard.clock(), deadline):
                # This process stood still meanwhile. Calls that came since have all their time.
                self.send_queue.expire()
                if self.send_queue.waiting:
                    self._connect_if_lost()
            elif self.connection is None or self.connection.ended is not None:
                self.send_queue.fail_all(error)
        except BaseException:
            if shard.generation == generation:
                self._connecting = None
            raise
        else:
            if shard.generation != generation:
                connection.end(ConnectionError("the shard has moved to another address"))
                return
            self._connecting = None
            self.adopt(connection)

    def _stalled(self, connection: AsyncConnection) -> None:
        """Open a successor to a connection that stands still, one at a time.

        While the shard is out, its prober does this.
        """
        shard = self._shard
        if (
            connection is self.connection
            and self._connecting is None
            and not self.replaced.full
            and shard.breaker.state is not State.OPEN
            and shard.clock() >= self._next_spare
        ):
            self._connecting = shard.loop.create_task(
                self._connect(), name=f"connect to {shard.name} once more"
            )

    def adopt(self, connection: AsyncConnection) -> None:
        """Take a new connection into use, unless there is one that does not stand still.

        What such a one owes will come.
        """
        old = self.connection
        if (
            old is not None
            and old.ended is None
            and (not old.stands_still or self._steady or self.replaced.full)
        ):
            # A server that stops now and then for all its clients is not to be dialled each time.
            self._next_spare = self._shard.clock() + self._shard.timeout
            connection.end(ConnectionError("there is a connection already"))
            return
        self._shard.tally.connects += 1
        # The handshake is not an answer to a call.
        connection.latest = 0.0 if old is None else old.latest
        if not self._steady:
            connection.watch(self._stalled)
        self.connection = connection
        if old is not None and old.ended is None:
            self._replace(old)
        self.send_waiting()

    def _replace(self, old: AsyncConnection) -> None:
        """Send the reads of a connection that stands still again; leave all else with it."""
        again = old.hand_over(self._stranded)
        self._shard.tally.retries += len(again)
        self.replaced.connections.append(old)
        behind = self.replaced.in_order
        if behind is not None:
            for pending in self.send_queue.take(lambda pending: pending[3].in_order):
                behind.put((*pending[:4], partial(self._stranded, pending[4])))
        self.send_queue.put_back(map(self._once_more, again))
        self.replaced.end_unneeded()

    def on_end(self, connection: AsyncConnection, _: Exception) -> None:
        """Open a successor to a connection that ended, if any calls wait for it."""
        if not self.replaced.discard(connection) and connection is not self.connection:
            return
        resend, self._resend = self._resend, []
        self.send_queue.put_back(resend)
        if self.send_queue.waiting and not self._shard.closed:
            self._connect_if_lost()
            self.send_waiting()
