"""One shard of the asyncio client: its connections, and a task that probes it while it is out.

One connection serves all tasks, a second one bulk, and commands that block have their own.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn

from shardcache.drivers.aio.blocking import BlockingConnections
from shardcache.drivers.aio.prober import Prober
from shardcache.drivers.aio.shard_call import ShardCall
from shardcache.drivers.aio.shared_connection import SharedConnection
from shardcache.drivers.shard_health import ShardState
from shardcache.errors import ClientClosed, ShardError, ShardOut
from shardcache.events import Hook
from shardcache.flows.steps import Outcome, ServerRun
from shardcache.policy.breaker import Breaker, State
from shardcache.resp import Command, ErrorReply, Op, OpGroup, Reply
from shardcache.topology.nodes import Member
from shardcache.urls import Address
from shardcache.wire import pack
from shardcache.wire.aio.connection import AsyncConnection
from shardcache.wire.aio.dialer import AsyncDialer
from shardcache.wire.aio.pending_reply import ReplyBatch, batch_of
from shardcache.wire.credentials import Login

__all__ = ("BULK", "AsyncShard")

_CLOSED = State.CLOSED
BULK = 64 * 1024  # bytes from which a request goes over the bulk connection


class AsyncShard(ShardState):
    """Sends packed commands to one server over shared connections, on one event loop."""

    __slots__ = (
        "_cancelled",
        "_dial",
        "_process",
        "answers",
        "blocking",
        "bulk",
        "generation",
        "loop",
        "main",
        "prober",
        "renewed",
    )

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
        self._cancelled: set[asyncio.Task[None]] = set()  # those that are just ending
        self.generation = 0  # grows when it moves to another address
        self.main = SharedConnection(self, max_calls, max_bytes)
        # It is never replaced while it lives: silence says little where a request takes long to
        # send, and the parts of a whole keep their order.
        self.bulk = SharedConnection(self, max_calls, max_bytes, steady=True)
        self.prober = Prober(self)
        self.renewed: bytes | None = None  # the credentials that came last, as a command
        self.answers = 0  # to single commands
        self.blocking = BlockingConnections(self, self.dial)
        self._process = os.getpid()
        dial.watch(self)

    @property
    def run(self) -> ServerRun | None:
        """Which life of the server answers the small requests."""
        connection = self.main.connection
        # Where two lives answer at once (a failover behind a proxy) it is not known which one did.
        if connection is None or any(
            other.run_id != connection.run_id for other in self.main.replaced
        ):
            return None
        return connection.run

    def idle(self) -> int:
        return sum(
            shared.connection is not None and shared.connection.alive
            for shared in (self.main, self.bulk)
        )

    def drop_idle(self) -> None:
        """Do nothing: a shared connection that is lost ends by itself."""

    def follow(self, member: Member, *, in_service: bool) -> None:
        """Do what a topology says of the node; in the thread of the loop.

        ``member``: the node.
        ``in_service``: whether the topology has it. If not, connections are closed as soon as
            nobody uses them, and no probes are sent. Calls that began before go on.
        """
        self.move(member.address)
        self.in_service = in_service
        if not in_service:
            self.prober.leave()
            self.main.retire()
            self.bulk.retire()
            self.blocking.end_idle()
        elif self.breaker.state is State.OPEN:
            self.start_probing()

    def close_soon(self) -> None:
        """End everything without waiting.

        It is for a call from the loop of another thread, and for a client that was not closed.
        """
        self.closed = True
        error = ClientClosed("the client was closed")
        self.prober.end()
        for shared in (self.main, self.bulk):
            shared.end(error)
        self.blocking.end(error)

    @property
    def busy(self) -> bool:
        """Whether a connection is open or being opened."""
        return (
            self.blocking.busy
            or self.prober.busy
            or any(
                connection.alive
                for shared in (self.main, self.bulk)
                for connection in shared.connections
            )
            or self.main.connecting
            or self.bulk.connecting
        )

    async def close(self) -> None:
        """End every call in flight with `ClientClosed`; leave neither task nor socket."""
        self.closed = True
        error = ClientClosed("the client was closed")
        await self.prober.close()
        await self.main.close(error)
        await self.bulk.close(error)
        for connection in self.blocking.end(error):
            await connection.wait_closed()
        if self._cancelled:
            await asyncio.wait(self._cancelled)

    async def disconnect(self) -> None:
        """Close every connection, as `close` does, though a later call may open another.

        It is for the end of an event loop.
        """
        closed = self.closed
        await self.close()
        self.closed = closed

    @property
    def address(self) -> Address:
        """Where new connections go."""
        return self._dial.address

    def move(self, address: Address) -> None:
        """Go on at another address; to be called in the thread of the loop.

        New connections go there. What has been sent is waited for where it was sent, except for
        reads, which are sent again. What fails there does not weigh on the new address, which is
        tried at once if the shard is out. Commands that were to take effect one behind the other
        may then do so on two servers.
        """
        if not self.closed and address != self._dial.address:
            self._dial.move(address)
            self._leave_former()

    def _leave_former(self) -> None:
        """Let go of what was begun with the former address."""
        if self.closed:
            return
        self.generation += 1
        self.prober.leave()
        self.main.move()
        self.bulk.move()
        self.blocking.move()
        self._note_move()

    def on_name_moved(self) -> None:
        """Do as `move` does: the host name of the address stands for others from now on."""
        self._tell_loop(self._leave_former)

    def on_lookup(self, error: OSError | None) -> None:
        self._tell_loop(self._note_lookup, error)

    def look_up_again(self) -> None:
        self._dial.refresh()

    def _tell_loop(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in the thread of the loop. It may be called from any thread."""
        # In a forked child the loop is still that of the parent, and so is the pipe that wakes it.
        if self._process == os.getpid():
            with suppress(RuntimeError):  # the loop has ended
                self.loop.call_soon_threadsafe(function, *arguments)

    def cancel(self, task: "asyncio.Task[None]") -> None:
        """Cancel a task that opens a connection, and have `close` wait for its end."""
        task.cancel()
        self._cancelled.add(task)
        task.add_done_callback(self._cancelled.discard)

    def ask(self, payload: bytes, deadline: float, op: Op) -> Awaitable[Reply]:
        """Send one command; return what to await for its reply: a future while all is well.

        Awaiting it raises `ShardError` or `ClientClosed`, by the deadline.
        """
        shared = self.main if len(payload) < BULK else self.bulk
        if self.breaker.state is _CLOSED:
            return shared.send(payload, deadline, op, op.idempotent)
        try:
            call = ShardCall(self)
        except ShardOut as error:
            return _refuse(error)
        future = shared.send(payload, deadline, op, op.idempotent)
        future.add_done_callback(call.give_back)
        return future

    async def call_many(self, payload: bytes, deadline: float, ops: OpGroup) -> Outcome:
        """Send several commands; return their replies, or the `ShardError` in their place."""
        owed = batch_of(ops)
        shared = self.main if len(payload) < BULK else self.bulk
        if self.breaker.state is _CLOSED:
            try:
                replies = await shared.send(payload, deadline, owed, ops.idempotent)
                return self.record_replies(replies, 0)
            except ShardError as error:
                return error
        try:
            with ShardCall(self) as call:
                replies = await shared.send(payload, deadline, owed, ops.idempotent)
                return call.answered(replies)
        except ShardOut as error:
            await asyncio.sleep(0)  # as in `_refuse`
            return error
        except ShardError as error:
            return error

    async def listen(self, command: Command, timeout: float) -> Reply | ShardError:
        """Send a command that blocks on the server; see `BlockingConnections.listen`."""
        try:
            with ShardCall(self) as call:
                return await self.blocking.listen(call, command, timeout)
        except ShardOut as error:
            await asyncio.sleep(0)  # as in `_refuse`
            return error

    def reauthenticate(self, login: Login) -> None:
        """Log in anew over every connection, behind what was asked on it before."""
        self.renewed = pack((b"AUTH", *login))
        for connection in (
            *self.main.connections,
            *self.bulk.connections,
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
        """Return a new connection; see `AsyncDialer`."""
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

    def push(self, payload: bytes, owed: ReplyBatch, deadline: float) -> None:
        """Send to a shard that is out, behind what it has not answered yet; drop the replies."""
        connection = self.main.replaced.in_order or self.main.connection
        if connection is not None and connection.alive and len(connection):
            future = connection.send(payload, owed.number, deadline, owed.validate)
            future.add_done_callback(_no_matter)

    def answers_later_than(self, began: float) -> bool:
        # In one stream replies come in order, so this can only be another connection's.
        return any(
            connection.latest > began + self.timeout
            for shared in (self.main, self.bulk)
            for connection in shared.connections
        )

    def served(self, answers: int) -> None:
        """Note replies to single commands."""
        self.answers += answers
        for _ in range(answers):
            if not self.breaker.failures and self.breaker.state is _CLOSED:
                return
            self.record_success(0)

    def refusal(self, reply: ErrorReply) -> ShardError:
        """Return what an error reply to a single command stands for; tell the breaker."""
        error: ShardError = self.record_replies([reply], 0)[0]
        return error

    def start_probing(self) -> None:
        if self.in_service:
            self.prober.start()


async def _refuse(error: ShardOut) -> NoReturn:
    # A caller that asks in a loop would otherwise never let the prober run.
    await asyncio.sleep(0)
    raise error


def _no_matter(future: "asyncio.Future[Any]") -> None:
    """Look at an error, or asyncio complains that it was never retrieved."""
    if not future.cancelled():
        future.exception()
