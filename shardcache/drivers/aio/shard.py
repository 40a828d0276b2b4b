"""One shard of the asyncio client: a connection for all tasks, another for bulk, and a task that knocks while it is out."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from shardcache.drivers.aio.blocking import Ears
from shardcache.drivers.shard_health import ShardState, is_down
from shardcache.drivers.sync.shard import may_retry
from shardcache.errors import ClientClosed, ShardError, ShardOut
from shardcache.events import Hook
from shardcache.flows.own_pause import held_up
from shardcache.flows.steps import Run
from shardcache.policy.breaker import Breaker, State
from shardcache.resp import ErrorReply, Op, Reply
from shardcache.wire import pack
from shardcache.wire.aio.connection import AsyncLink, Several, Sink, Slot
from shardcache.wire.aio.dialer import AsyncDialer
from shardcache.wire.aio.send_queue import Turnstile
from shardcache.wire.credentials import Login

__all__ = ("BULK", "AsyncShard", "Lane")

_PING = pack((b"PING",))
_CLOSED = State.CLOSED
BULK = 64 * 1024  # bytes from which a request goes over the bulk connection


class Lane:
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
        "link",
        "turnstile",
    )

    def __init__(self, shard: "AsyncShard", max_calls: int, max_bytes: int) -> None:
        self._shard = shard
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._connecting: asyncio.Task[None] | None = None
        self._again: list[Slot] = []  # what the link that is just ending leaves to its successor
        self._future = shard.loop.create_future
        self._lost = (self.fail, self.retry)
        self.link: AsyncLink | None = None
        self.turnstile = Turnstile(shard.loop, self._unsent)

    def send(self, payload: bytes, deadline: float, op: Op | Several, twice: bool) -> "asyncio.Future[Any]":
        """Send commands as soon as there is a link with room; return a future of the reply, or of those to `Several`.

        It ends with `ShardError` or `ClientClosed` by the deadline, of which only the first kind is counted.
        """
        future: asyncio.Future[Any] = self._future()
        self.post(future, payload, deadline, op, twice)
        return future

    def post(self, sink: Sink, payload: bytes, deadline: float, op: Op | Several, twice: bool) -> None:
        """Send commands as `send` does; what comes of it goes to ``sink``."""
        slot = (sink, deadline, payload, op, self._lost[twice])
        link = self.link
        if (
            link is not None
            and link.ended is None
            and not self.turnstile.waiting
            and link.bytes_owed < self._max_bytes
            and len(link.slots) < self._max_calls
        ):
            link.put(slot)
        elif self._shard.closed:
            sink.set_exception(ClientClosed("the client is closed"))
        else:
            self.turnstile.wait(slot)
            self._connect_if_lost()

    def fail(self, slot: Slot, error: Exception, *, dialled: bool = False) -> None:
        """End a slot that will get no reply, or that got an error reply."""
        shard = self._shard
        if isinstance(error, ErrorReply):
            error = shard.refusal(error)
        elif shard.closed and not isinstance(error, ClientClosed):
            closed = ClientClosed("the client was closed")
            closed.__cause__ = error
            error = closed
        elif isinstance(error, (OSError, ShardError)):
            began = slot[1] - shard.timeout
            error = shard.lost(error, dialled=dialled, began=began, deadline=slot[1])
        slot[0].set_exception(error)

    def retry(self, slot: Slot, error: Exception) -> None:
        """As `fail`, but keep for the next connection what may be sent twice, if this one had simply died."""
        link = self.link
        if self._shard.closed or link is None or not link.used or not may_retry(error):
            self.fail(slot, error)
            return
        self._shard.tally.retries += 1
        future, deadline, payload, op, _ = slot
        self._again.append((future, deadline, payload, op, self.fail))

    def _unsent(self, slot: Slot, error: Exception) -> None:
        self.fail(slot, error, dialled=True)

    def drained(self, answers: int) -> None:
        """Note that single commands were answered; let in as many who wait as there is room for."""
        if answers:
            self._shard.served(answers)
        if self.turnstile.waiting:
            self.let_in()

    def let_in(self) -> None:
        """Send what waits, as far as there is room."""
        link = self.link
        while (
            link is not None
            and link.ended is None
            and link.bytes_owed < self._max_bytes
            and len(link.slots) < self._max_calls
            and (slot := self.turnstile.next()) is not None
        ):
            link.put(slot)

    @property
    def connecting(self) -> bool:
        """Whether a connection is being opened."""
        return self._connecting is not None

    def end(self, error: Exception) -> None:
        """End the link, whoever waits for it, and the attempt to open it, without waiting for the last of it."""
        self.turnstile.turn_away(error)
        if self._connecting is not None:
            self._connecting.cancel()
        if self.link is not None:
            self.link.end(error)

    async def close(self, error: Exception) -> None:
        """End the link, whoever waits for it, and the attempt to open it."""
        connecting, link = self._connecting, self.link
        self.end(error)
        if connecting is not None:
            await asyncio.wait([connecting])
        if link is not None:
            await link.wait_closed()

    def _connect_if_lost(self) -> None:
        if (self.link is None or self.link.ended is not None) and self._connecting is None:
            self._connecting = self._shard.loop.create_task(self._connect(), name=f"connect to {self._shard.name}")

    async def _connect(self) -> None:
        shard = self._shard
        deadline = shard.clock() + shard.timeout
        try:
            link = await shard.dial(deadline, shard.timeout, self.lost, self.drained)
        except Exception as error:  # noqa: BLE001  whatever it was (a credential provider's, say) is the callers' to see
            self._connecting = None
            if isinstance(error, TimeoutError) and held_up(shard.clock(), deadline):
                # This process stood still meanwhile. Who has come since then has his whole time.
                self.turnstile.expire()
                if self.turnstile.waiting:
                    self._connect_if_lost()
            else:
                self.turnstile.turn_away(error)
        except BaseException:
            self._connecting = None
            raise
        else:
            self._connecting = None
            self.adopt(link)

    def adopt(self, link: AsyncLink) -> None:
        """Take a new link into use, unless there is one by now: what that still owes will come, and nobody loses it."""
        if self.link is not None and self.link.ended is None:
            link.end(ConnectionError("there is a connection already"))
            return
        self._shard.tally.connects += 1
        self.link = link
        self.let_in()

    def lost(self, link: AsyncLink, _: Exception) -> None:
        """Open a successor to a link that ended, if there are slots for it."""
        if link is self.link:
            again, self._again = self._again, []
            self.turnstile.put_back(again)
            if self.turnstile.waiting and not self._shard.closed:
                self._connect_if_lost()


class AsyncShard(ShardState):
    """Sends packed commands to one server over shared connections, on one event loop."""

    __slots__ = ("_bulk", "_dial", "_prober", "ears", "loop", "main", "renewed")

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
        keys: str = "*",
    ) -> None:
        super().__init__(dial.shard, breaker, clock=loop.time, timeout=timeout, hook=hook, luck=luck, keys=keys)
        self.loop = loop
        self._dial = dial
        self.main = Lane(self, max_calls, max_bytes)
        self._bulk = Lane(self, max_calls, max_bytes)
        self._prober: asyncio.Task[None] | None = None
        self.renewed: bytes | None = None  # the credentials that came last, as a command
        self.ears = Ears(self, self.dial)

    @property
    def run(self) -> Run | None:
        """Which life of the server answers the small requests."""
        link = self.main.link
        return None if link is None else link.run

    def idle(self) -> int:
        return sum(lane.link is not None and lane.link.alive for lane in (self.main, self._bulk))

    def drop_idle(self) -> None:
        """Nothing to drop: a link of this colour is never idle in a pool, and ends by itself."""

    def close_soon(self) -> None:
        """End everything without waiting: for a call from another thread's loop, or a client that nobody closed."""
        self.closed = True
        error = ClientClosed("the client was closed")
        if self._prober is not None:
            self._prober.cancel()
        for lane in (self.main, self._bulk):
            lane.end(error)
        self.ears.end(error)

    @property
    def busy(self) -> bool:
        """Whether a connection is open or being opened."""
        return (
            self.ears.busy
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
        for link in self.ears.end(error):
            await link.wait_closed()

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
        lane = self.main if len(payload) < BULK else self._bulk
        if self.breaker.state is _CLOSED:
            return lane.send(payload, deadline, op, op.twice)
        try:
            self.admit()
        except ShardOut as error:
            return self._out(error)
        return self._on_trial(lane.send(payload, deadline, op, op.twice))

    async def _out(self, error: ShardOut) -> Reply:
        # A caller that asks in a loop would otherwise never let the prober run.
        await asyncio.sleep(0)
        raise error

    def start(
        self, payload: bytes, owed: Several, deadline: float, twice: bool, *, bulk: bool = False
    ) -> "asyncio.Future[Any]":
        """Send commands; return a future of the list of replies (one: bare), error replies among them.

        It ends with `ShardError` or `ClientClosed` by the deadline. Raises `ShardOut` at once.
        """
        lane = self._bulk if bulk or len(payload) >= BULK else self.main
        if self.breaker.state is _CLOSED:
            return lane.send(payload, deadline, owed, twice)
        self.admit()
        return self._on_trial(lane.send(payload, deadline, owed, twice))

    def post(self, sink: Sink, payload: bytes, owed: Several, deadline: float, twice: bool) -> None:
        """Send commands as `start` does; what comes of it goes to ``sink``. Raises `ShardOut` at once."""
        lane = self.main if len(payload) < BULK else self._bulk
        if self.breaker.state is _CLOSED:
            lane.post(sink, payload, deadline, owed, twice)
            return
        self.admit()
        self._on_trial(lane.send(payload, deadline, owed, twice)).add_done_callback(partial(_pass_on, sink))

    def reauthenticate(self, login: Login) -> None:
        """Log in anew over every connection, behind what was asked on it before."""
        self.renewed = pack((b"AUTH", *login))
        for link in (self.main.link, self._bulk.link, *self.ears.links):
            if link is not None:
                self.log_in(link)

    async def dial(
        self,
        deadline: float,
        timeout: float,
        on_end: Callable[[AsyncLink, Exception], None],
        on_room: Callable[[int], None],
    ) -> AsyncLink:
        """Return a new link; see `AsyncDialer`."""
        renewed = self.renewed
        link = await self._dial(deadline, timeout, on_end, on_room)
        if self.renewed is not renewed:  # while it was opened, perhaps with the credentials before
            self.log_in(link)
        return link

    def log_in(self, link: AsyncLink) -> None:
        """Send renewed credentials; what comes of it is logged if it is a no."""
        if self.renewed is not None and link.alive:
            link.send(self.renewed, 1, self.clock() + self.timeout).add_done_callback(self._logged_in)

    def _logged_in(self, future: "asyncio.Future[Any]") -> None:
        if not future.cancelled() and future.exception() is None and isinstance(future.result(), ErrorReply):
            self.login_refused(future.result())

    def push(self, payload: bytes, owed: int, deadline: float) -> None:
        """Send to a shard that is out, behind what it has not answered yet; nobody waits for what comes of it."""
        link = self.main.link
        if link is not None and link.alive and len(link):
            link.send(payload, owed, deadline).add_done_callback(_no_matter)

    def _on_trial(self, future: "asyncio.Future[Any]") -> "asyncio.Future[Any]":
        future.add_done_callback(self._tried)
        return future

    def _tried(self, future: "asyncio.Future[Any]") -> None:
        """Give back the place of a call that ended without telling anything about the shard."""
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or (error is not None and not isinstance(error, ShardError)):
            self.abandon()

    def answers_later_than(self, began: float) -> bool:
        # In one stream replies come in order, so this can only be the other lane's.
        links = (self.main.link, self._bulk.link)
        return any(link is not None and link.latest > began + self.timeout for link in links)

    def served(self, answers: int) -> None:
        """Note replies to single commands."""
        for _ in range(answers):
            if not self.breaker.failures and self.breaker.state is _CLOSED:
                return
            self.answered()

    def refusal(self, reply: ErrorReply) -> ShardError:
        """Return what an error reply stands for; "not serving now" counts as a failure of the shard."""
        try:
            self.refused(reply)
        except ShardError as error:
            return error

    def knock(self) -> None:
        if self._prober is None or self._prober.done():
            self._prober = self.loop.create_task(self._knock(), name=f"shardcache prober of {self.name}")

    async def _knock(self) -> None:
        """Ask after the shard until it answers: the one task per loop that touches it while it is out."""
        while True:
            await asyncio.sleep(self.next_knock())
            self.tally.probes += 1
            link = self.main.link
            try:
                if link is not None and link.alive and not len(link):
                    # It was late, not dead, and owes nothing any more: no other connection is needed.
                    await self._ping(link)
                    self.heard()
                    self._prober = None
                    return
                link = await self.probe(self.main)
            except Exception:  # noqa: BLE001  a credential provider may raise anything; without a prober the shard stays out
                continue
            self.main.adopt(link)
            self.heard()
            self._prober = None
            return

    async def probe(self, lane: Lane | None = None) -> AsyncLink:
        """Return a new link over which a PING was answered, or raise."""
        target = lane or self.main
        deadline = self.clock() + self.timeout
        link = await self.dial(deadline, self.timeout, target.lost, target.drained)
        try:
            await self._ping(link)
        except BaseException:
            link.end(ConnectionError("the probe failed"))
            raise
        return link

    async def _ping(self, link: AsyncLink) -> None:
        """Return if the server answers a PING as one that serves."""
        reply = await link.send(_PING, 1, self.clock() + self.timeout)
        if isinstance(reply, ErrorReply) and is_down(error := self.named(reply)):
            raise error


def _pass_on(sink: Sink, future: "asyncio.Future[Any]") -> None:
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
