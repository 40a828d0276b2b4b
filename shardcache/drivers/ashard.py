"""One shard of the asyncio client: a connection for all tasks, another for bulk, and a task that knocks while it is out."""

import asyncio
from collections.abc import Callable
from typing import Any

from shardcache.commands import ErrorReply, Op, Reply, as_error
from shardcache.drivers.shard import may_retry
from shardcache.drivers.state import ShardState
from shardcache.errors import ClientClosed, OutOfStep, ShardError, ShardOut
from shardcache.events import Hook
from shardcache.policy.breaker import Breaker, State
from shardcache.wire import pack
from shardcache.wire.adial import AsyncDialer
from shardcache.wire.aio import AsyncLink
from shardcache.wire.turnstile import Turnstile

__all__ = ("BULK", "AsyncShard", "Lane")

_PING = pack((b"PING",))
_CLOSED = State.CLOSED
BULK = 64 * 1024  # bytes from which a request goes over the bulk connection


class Lane:
    """One connection that is opened when first needed, and again when it was lost, with a bound on what is in flight."""

    __slots__ = (
        "_connecting",
        "_dial",
        "_granted",
        "_granted_bytes",
        "_max_bytes",
        "_max_calls",
        "_shard",
        "link",
        "turnstile",
    )

    def __init__(self, shard: "AsyncShard", dial: AsyncDialer, max_calls: int, max_bytes: int) -> None:
        self._shard = shard
        self._dial = dial
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._connecting: asyncio.Task[None] | None = None
        self._granted = 0  # callers whose turn has come, but who have not sent yet
        self._granted_bytes = 0
        self.link: AsyncLink | None = None
        self.turnstile = Turnstile(shard.loop)

    def open(self) -> AsyncLink | None:
        """Return the link if a request may go out on it this moment."""
        link = self.link
        if (
            link is None
            or not link.alive
            or self.turnstile
            or link.bytes_owed >= self._max_bytes
            or len(link) >= self._max_calls
        ):
            return None
        return link

    async def ready(self, deadline: float, size: int) -> AsyncLink:
        """Wait for a link with room for ``size`` bytes. Raises OSError (TimeoutError at ``deadline``) or `ShardError`."""
        while True:
            if self._shard.closed:  # while this caller waited: nothing new may be opened
                raise ClientClosed("the client was closed")
            link = self.open()
            if link is not None:
                return link
            if (self.link is None or not self.link.alive) and self._connecting is None:
                self._connecting = self._shard.loop.create_task(self._connect(), name=f"connect to {self._shard.name}")
            turn = self.turnstile.wait(deadline, size)
            try:
                await turn
            except BaseException:
                if turn.done() and not turn.cancelled() and turn.exception() is None:
                    self._ungrant(size)  # broken off in the very moment that its turn came
                    self.let_in()
                raise
            self._ungrant(size)
            link = self.link
            if link is not None and link.alive:
                return link  # this caller's turn: the room it was let in for is its own

    def _ungrant(self, size: int) -> None:
        self._granted -= 1
        self._granted_bytes -= size

    def let_in(self) -> None:
        """Let waiting callers in as far as there is room."""
        link = self.link
        if self.turnstile and link is not None and link.alive:
            calls, size = self.turnstile.let_in(
                self._max_calls - len(link) - self._granted, self._max_bytes - link.bytes_owed - self._granted_bytes
            )
            self._granted += calls
            self._granted_bytes += size

    @property
    def connecting(self) -> bool:
        """Whether a connection is being opened."""
        return self._connecting is not None

    def end(self, error: BaseException) -> None:
        """End the link, whoever waits for it, and the attempt to open it, without waiting for the last of it."""
        self.turnstile.turn_away(error)
        if self._connecting is not None:
            self._connecting.cancel()
        if self.link is not None:
            self.link.end(error)

    async def close(self, error: BaseException) -> None:
        """End the link, whoever waits for it, and the attempt to open it."""
        self.turnstile.turn_away(error)
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self.link is not None:
            self.link.end(error)
            await self.link.wait_closed()

    async def _connect(self) -> None:
        shard = self._shard
        try:
            link = await self._dial(shard.clock() + shard.timeout, shard.timeout, self._ended, self.let_in)
        except Exception as error:  # noqa: BLE001  whatever it was (a credential provider's, say) is the callers' to see
            self._connecting = None
            self.turnstile.turn_away(error)
        except BaseException:
            self._connecting = None
            raise
        else:
            self._connecting = None
            self.adopt(link)

    def adopt(self, link: AsyncLink) -> None:
        """Take a link into use."""
        if self.link is not None:
            self.link.end(ConnectionError("replaced by a new connection"))
        self._shard.tally.connects += 1
        self.link = link
        self.let_in()

    def _ended(self, link: AsyncLink, _: BaseException) -> None:
        if link is self.link and self.turnstile and self._connecting is None and not self._shard.closed:
            # Those who waited for room on it wait for its successor.
            self._connecting = self._shard.loop.create_task(self._connect(), name=f"connect to {self._shard.name}")


