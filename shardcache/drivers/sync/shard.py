"""One shard of the sync client: a pool of connections, and a thread that knocks while the shard is out."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from shardcache.drivers.replies import BLOCKING_REPLY_TYPES, check_reply
from shardcache.drivers.shard_health import ShardState, is_down
from shardcache.errors import ClientClosed, OutOfStep, ShardError, ThreadNotStarted
from shardcache.events import Hook
from shardcache.flows.steps import SERVER_TICK
from shardcache.policy.breaker import Breaker, State
from shardcache.resp import ErrorReply, Op, OpGroup, Reply
from shardcache.system.threads import Worker
from shardcache.wire import Connection, Dialer, Pool, ask, ask_many, pack
from shardcache.wire.credentials import Login

__all__ = ("Overdue", "Shard", "may_retry")

_PING = pack((b"PING",))
_CLOSED = State.CLOSED


class Overdue(NamedTuple):
    """A link that still owes replies which nobody waits for; after ``due`` they are overdue. ``overdue``: so they were at the last look."""

    connection: Connection
    owed: int
    due: float
    overdue: bool = False


class Shard(ShardState):
    """Sends packed commands to one server within a deadline, and keeps away from it while it is out."""

    __slots__ = ("_marked", "_prober", "latest", "overdue", "pool")

    def __init__(
        self,
        dial: Dialer,
        breaker: Breaker,
        *,
        max_idle: int,
        timeout: float,
        hook: Hook | None,
        random: Callable[[], float],
        echo_check: bool = False,
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
        self.pool = Pool(dial, max_idle, self.tally)
        self._marked = echo_check
        self._prober: Worker | None = None
        self.overdue: dict[int, Overdue] = {}  # by thread
        self.latest = 0.0  # the deadline that the exchange had which was answered last: when it began, and our timeout

    def after_fork(self) -> None:
        """Replace what another thread may have held, and forget the prober, which did not come along."""
        self._lock = threading.RLock()
        self._prober = None
        self.overdue = {}
        self.breaker.trials = 0  # those were calls of the parent's threads

    def idle(self) -> int:
        return len(self.pool)

    def drop_idle(self) -> None:
        self.pool.empty()
        while self.overdue:
            try:
                self.overdue.popitem()[1].connection.close()
            except KeyError:
                return

    def close(self) -> None:
        """Close what lies idle, and the rest when it comes back; end the prober."""
        self.closed = True
        if self._prober is not None:
            self._prober.end()
        self.pool.close()
        self.drop_idle()

    def call(self, payload: bytes, deadline: float, op: Op) -> Reply:
        """Send one command and return its reply. Raises `ShardError` or `ClientClosed`, by the deadline."""
        if self.breaker.state is not _CLOSED:
            self.admit()
        pool = self.pool
        retried = False
        while True:
            connection, fresh = None, True
            try:
                connection, fresh = pool.acquire(deadline)
                if self._marked:
                    reply = ask(connection, payload, deadline, op.values)
                else:
                    reply = connection.call(payload, deadline, op.values)
                if reply.__class__ not in op.reply_types and not op.accepts(reply):
                    raise OutOfStep(
                        self.name, f"{op.name} was answered with {type(reply).__name__}"
                    )
            except BaseException as error:  # noqa: BLE001  comes out again, unless it is worth another try
                self._broken(
                    error, connection, deadline, again=op.idempotent and not fresh and not retried
                )
                retried = True
                continue
            pool.release(connection)
            self.latest = deadline
            if reply.__class__ is ErrorReply:
                self.raise_refusal(reply)
            if self.breaker.failures or self.breaker.state is not _CLOSED:
                self.record_success()
            return reply

    def reauthenticate(self, login: Login) -> None:
        """Log in anew over every idle connection; those in use are replaced when they come back. Raises nothing of the shard's."""
        payload = pack((b"AUTH", *login))
        deadline = self.clock() + self.timeout  # of all together
        refused: ErrorReply | None = None
        for connection in self.pool.retire():
            try:
                reply = ask(connection, payload, deadline)
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

    def call_many(self, payload: bytes, deadline: float, ops: OpGroup) -> list[Reply]:
        """Send several commands and return their replies, error replies among them, as `call` does."""
        if self.breaker.state is not _CLOSED:
            self.admit()
        pool = self.pool
        retried = False
        while True:
            connection, fresh = None, True
            try:
                connection, fresh = pool.acquire(deadline)
                if self._marked:
                    replies = ask_many(connection, payload, ops.number, deadline, ops.values)
                else:
                    replies = connection.call_many(payload, ops.number, deadline, ops.values)
                if not ops.validate(replies):
                    raise OutOfStep(self.name, "the replies do not fit the commands")
            except BaseException as error:  # noqa: BLE001  as in `call`
                self._broken(
                    error, connection, deadline, again=ops.idempotent and not fresh and not retried
                )
                retried = True
                continue
            pool.release(connection)
            self.latest = deadline
            return replies

    def _broken(
        self, error: BaseException, connection: Connection | None, deadline: float, *, again: bool
    ) -> None:
        """Close the link of a call that failed. Return if it is worth another try; raise what came of it if not."""
        if connection is not None:
            connection.close()
        found = error
        try:
            if not isinstance(error, (OSError, ShardError)):
                self.release_trial()
            elif again and connection is not None and may_retry(error):
                self.record_retry()
                return
            else:
                found = self.record_failure(
                    error,
                    dialled=connection is None,
                    began=deadline - self.timeout,
                    deadline=deadline,
                )
            raise found
        finally:
            del error, found  # or they would keep this frame alive, and the frame them

    def answers_later_than(self, began: float) -> bool:
        return self.latest > began + self.timeout

    def reclaim(self) -> Overdue | None:
        """Return a link that nobody waited for: what is sent on it comes behind what it owes.

        This thread's own, so that its commands keep their order; or another's, if that owes nothing or is overdue.
        """
        me = threading.get_ident()
        while self.overdue:
            whose, late = me, self.overdue.pop(me, None)
            if late is None:
                whose = next(iter(list(self.overdue)), me)
                late = self.overdue.pop(whose, None)
                if late is None:  # another thread was faster
                    continue
            connection, owed, due, _ = late
            if connection.generation != self.pool.generation:
                connection.close()
                continue
            replies: list[Reply] = []
            now = self.clock()  # first: a pause of this process before the look at the socket leaves the server time to answer
            try:
                connection.feed()
                connection.drain(replies, owed)
            except (OSError, ShardError) as error:
                connection.close()
                if may_retry(error):
                    self.record_retry()
                else:
                    self.record_failure(error, dialled=False)
                continue
            if replies and (self.breaker.failures or self.breaker.state is not _CLOSED):
                self.record_success()  # nobody waited for it, but it is an answer
            owed -= len(replies)
            late = Overdue(connection, owed, due, overdue=owed > 0 and now > due)
            if whose == me or not owed or late.overdue:
                return late
            self.keep_overdue(late, whose)
            return None
        return None

    def keep_overdue(self, late: Overdue, whose: int | None = None) -> None:
        """Keep a link whose replies nobody waits for beside the pool, for the thread that used it."""
        if self.breaker.state is State.OPEN:
            late.connection.close()
            return
        kept = self.overdue.setdefault(threading.get_ident() if whose is None else whose, late)
        if kept is not late:
            late.connection.close()
        if self.closed:  # in this very moment
            self.drop_idle()

    def listen(self, payload: bytes, timeout: float) -> Reply | ShardError:
        """Send a command that blocks on the server; return its reply, None if there is none, or what went wrong."""
        try:
            if self.breaker.state is not _CLOSED:
                self.admit()
        except ShardError as error:
            return error
        began = self.clock()
        soon = began + min(timeout + SERVER_TICK, self.timeout)
        try:
            connection, _ = self.pool.acquire(soon)
        except (OSError, ShardError) as error:
            return self.record_failure(
                error, dialled=True, hurried=timeout < self.timeout, began=began, deadline=soon
            )
        try:
            reply = ask(connection, payload, self.clock() + timeout + SERVER_TICK)
            if reply.__class__ not in BLOCKING_REPLY_TYPES:
                raise OutOfStep(self.name, f"listening was answered with {type(reply).__name__}")
        except TimeoutError:
            connection.close()  # which takes us out of the server's line; that it is silent says nothing about its health
            self.release_trial()
            return None
        except (OSError, ShardError) as error:
            connection.close()
            return self.record_failure(error, dialled=False)
        except BaseException:
            connection.close()
            self.release_trial()
            raise
        self.pool.release(connection)
        return check_reply(self, reply)

    def start_probing(self) -> None:
        # The thread itself says whether it asks: a note of its own would stay when it could not be started.
        if self.closed or (self._prober is not None and self._prober.is_alive()):
            return
        self._prober = prober = Worker(
            f"prober of {self.name}", lambda: self._probe_until_answered(prober)
        )
        with suppress(ThreadNotStarted):  # the next call that finds the shard out tries again
            prober.begin(self._hook, "probe", shard=self.name)

    def _probe_until_answered(self, prober: Worker) -> None:
        """Ask after the shard until it answers: the one thread per process that touches it while it is out."""
        # Two calls that came at once may have started one each: the last one stays.
        while prober.pause(self.next_probe()) != "end" and self._prober is prober:
            self.tally.probes += 1
            try:
                connection = self.probe()
            except ClientClosed:
                return
            except Exception:  # noqa: BLE001  a credential provider may raise anything; without a prober the shard stays out
                continue
            self._prober = None  # before the shard is back: should it go out again at once, the next prober is a new one
            self.probe_succeeded()
            self.pool.release(connection)
            return

    def probe(self, deadline: float | None = None) -> Connection:
        """Return a new link over which a PING was answered, or raise."""
        deadline = deadline or self.clock() + self.timeout
        connection = self.pool.open(deadline)
        try:
            reply = (
                ask(connection, _PING, deadline)
                if self._marked
                else connection.call(_PING, deadline)
            )
        except BaseException:
            connection.close()
            raise
        if isinstance(reply, ErrorReply):
            error = self.named(reply)
            if is_down(error):
                connection.close()
                raise error
        return connection


def may_retry(error: BaseException) -> bool:
    """Whether a kept connection was simply dead: then a fresh one may do. Never after a timeout or nonsense."""
    return isinstance(error, OSError) and not isinstance(error, TimeoutError)
