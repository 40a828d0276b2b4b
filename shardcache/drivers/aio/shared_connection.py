"""One connection of the asyncio client for many callers: opened when needed, replaced when lost, bounded."""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from shardcache.drivers.aio.replaced import Replaced
from shardcache.drivers.sync.shard import may_retry
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
    """One connection that is opened when first needed, and again when it was lost, with a bound on what is in flight.

    A caller awaits one future, whatever happens behind it: its slot waits for a connection or for
    room, is sent, is sent again over a fresh connection if the one in use had simply died and the commands
    allow it, and ends with replies or with the named error.

    Replies come in order, so a request that is lost holds up everybody behind it. A connection that ``stands_still`` is
    therefore replaced, if another one can be opened while it does so: a server that is only slow does not answer the
    handshake either. Reads that wait are sent again over the new one. All else keeps its place on the old one (`Replaced`),
    for it may still be carried out.
    """

    __slots__ = (
        "_again",
        "_connecting",
        "_future",
        "_lost",
        "_max_bytes",
        "_max_calls",
        "_next_spare",
        "_shard",
        "_steady",
        "connection",
        "replaced",
        "turnstile",
    )

    def __init__(
        self, shard: "AsyncShard", max_calls: int, max_bytes: int, *, steady: bool = False
    ) -> None:
        self._shard = shard
        self._steady = steady  # its connection is never replaced while it lives
        self._next_spare = 0.0  # when a successor to a live connection may be opened
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._connecting: asyncio.Task[None] | None = None
        self._again: list[
            PendingReply
        ] = []  # what the link that is just ending leaves to its successor
        self._future = shard.loop.create_future
        self._lost = (self.fail, self.retry)
        self.connection: AsyncConnection | None = None
        self.replaced = Replaced()
        self.turnstile = SendQueue(shard.loop, self._unsent)

    def send(
        self, payload: bytes, deadline: float, op: Op | ReplyBatch, idempotent: bool
    ) -> "asyncio.Future[Any]":
        """Send commands as soon as there is a link with room; return a future of the reply, or of those to `ReplyBatch`.

        It ends with `ShardError` or `ClientClosed` by the deadline, of which only the first kind is counted.
        """
        future: asyncio.Future[Any] = self._future()
        self.post(future, payload, deadline, op, idempotent)
        return future

    def post(
        self,
        sink: ReplySink,
        payload: bytes,
        deadline: float,
        op: Op | ReplyBatch,
        idempotent: bool,
    ) -> None:
        """Send commands as `send` does; what comes of it goes to ``sink``."""
        pending = (sink, deadline, payload, op, self._lost[idempotent])
        connection = self.connection
        if (
            connection is not None
            and connection.ended is None
            and not self.turnstile.waiting
            and connection.bytes_owed < self._max_bytes
            and len(connection.slots) < self._max_calls
        ):
            connection.put(pending)
        elif self._shard.closed:
            sink.set_exception(ClientClosed("the client is closed"))
        else:
            self.turnstile.wait(pending)
            self._connect_if_lost()

    def post_in_order(
        self, sink: ReplySink, payload: bytes, deadline: float, op: ReplyBatch, idempotent: bool
    ) -> None:
        """Send commands as `post` does, behind those that went this way before. Raises `ShardOut` where too many are unanswered."""
        connection = self.replaced.in_order if self.replaced.connections else None
        if connection is None:
            self.post(sink, payload, deadline, op, idempotent)
        elif len(connection.slots) < self._max_calls and connection.bytes_owed < self._max_bytes:
            connection.put(
                (sink, deadline, payload, op, partial(self._stranded, self._lost[idempotent]))
            )
        else:
            raise ShardOut(
                self._shard.name, f"has {len(connection.slots)} requests still to answer"
            )

    def fail(
        self,
        pending: PendingReply,
        error: Exception,
        *,
        dialled: bool = False,
        stranded: bool = False,
    ) -> None:
        """End a slot that will get no reply, or that got an error reply. ``stranded`` as in `ShardState.lost`."""
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
                error, dialled=dialled, began=began, deadline=pending[1], stranded=stranded
            )
        pending[0].set_exception(error)

    def retry(self, pending: PendingReply, error: Exception) -> None:
        """As `fail`, but keep for the next connection what may be sent twice, if this one had simply died."""
        connection = self.connection
        if self._shard.closed or connection is None or not connection.used or not may_retry(error):
            self.fail(pending, error)
            return
        self._shard.tally.retries += 1
        future, deadline, payload, op, _ = pending
        self._again.append((future, deadline, payload, op, self.fail))

    def _stranded(self, lost: Lost, pending: PendingReply, error: Exception) -> None:
        """End a slot of a connection that has been replaced."""
        shard = self._shard
        if isinstance(error, TimeoutError) and shard.answers_later_than(pending[1] - shard.timeout):
            self.fail(pending, error, stranded=True)
        else:
            lost(pending, error)

    def _sent_again(
        self, answers: int, lost: Lost, pending: PendingReply, error: Exception
    ) -> None:
        """End a slot that has been sent again, when the shard had answered so many calls."""
        if isinstance(error, TimeoutError) and self._shard.answers > answers:
            self.fail(pending, error, stranded=True)
        else:
            lost(pending, error)

    def _once_more(self, pending: PendingReply) -> PendingReply:
        """Return a slot that is to be sent again. Those in front of it are the older ones, so being answered last says little about the shard."""
        sink, deadline, payload, op, lost = pending
        return sink, deadline, payload, op, partial(self._sent_again, self._shard.answers, lost)

    def _unsent(self, pending: PendingReply, error: Exception) -> None:
        self.fail(pending, error, dialled=True)

    def drained(self, answers: int) -> None:
        """Note that single commands were answered; let in as many who wait as there is room for."""
        if answers:
            self._shard.served(answers)
        if self.turnstile.waiting:
            self.let_in()
        if self.replaced.connections:
            self.replaced.end_unneeded()

    def let_in(self) -> None:
        """Send what waits, as far as there is room."""
        connection = self.connection
        while (
            connection is not None
            and connection.ended is None
            and connection.bytes_owed < self._max_bytes
            and len(connection.slots) < self._max_calls
            and (pending := self.turnstile.next()) is not None
        ):
            connection.put(pending)

    @property
    def connecting(self) -> bool:
        """Whether a connection is being opened."""
        return self._connecting is not None

    def end(self, error: Exception) -> None:
        """End the link, whoever waits for it, and the attempt to open it, without waiting for the last of it."""
        self.turnstile.fail_all(error)
        if self._connecting is not None:
            self._connecting.cancel()
        self.replaced.end(error)
        if self.connection is not None:
            self.connection.end(error)

    async def close(self, error: Exception) -> None:
        """End the link, whoever waits for it, and the attempt to open it."""
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
        yield from self.replaced.connections

    def _connect_if_lost(self) -> None:
        if (
            self.connection is None or self.connection.ended is not None
        ) and self._connecting is None:
            self._connecting = self._shard.loop.create_task(
                self._connect(), name=f"connect to {self._shard.name}"
            )

    async def _connect(self) -> None:
        shard = self._shard
        deadline = shard.clock() + shard.timeout
        try:
            connection = await shard.dial(deadline, shard.timeout, self.lost, self.drained)
        except Exception as error:  # noqa: BLE001  whatever it was (a credential provider's, say) is the callers' to see
            self._connecting = None
            self._next_spare = shard.clock() + shard.timeout
            if isinstance(error, TimeoutError) and held_up(shard.clock(), deadline):
                # This process stood still meanwhile. Who has come since then has his whole time.
                self.turnstile.expire()
                if self.turnstile.waiting:
                    self._connect_if_lost()
            elif self.connection is None or self.connection.ended is not None:
                self.turnstile.fail_all(error)
        except BaseException:
            self._connecting = None
            raise
        else:
            self._connecting = None
            self.adopt(connection)

    def _stalled(self, connection: AsyncConnection) -> None:
        """Open a successor to a link that stands still, one at a time. While the shard is out that is the prober's to do."""
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
        """Take a new link into use, unless there is one that does not stand still: what that owes will come, and nobody loses it."""
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
        connection.latest = (
            0.0 if old is None else old.latest
        )  # a handshake is no answer to anybody
        if not self._steady:
            connection.watch(self._stalled)
        self.connection = connection
        if old is not None and old.ended is None:
            self._replace(old)
        self.let_in()

    def _replace(self, old: AsyncConnection) -> None:
        """Leave with a link that stands still what may have been carried out, and send the reads again."""
        again = old.hand_over(self._stranded)
        self._shard.tally.retries += len(again)
        self.replaced.connections.append(old)
        behind = self.replaced.in_order
        if behind is not None:
            for pending in self.turnstile.take(lambda pending: pending[3].in_order):
                behind.put((*pending[:4], partial(self._stranded, pending[4])))
        self.turnstile.put_back(map(self._once_more, again))
        self.replaced.end_unneeded()

    def lost(self, connection: AsyncConnection, _: Exception) -> None:
        """Open a successor to a link that ended, if there are slots for it."""
        if connection in self.replaced.connections:
            self.replaced.connections.remove(connection)
        elif connection is not self.connection:
            return
        again, self._again = self._again, []
        self.turnstile.put_back(again)
        if self.turnstile.waiting and not self._shard.closed:
            self._connect_if_lost()
            self.let_in()
