"""One shard of the asyncio client: a connection for all tasks, another for bulk, and a task that knocks while it is out."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from shardcache.drivers.aio.blocking import BlockingConnections
from shardcache.drivers.aio.shared_connection import SharedConnection
from shardcache.drivers.shard_health import ShardState, is_down
from shardcache.errors import ClientClosed, ShardError, ShardOut
from shardcache.events import Hook
from shardcache.flows.steps import ServerRun
from shardcache.policy.breaker import Breaker, State
from shardcache.resp import ErrorReply, Op, Reply
from shardcache.wire import pack
from shardcache.wire.aio.connection import AsyncConnection
from shardcache.wire.aio.dialer import AsyncDialer
from shardcache.wire.aio.pending_reply import ReplyBatch, ReplySink
from shardcache.wire.credentials import Login

__all__ = ("BULK", "AsyncShard")

_PING = pack((b"PING",))
_CLOSED = State.CLOSED
BULK = 64 * 1024  # bytes from which a request goes over the bulk connection


class AsyncShard(ShardState):
    """Sends packed commands to one server over shared connections, on one event loop."""

    __slots__ = ("_bulk", "_dial", "_prober", "answers", "blocking", "loop", "main", "renewed")

    def __init__(
        self,
        dial: AsyncDialer,
        breaker: Breaker,
        *,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        hook: Hook | None,
        random: Callable[[], float],
        max_calls: int,
        max_bytes: int,
        keys: str = "*",
    ) -> None:
        super().__init__(
            dial.shard,
            breaker,
            clock=loop.time,
            timeout=timeout,
            hook=hook,
            random=random,
            keys=keys,
        )
        self.loop = loop
        self._dial = dial
        self.main = SharedConnection(self, max_calls, max_bytes)
        # Silence says little where a request takes long to send, and parts of a whole keep their order.
        self._bulk = SharedConnection(self, max_calls, max_bytes, steady=True)
        self._prober: asyncio.Task[None] | None = None
        self.renewed: bytes | None = None  # the credentials that came last, as a command
        self.answers = 0  # to single commands
        self.blocking = BlockingConnections(self, self.dial)

    @property
    def run(self) -> ServerRun | None:
        """Which life of the server answers the small requests."""
        connection = self.main.connection
        # Of two lives that answer at once (a failover behind a proxy) it is not known here which one did.
        if connection is None or any(
            other.run_id != connection.run_id for other in self.main.replaced.connections
        ):
            return None
        return connection.run

    def idle(self) -> int:
        return sum(
            shared.connection is not None and shared.connection.alive
            for shared in (self.main, self._bulk)
        )

    def drop_idle(self) -> None:
        """Nothing to drop: a link of this colour is never idle in a pool, and ends by itself."""

    def close_soon(self) -> None:
        """End everything without waiting: for a call from another thread's loop, or a client that nobody closed."""
        self.closed = True
        error = ClientClosed("the client was closed")
        if self._prober is not None:
            self._prober.cancel()
        for shared in (self.main, self._bulk):
            shared.end(error)
        self.blocking.end(error)

    @property
    def busy(self) -> bool:
        """Whether a connection is open or being opened."""
        return (
            self.blocking.busy
            or self._prober is not None
            or any(
                connection.alive
                for shared in (self.main, self._bulk)
                for connection in shared.connections
            )
            or self.main.connecting
            or self._bulk.connecting
        )

    async def close(self) -> None:
        """End every call in flight with `ClientClosed`; leave neither task nor socket."""
        self.closed = True
        error = ClientClosed("the client was closed")
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.wait([self._prober])
        await self.main.close(error)
        await self._bulk.close(error)
        for connection in self.blocking.end(error):
            await connection.wait_closed()

    async def disconnect(self) -> None:
        """Close every connection, as `close` does, though a later call may open another: for the end of an event loop."""
        closed = self.closed
        await self.close()
        self.closed = closed

    def ask(self, payload: bytes, deadline: float, op: Op) -> Awaitable[Reply]:
        """Send one command; return what to await for its reply: no coroutine while all is well.

        Awaiting it raises `ShardError` or `ClientClosed`, by the deadline.
        """
        shared = self.main if len(payload) < BULK else self._bulk
        if self.breaker.state is _CLOSED:
            return shared.send(payload, deadline, op, op.idempotent)
        try:
            self.admit()
        except ShardOut as error:
            return self._out(error)
        return self._on_trial(shared.send(payload, deadline, op, op.idempotent))

    async def _out(self, error: ShardOut) -> Reply:
        # A caller that asks in a loop would otherwise never let the prober run.
        await asyncio.sleep(0)
        raise error

    def start(
        self,
        payload: bytes,
        owed: ReplyBatch,
        deadline: float,
        idempotent: bool,
        *,
        bulk: bool = False,
    ) -> "asyncio.Future[Any]":
        """Send commands; return a future of the list of replies (one: bare), error replies among them.

        It ends with `ShardError` or `ClientClosed` by the deadline. Raises `ShardOut` at once.
        """
        shared = self._bulk if bulk or len(payload) >= BULK else self.main
        if self.breaker.state is _CLOSED:
            return shared.send(payload, deadline, owed, idempotent)
        self.admit()
        return self._on_trial(shared.send(payload, deadline, owed, idempotent))

    def post(
        self, sink: ReplySink, payload: bytes, owed: ReplyBatch, deadline: float, idempotent: bool
    ) -> None:
        """Send commands as `start` does; what comes of it goes to ``sink``. Raises `ShardOut` at once."""
        shared = self.main if len(payload) < BULK else self._bulk
        send = shared.post_in_order if owed.in_order else shared.post
        if self.breaker.state is _CLOSED:
            send(sink, payload, deadline, owed, idempotent)
            return
        self.admit()
        future = self.loop.create_future()
        self._on_trial(future).add_done_callback(partial(_pass_on, sink))
        try:
            send(future, payload, deadline, owed, idempotent)
        except ShardOut:
            future.cancel()  # which gives the place back
            raise

    def reauthenticate(self, login: Login) -> None:
        """Log in anew over every connection, behind what was asked on it before."""
        self.renewed = pack((b"AUTH", *login))
        for connection in (
            *self.main.connections,
            *self._bulk.connections,
            *self.blocking.connections,
        ):
            self.log_in(connection)

    async def dial(
        self,
        deadline: float,
        timeout: float,
        on_end: Callable[[AsyncConnection, Exception], None],
        on_room: Callable[[int], None],
    ) -> AsyncConnection:
        """Return a new link; see `AsyncDialer`."""
        renewed = self.renewed
        connection = await self._dial(deadline, timeout, on_end, on_room)
        if self.renewed is not renewed:  # while it was opened, perhaps with the credentials before
            self.log_in(connection)
        return connection

    def log_in(self, connection: AsyncConnection) -> None:
        """Send renewed credentials; what comes of it is logged if it is a no."""
        if self.renewed is not None and connection.alive:
            connection.send(self.renewed, 1, self.clock() + self.timeout).add_done_callback(
                self._logged_in
            )

    def _logged_in(self, future: "asyncio.Future[Any]") -> None:
        if (
            not future.cancelled()
            and future.exception() is None
            and isinstance(future.result(), ErrorReply)
        ):
            self.login_refused(future.result())

    def push(self, payload: bytes, owed: int, deadline: float) -> None:
        """Send to a shard that is out, behind what it has not answered yet; nobody waits for what comes of it."""
        connection = self.main.replaced.in_order or self.main.connection
        if connection is not None and connection.alive and len(connection):
            connection.send(payload, owed, deadline).add_done_callback(_no_matter)

    def _on_trial(self, future: "asyncio.Future[Any]") -> "asyncio.Future[Any]":
        future.add_done_callback(self._tried)
        return future

    def _tried(self, future: "asyncio.Future[Any]") -> None:
        """Give back the place of a call that ended without telling anything about the shard."""
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or (error is not None and not isinstance(error, ShardError)):
            self.release_trial()

    def answers_later_than(self, began: float) -> bool:
        # In one stream replies come in order, so this can only be another link's.
        return any(
            connection.latest > began + self.timeout
            for shared in (self.main, self._bulk)
            for connection in shared.connections
        )

    def served(self, answers: int) -> None:
        """Note replies to single commands."""
        self.answers += answers
        for _ in range(answers):
            if not self.breaker.failures and self.breaker.state is _CLOSED:
                return
            self.record_success()

    def refusal(self, reply: ErrorReply) -> ShardError:
        """Return what an error reply stands for; "not serving now" counts as a failure of the shard."""
        try:
            self.raise_refusal(reply)
        except ShardError as error:
            return error

    def start_probing(self) -> None:
        if self._prober is None or self._prober.done():
            self._prober = self.loop.create_task(
                self._probe_until_answered(), name=f"shardcache prober of {self.name}"
            )

    async def _probe_until_answered(self) -> None:
        """Ask after the shard until it answers: the one task per loop that touches it while it is out."""
        while True:
            await asyncio.sleep(self.next_probe())
            self.tally.probes += 1
            connection = self.main.connection
            try:
                if connection is not None and connection.alive and not len(connection):
                    # It was late, not dead, and owes nothing any more: no other connection is needed.
                    await self._ping(connection)
                    self.probe_succeeded()
                    self._prober = None
                    return
                connection = await self.probe(self.main)
            except Exception:  # noqa: BLE001  a credential provider may raise anything; without a prober the shard stays out
                continue
            self.main.adopt(connection)
            self.probe_succeeded()
            self._prober = None
            return

    async def probe(self, shared: SharedConnection | None = None) -> AsyncConnection:
        """Return a new link over which a PING was answered, or raise."""
        target = shared or self.main
        deadline = self.clock() + self.timeout
        connection = await self.dial(deadline, self.timeout, target.lost, target.drained)
        try:
            await self._ping(connection)
        except BaseException:
            connection.end(ConnectionError("the probe failed"))
            raise
        return connection

    async def _ping(self, connection: AsyncConnection) -> None:
        """Return if the server answers a PING as one that serves."""
        reply = await connection.send(_PING, 1, self.clock() + self.timeout)
        if isinstance(reply, ErrorReply) and is_down(error := self.named(reply)):
            raise error


def _pass_on(sink: ReplySink, future: "asyncio.Future[Any]") -> None:
    if future.cancelled():
        return
    error = future.exception()
    if error is None:
        sink.set_result(future.result())
    else:
        sink.set_exception(error)


def _no_matter(future: "asyncio.Future[Any]") -> None:
    """Look at an error, or asyncio complains that nobody has."""
    if not future.cancelled():
        future.exception()
