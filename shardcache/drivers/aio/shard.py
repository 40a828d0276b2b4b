"""One shard of the asyncio client: a connection for all tasks, another for bulk, and a task that knocks while it is out."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from shardcache.drivers.aio.blocking import BlockingConnections
from shardcache.drivers.shard_health import ShardState, is_down
from shardcache.drivers.sync.shard import may_retry
from shardcache.errors import ClientClosed, ShardError, ShardOut
from shardcache.events import Hook
from shardcache.flows.own_pause import held_up
from shardcache.flows.steps import ServerRun
from shardcache.policy.breaker import Breaker, State
from shardcache.resp import ErrorReply, Op, Reply
from shardcache.wire import pack
from shardcache.wire.aio.connection import AsyncConnection, PendingReply, ReplyBatch, ReplySink
from shardcache.wire.aio.dialer import AsyncDialer
from shardcache.wire.aio.send_queue import SendQueue
from shardcache.wire.credentials import Login

__all__ = ("BULK", "AsyncShard", "SharedConnection")

_PING = pack((b"PING",))
_CLOSED = State.CLOSED
BULK = 64 * 1024  # bytes from which a request goes over the bulk connection


class SharedConnection:
    """One connection that is opened when first needed, and again when it was lost, with a bound on what is in flight.

    A caller awaits one future, whatever happens behind it: its slot waits for a connection or for
    room, is sent, is sent again over a fresh connection if the one in use had simply died and the commands
    allow it, and ends with replies or with the named error.
    """

    __slots__ = (
        "_again",
        "_connecting",
        "_future",
        "_lost",
        "_max_bytes",
        "_max_calls",
        "_shard",
        "connection",
        "turnstile",
    )

    def __init__(self, shard: "AsyncShard", max_calls: int, max_bytes: int) -> None:
        self._shard = shard
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._connecting: asyncio.Task[None] | None = None
        self._again: list[
            PendingReply
        ] = []  # what the link that is just ending leaves to its successor
        self._future = shard.loop.create_future
        self._lost = (self.fail, self.retry)
        self.connection: AsyncConnection | None = None
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

    def fail(self, pending: PendingReply, error: Exception, *, dialled: bool = False) -> None:
        """End a slot that will get no reply, or that got an error reply."""
        shard = self._shard
        if isinstance(error, ErrorReply):
            error = shard.refusal(error)
        elif shard.closed and not isinstance(error, ClientClosed):
            closed = ClientClosed("the client was closed")
            closed.__cause__ = error
            error = closed
        elif isinstance(error, (OSError, ShardError)):
            began = pending[1] - shard.timeout
            error = shard.record_failure(error, dialled=dialled, began=began, deadline=pending[1])
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

    def _unsent(self, pending: PendingReply, error: Exception) -> None:
        self.fail(pending, error, dialled=True)

    def drained(self, answers: int) -> None:
        """Note that single commands were answered; let in as many who wait as there is room for."""
        if answers:
            self._shard.served(answers)
        if self.turnstile.waiting:
            self.send_waiting()

    def send_waiting(self) -> None:
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
        if self.connection is not None:
            self.connection.end(error)

    async def close(self, error: Exception) -> None:
        """End the link, whoever waits for it, and the attempt to open it."""
        connecting, connection = self._connecting, self.connection
        self.end(error)
        if connecting is not None:
            await asyncio.wait([connecting])
        if connection is not None:
            await connection.wait_closed()

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
            if isinstance(error, TimeoutError) and held_up(shard.clock(), deadline):
                # This process stood still meanwhile. Who has come since then has his whole time.
                self.turnstile.expire()
                if self.turnstile.waiting:
                    self._connect_if_lost()
            else:
                self.turnstile.fail_all(error)
        except BaseException:
            self._connecting = None
            raise
        else:
            self._connecting = None
            self.adopt(connection)

    def adopt(self, connection: AsyncConnection) -> None:
        """Take a new link into use, unless there is one by now: what that still owes will come, and nobody loses it."""
        if self.connection is not None and self.connection.ended is None:
            connection.end(ConnectionError("there is a connection already"))
            return
        self._shard.tally.connects += 1
        self.connection = connection
        self.send_waiting()

    def lost(self, connection: AsyncConnection, _: Exception) -> None:
        """Open a successor to a link that ended, if there are slots for it."""
        if connection is self.connection:
            again, self._again = self._again, []
            self.turnstile.put_back(again)
            if self.turnstile.waiting and not self._shard.closed:
                self._connect_if_lost()


class AsyncShard(ShardState):
    """Sends packed commands to one server over shared connections, on one event loop."""

    __slots__ = ("_bulk", "_dial", "_prober", "blocking", "loop", "main", "renewed")

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
        self._bulk = SharedConnection(self, max_calls, max_bytes)
        self._prober: asyncio.Task[None] | None = None
        self.renewed: bytes | None = None  # the credentials that came last, as a command
        self.blocking = BlockingConnections(self, self.dial)

    @property
    def run(self) -> ServerRun | None:
        """Which life of the server answers the small requests."""
        connection = self.main.connection
        return None if connection is None else connection.run

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
            or self.idle() > 0
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

    async def call(self, payload: bytes, deadline: float, op: Op) -> Reply:
        """Send one command and return its reply. Raises `ShardError` or `ClientClosed`, by the deadline."""
        return await self.ask(payload, deadline, op)

    def ask(self, payload: bytes, deadline: float, op: Op) -> Awaitable[Reply]:
        """Send one command; return what to await for its reply: `call` without a coroutine while all is well."""
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
        if self.breaker.state is _CLOSED:
            shared.post(sink, payload, deadline, owed, idempotent)
            return
        self.admit()
        self._on_trial(shared.send(payload, deadline, owed, idempotent)).add_done_callback(
            partial(_pass_on, sink)
        )

    def reauthenticate(self, login: Login) -> None:
        """Log in anew over every connection, behind what was asked on it before."""
        self.renewed = pack((b"AUTH", *login))
        for connection in (self.main.connection, self._bulk.connection, *self.blocking.connections):
            if connection is not None:
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
        connection = self.main.connection
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
        # In one stream replies come in order, so this can only be the other lane's.
        connections = (self.main.connection, self._bulk.connection)
        return any(
            connection is not None and connection.latest > began + self.timeout
            for connection in connections
        )

    def served(self, answers: int) -> None:
        """Note replies to single commands."""
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