class AsyncShard(ShardState):
    """Sends packed commands to one server over shared connections, on one event loop."""

    __slots__ = ("_bulk", "_dial", "_main", "_prober", "loop")

    def __init__(
        self,
        dial: AsyncDialer,
        breaker: Breaker,
        *,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        hook: Hook | None,
        luck: Callable[[], float],
        max_calls: int,
        max_bytes: int,
    ) -> None:
        super().__init__(dial.shard, breaker, clock=loop.time, timeout=timeout, hook=hook, luck=luck)
        self.loop = loop
        self._dial = dial
        self._main = Lane(self, dial, max_calls, max_bytes)
        self._bulk = Lane(self, dial, max_calls, max_bytes)
        self._prober: asyncio.Task[None] | None = None

    def idle(self) -> int:
        return sum(lane.link is not None and lane.link.alive for lane in (self._main, self._bulk))

    def drop_idle(self) -> None:
        """Nothing to drop: a link of this colour is never idle in a pool, and ends by itself."""

    def close_soon(self) -> None:
        """End everything without waiting: for a call from another thread's loop, or a client that nobody closed."""
        self.closed = True
        error = ClientClosed("the client was closed")
        if self._prober is not None:
            self._prober.cancel()
        for lane in (self._main, self._bulk):
            lane.end(error)

    @property
    def busy(self) -> bool:
        """Whether a connection is open or being opened."""
        return self._prober is not None or self.idle() > 0 or self._main.connecting or self._bulk.connecting

    async def close(self) -> None:
        """End every call in flight with `ClientClosed`; leave neither task nor socket."""
        self.closed = True
        error = ClientClosed("the client was closed")
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.wait([self._prober])
        await self._main.close(error)
        await self._bulk.close(error)

    async def call(self, payload: bytes, deadline: float, op: Op) -> Reply:
        """Send one command and return its reply. Raises `ShardError` or `ClientClosed`, by the deadline."""
        if self.breaker.state is not _CLOSED:
            try:
                self.admit()
            except ShardOut:
                # A caller that asks in a loop would otherwise never let the prober run.
                await asyncio.sleep(0)
                raise
        lane = self._main if len(payload) < BULK else self._bulk
        link = lane.open()
        if link is None:
            reply = await self.insist(lane, payload, 1, deadline, op.twice)
        else:
            try:
                reply = await link.send(payload, 1, deadline)
            except (OSError, ShardError) as error:
                reply = await self.rescue(error, link, lane, payload, 1, deadline, op.twice)
            except BaseException:
                self.abandon()
                raise
        if reply.__class__ not in op.kinds:
            raise self.misfit(f"{op.name} was answered with {type(reply).__name__}")
        if reply.__class__ is ErrorReply:
            self.refused(reply)
        if self.breaker.failures or self.breaker.state is not _CLOSED:
            self.answered()
        return reply

    def misfit(self, reason: str) -> ShardError:
        """Return the error for a reply that cannot be one, having ended the connections it may have come over."""
        error = OutOfStep(self.name, reason)
        for lane in (self._main, self._bulk):
            if lane.link is not None:
                lane.link.end(error)
        return self.lost(error, dialled=False)

    def start(self, payload: bytes, owed: int, deadline: float, twice: bool, *, bulk: bool) -> "asyncio.Future[Any]":
        """Send commands at once if possible, else in a task; return a future of the list of replies (one: bare)."""
        if self.breaker.state is not _CLOSED:
            self.admit()
        lane = self._bulk if bulk or len(payload) >= BULK else self._main
        link = lane.open()
        if link is None:
            return self.loop.create_task(self.insist(lane, payload, owed, deadline, twice))
        return link.send(payload, owed, deadline)

    async def insist(self, lane: Lane, payload: bytes, owed: int, deadline: float, twice: bool) -> Any:
        """Wait for a link, then send and return what comes back."""
        if self.closed:
            raise ClientClosed("the client is closed")
        try:
            link = await lane.ready(deadline, len(payload))
        except (OSError, ShardError) as error:
            raise self.lost(error, dialled=True) from error
        except BaseException:
            self.abandon()
            raise
        try:
            return await link.send(payload, owed, deadline)
        except (OSError, ShardError) as error:
            return await self.rescue(error, link, lane, payload, owed, deadline, twice)
        except BaseException:
            self.abandon()
            raise

    async def rescue(
        self,
        error: OSError | ShardError,
        link: AsyncLink,
        lane: Lane,
        payload: bytes,
        owed: int,
        deadline: float,
        twice: bool,
    ) -> Any:
        """Send again over a fresh link if the one in use had simply died; else raise what happened."""
        if self.closed:
            raise ClientClosed("the client was closed") from error
        if twice and link.used and may_retry(error):
            self.tally.retries += 1
            try:
                fresh = await lane.ready(deadline, len(payload))
                return await fresh.send(payload, owed, deadline)
            except (OSError, ShardError) as second:
                error = second
            except BaseException:
                self.abandon()
                raise
        raise self.lost(error, dialled=False) from error

    async def retry(self, error: OSError, payload: bytes, owed: int, deadline: float, twice: bool) -> Any:
        """Follow up a future of `start` that ended with ``error``: send again if that may help, else name it."""
        lane = self._main
        link = lane.link
        if link is None or link.alive:  # its successor is there already
            if not (twice and may_retry(error)):
                raise self.lost(error, dialled=False) from error
            self.tally.retries += 1
            return await self.insist(lane, payload, owed, deadline, twice=False)
        return await self.rescue(error, link, lane, payload, owed, deadline, twice)

    def knock(self) -> None:
        self._prober = self.loop.create_task(self._knock(), name=f"shardcache prober of {self.name}")

    async def _knock(self) -> None:
        """Ask after the shard until it answers: the one task per loop that touches it while it is out."""
        while True:
            await asyncio.sleep(self.next_knock())
            self.tally.probes += 1
            link = self._main.link
            try:
                if link is not None and link.alive and not len(link):
                    # It was late, not dead, and owes nothing any more: no other connection is needed.
                    await self._ping(link)
                    self.heard()
                    self._prober = None
                    return
                link = await self.probe(self._main)
            except Exception:  # noqa: BLE001  a credential provider may raise anything; without a prober the shard stays out
                continue
            if self._main.link is not None and self._main.link.alive:
                # What the old one still owes will come, and nobody loses a connection.
                link.end(ConnectionError("only a probe"))
            else:
                self._main.adopt(link)
            self.heard()
            self._prober = None
            return

    async def probe(self, lane: Lane | None = None) -> AsyncLink:
        """Return a new link over which a PING was answered, or raise."""
        target = lane or self._main
        deadline = self.clock() + self.timeout
        link = await self._dial(deadline, self.timeout, target._ended, target.let_in)
        try:
            await self._ping(link)
        except BaseException:
            link.end(ConnectionError("the probe failed"))
            raise
        return link

    async def _ping(self, link: AsyncLink) -> None:
        """Return if the server answers a PING as one that serves."""
        reply = await link.send(_PING, 1, self.clock() + self.timeout)
        if isinstance(reply, ErrorReply):
            raise as_error(self.name, reply)
