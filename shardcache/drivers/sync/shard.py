"""One shard of the sync client: a pool of connections, and a thread that probes while it is out."""

import threading
from collections.abc import Callable
from contextlib import suppress

from shardcache.drivers.shard_health import ShardState, is_down
from shardcache.drivers.sync.checkout import Checkout
from shardcache.drivers.sync.overdue import OverdueConnections
from shardcache.errors import ClientClosed, OutOfStep, ShardError, ThreadNotStarted
from shardcache.events import Hook
from shardcache.flows.reply_checks import shapes_fit
from shardcache.flows.steps import SERVER_TICK
from shardcache.policy.breaker import Breaker, State
from shardcache.resp import Command, ErrorReply, Op, OpGroup, Reply
from shardcache.system.threads import Worker
from shardcache.topology.nodes import Member
from shardcache.urls import Address
from shardcache.wire import Connection, Dialer, Pool, pack
from shardcache.wire.credentials import Login

__all__ = ("Shard",)

_PING = pack((b"PING",))
_CLOSED = State.CLOSED


class Shard(ShardState):
    """Sends packed commands to one server within a deadline, and none while it is out."""

    __slots__ = ("_dial", "_prober", "latest", "overdue", "pool")

    def __init__(
        self,
        dial: Dialer,
        breaker: Breaker,
        *,
        max_idle: int,
        timeout: float,
        hook: Hook | None,
        random: Callable[[], float],
        keys: str = "*",
    ) -> None:
        super().__init__(
            dial.shard,
            breaker,
            clock=dial.clock,
            timeout=timeout,
            hook=hook,
            random=random,
            keys=keys,
        )
        self._dial = dial
        self.pool = Pool(dial, max_idle, self.tally)
        self._prober: Worker | None = None
        self.overdue = OverdueConnections(self)
        # When the exchange that was answered last began, plus its timeout: for
        # `answers_later_than`.
        self.latest = 0.0
        dial.watch(self)

    def after_fork(self) -> None:
        """Replace what another thread of the parent may have held, and forget the prober."""
        self._lock = threading.RLock()
        self._prober = None
        self.overdue = OverdueConnections(self)
        self.breaker.new_period()  # those on trial were calls of the parent's threads

    def idle(self) -> int:
        return len(self.pool)

    def drop_idle(self) -> None:
        self.pool.empty()
        self.overdue.close()

    def follow(self, member: Member, *, in_service: bool) -> None:
        """Do what a topology says of the node.

        ``member``: the node.
        ``in_service``: whether the topology has it. If not, connections are closed as soon as
            nobody uses them, and no probes are sent. Calls that began before go on.
        """
        self.move(member.address)
        self.in_service = in_service
        self.pool.keep_idle(in_service)
        if not in_service:
            prober, self._prober = self._prober, None
            if prober is not None:
                prober.end()
        elif self.breaker.state is State.OPEN:
            self.start_probing()

    def close(self) -> None:
        """Close what lies idle, and the rest when it comes back; end the prober."""
        self.closed = True
        if self._prober is not None:
            self._prober.end()
        self.pool.close()
        self.drop_idle()

    close_soon = close

    @property
    def address(self) -> Address:
        """Where new connections go."""
        return self._dial.address

    def move(self, address: Address) -> None:
        """Go on at another address, from any thread.

        New connections go there. Idle ones are closed, those in use when they come back. What
        fails on these does not weigh on the new address, which is tried at once if the shard is
        out. Commands that were to take effect one behind the other may then do so on two servers.
        """
        with self._lock:
            if self.closed or address == self._dial.address:
                return
            self.pool.move(address)
        self._leave_former()

    def on_name_moved(self) -> None:
        """Do as `move` does: the host name of the address stands for others from now on."""
        with self._lock:
            if self.closed:
                return
            self.pool.renew()
        self._leave_former()

    def _leave_former(self) -> None:
        """Let go of what was begun with the former address."""
        prober, self._prober = self._prober, None
        if prober is not None:
            prober.end()
        self.overdue.close()
        self._note_move()

    def on_lookup(self, error: OSError | None) -> None:
        self._note_lookup(error)

    def look_up_again(self) -> None:
        self._dial.refresh()

    def call(self, payload: bytes, deadline: float, op: Op | OpGroup) -> Reply:
        """Send one command and return its reply; or a group, and return the list of its replies.

        Raises `ShardError` or `ClientClosed`, by the deadline. In a group a `ShardError` stands in
        the place of each error reply.
        """
        # The fast path. It takes and gives back itself; what goes wrong goes by a checkout.
        period = 0 if self.breaker.state is _CLOSED else self.admit()
        connection, fresh = None, True
        try:
            connection, fresh = self.pool.acquire(deadline)
            if op.number == 1:
                reply = connection.call(payload, deadline, op.values)
            else:
                reply = connection.call_many(payload, op.number, deadline, op.values)
            if reply.__class__ not in op.reply_types and not op.accepts(reply):
                raise OutOfStep(self.name, f"{op.name} was answered with {type(reply).__name__}")
        except BaseException as error:  # noqa: BLE001 - comes out, unless another try is worth it
            use = Checkout(self, deadline - self.timeout, deadline, period=period)
            use.adopt(connection, kept=not fresh)
            connection = use.recover(error, idempotent=op.idempotent)
            reply = self._second_try(use, connection, payload, deadline, op)
        # In step. The breaker is told only if there is something to forget, or a refusal.
        self.pool.release(connection)
        self.latest = deadline
        if op.number > 1:
            return self.record_replies(reply, period)
        if (
            reply.__class__ is ErrorReply
            or self.breaker.failures
            or self.breaker.state is not _CLOSED
        ):
            [reply] = self.record_replies([reply], period)
            if isinstance(reply, ShardError):
                raise reply
        return reply

    def _second_try(
        self,
        use: Checkout,
        connection: Connection,
        payload: bytes,
        deadline: float,
        op: Op | OpGroup,
    ) -> Reply:
        try:
            replies = connection.call_many(payload, op.number, deadline, op.values)
            reply = replies[0] if op.number == 1 else replies
            if not op.accepts(reply):
                raise OutOfStep(self.name, f"{op.name} was answered with {type(reply).__name__}")
        except BaseException as error:  # noqa: BLE001 - as in `call`
            use.end(error)
        return reply

    def listen(self, command: Command, timeout: float) -> Reply | ShardError:
        """Send a command that blocks on the server for up to ``timeout`` seconds.

        Return its reply, None if there is none, or what went wrong.
        """
        began = self.clock()
        try:
            use = Checkout(self, began, began + min(timeout + SERVER_TICK, self.timeout))
            connection = use.acquire(hurried=timeout < self.timeout)
        except ShardError as error:
            return error
        try:
            reply = connection.call(pack(command), self.clock() + timeout + SERVER_TICK)
            if not shapes_fit((command,), (reply,)):
                raise OutOfStep(self.name, f"listening was answered with {type(reply).__name__}")
        except TimeoutError:
            # The server takes a closed connection out of its line. That it is silent says nothing
            # about its health.
            use.abandon()
            return None
        except (OSError, ShardError) as error:
            return use.fail(error)
        except BaseException:
            use.abandon()
            raise
        return use.succeed([reply])[0]

    def reauthenticate(self, login: Login) -> None:
        """Log in anew over every idle connection; those in use are replaced when they come back.

        Raises nothing of the shard's.
        """
        payload = pack((b"AUTH", *login))
        deadline = self.clock() + self.timeout  # of all together
        refused: ErrorReply | None = None
        for connection in self.pool.retire():
            try:
                reply = connection.call(payload, deadline)
            except (OSError, ShardError):
                connection.close()
                continue
            except BaseException:
                connection.close()
                raise
            if isinstance(reply, ErrorReply):
                refused = reply
            self.pool.release(connection)
        if refused is not None:
            self.login_refused(refused)

    def answers_later_than(self, began: float) -> bool:
        return self.latest > began + self.timeout

    def start_probing(self) -> None:
        # The thread itself says whether it probes: a note would stay if it could not be started.
        if not self.in_service or self.closed:
            return
        if self._prober is not None and self._prober.is_alive():
            return
        self._prober = prober = Worker(
            f"prober of {self.name}", lambda: self._probe_until_answered(prober)
        )
        with suppress(ThreadNotStarted):  # the next call that finds the shard out tries again
            prober.begin(self._hook, "probe", shard=self.name)

    def _probe_until_answered(self, prober: Worker) -> None:
        """Probe until there is an answer: the one thread per process that does so."""
        # Two calls that came at once may have started one each: the last one stays.
        while prober.pause(self.next_probe()) != "end" and self._prober is prober:
            self.tally.probes += 1
            try:
                connection = self.probe()
            except ClientClosed:
                return
            # A credential provider may raise anything; without a prober the shard stays out.
            except Exception:  # noqa: BLE001
                self.suspect()
                continue
            if self._prober is not prober:  # the shard has moved: this was the former address
                connection.close()
                return
            # Before the shard is back: should it go out again at once, there is a new prober.
            self._prober = None
            self.probe_succeeded()
            self.pool.release(connection)
            return

    def probe(self, deadline: float | None = None) -> Connection:
        """Return a new connection over which a PING was answered, or raise."""
        deadline = deadline or self.clock() + self.timeout
        connection = self.pool.open(deadline)
        try:
            reply = connection.call(_PING, deadline)
        except BaseException:
            connection.close()
            raise
        if isinstance(reply, ErrorReply):
            error = self.named(reply)
            if is_down(error):
                connection.close()
                raise error
        return connection
