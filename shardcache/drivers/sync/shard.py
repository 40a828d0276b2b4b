"""One shard of the sync client: a pool of connections, and a thread that knocks while the shard is out."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from shardcache.drivers.replies import HEARD, heard
from shardcache.drivers.shard_health import ShardState, is_down
from shardcache.errors import ClientClosed, OutOfStep, ShardError, ThreadNotStarted
from shardcache.events import Hook
from shardcache.flows.steps import GRACE
from shardcache.policy.breaker import Breaker, State
from shardcache.resp import ErrorReply, Op, OpGroup, Reply
from shardcache.system.threads import Worker
from shardcache.wire import Dialer, Link, Pool, ask, ask_many, pack
from shardcache.wire.credentials import Login

__all__ = ("Late", "Shard", "may_retry")

_PING = pack((b"PING",))
_CLOSED = State.CLOSED


class Late(NamedTuple):
    """A link that still owes replies which nobody waits for; after ``due`` they are overdue. ``overdue``: so they were at the last look."""

    link: Link
    owed: int
    due: float
    overdue: bool = False


class Shard(ShardState):
    """Sends packed commands to one server within a deadline, and keeps away from it while it is out."""

    __slots__ = ("_marked", "_prober", "late", "latest", "pool")

    def __init__(
        self,
        dial: Dialer,
        breaker: Breaker,
        *,
        max_idle: int,
        timeout: float,
        hook: Hook | None,
        luck: Callable[[], float],
        echo_check: bool = False,
        keys: str = "*",
    ) -> None:
        super().__init__(dial.shard, breaker, clock=dial.clock, timeout=timeout, hook=hook, luck=luck, keys=keys)
        self.pool = Pool(dial, max_idle, self.tally)
        self._marked = echo_check
        self._prober: Worker | None = None
        self.late: dict[int, Late] = {}  # by thread
        self.latest = 0.0  # the deadline that the exchange had which was answered last: when it began, and our timeout

    def after_fork(self) -> None:
        """Replace what another thread may have held, and forget the prober, which did not come along."""
        self._lock = threading.RLock()
        self._prober = None
        self.late = {}
        self.breaker.trials = 0  # those were calls of the parent's threads

    def idle(self) -> int:
        return len(self.pool)

    def drop_idle(self) -> None:
        self.pool.empty()
        while self.late:
            try:
                self.late.popitem()[1].link.close()
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
            link, fresh = None, True
            try:
                link, fresh = pool.take(deadline)
                if self._marked:
                    reply = ask(link, payload, deadline, op.values)
                else:
                    reply = link.call(payload, deadline, op.values)
                if reply.__class__ not in op.kinds and not op.takes(reply):
                    raise OutOfStep(self.name, f"{op.name} was answered with {type(reply).__name__}")
            except BaseException as error:  # noqa: BLE001  comes out again, unless it is worth another try
                self._broken(error, link, deadline, again=op.twice and not fresh and not retried)
                retried = True
                continue
            pool.give(link)
            self.latest = deadline
            if reply.__class__ is ErrorReply:
                self.refused(reply)
            if self.breaker.failures or self.breaker.state is not _CLOSED:
                self.answered()
            return reply

    def reauthenticate(self, login: Login) -> None:
        """Log in anew over every idle connection; those in use are replaced when they come back. Raises nothing of the shard's."""
        payload = pack((b"AUTH", *login))
        deadline = self.clock() + self.timeout  # of all together
        refused: ErrorReply | None = None
        for link in self.pool.retire():
            try:
                reply = ask(link, payload, deadline)
            except (OSError, ShardError):
                link.close()
                continue
            except BaseException:
                link.close()
                raise
            if isinstance(reply, ErrorReply):
                refused = reply
            self.pool.give(link)
        if refused is not None:
            self.login_refused(refused)

    def call_many(self, payload: bytes, deadline: float, ops: OpGroup) -> list[Reply]:
        """Send several commands and return their replies, error replies among them, as `call` does."""
        if self.breaker.state is not _CLOSED:
            self.admit()
        pool = self.pool
        retried = False
        while True:
            link, fresh = None, True
            try:
                link, fresh = pool.take(deadline)
                if self._marked:
                    replies = ask_many(link, payload, ops.number, deadline, ops.values)
                else:
                    replies = link.call_many(payload, ops.number, deadline, ops.values)
                if not ops.fits(replies):
                    raise OutOfStep(self.name, "the replies do not fit the commands")
            except BaseException as error:  # noqa: BLE001  as in `call`
                self._broken(error, link, deadline, again=ops.twice and not fresh and not retried)
                retried = True
                continue
            pool.give(link)
            self.latest = deadline
            return replies

    def _broken(self, error: BaseException, link: Link | None, deadline: float, *, again: bool) -> None:
        """Close the link of a call that failed. Return if it is worth another try; raise what came of it if not."""
        if link is not None:
            link.close()
        found = error
        try:
            if not isinstance(error, (OSError, ShardError)):
                self.abandon()
            elif again and link is not None and may_retry(error):
                self.again()
                return
            else:
                found = self.lost(error, dialled=link is None, began=deadline - self.timeout, deadline=deadline)
            raise found
        finally:
            del error, found  # or they would keep this frame alive, and the frame them

    def answers_later_than(self, began: float) -> bool:
        return self.latest > began + self.timeout

    def recall(self) -> Late | None:
        """Return a link that nobody waited for: what is sent on it comes behind what it owes.

        This thread's own, so that its commands keep their order; or another's, if that owes nothing or is overdue.
        """
        me = threading.get_ident()
        while self.late:
            whose, late = me, self.late.pop(me, None)
            if late is None:
                whose = next(iter(list(self.late)), me)
                late = self.late.pop(whose, None)
                if late is None:  # another thread was faster
                    continue
            link, owed, due, _ = late
            if link.generation != self.pool.generation:
                link.close()
                continue
            replies: list[Reply] = []
            now = (
                self.clock()
            )  # first: a pause of this process before the look at the socket leaves the server time to answer
            try:
                link.feed()
                link.drain(replies, owed)
            except (OSError, ShardError) as error:
                link.close()
                if may_retry(error):
                    self.again()
                else:
                    self.lost(error, dialled=False)
                continue
            if replies and (self.breaker.failures or self.breaker.state is not _CLOSED):
                self.answered()  # nobody waited for it, but it is an answer
            owed -= len(replies)
            late = Late(link, owed, due, overdue=owed > 0 and now > due)
            if whose == me or not owed or late.overdue:
                return late
            self.keep(late, whose)
            return None
        return None

    def keep(self, late: Late, whose: int | None = None) -> None:
        """Keep a link whose replies nobody waits for beside the pool, for the thread that used it."""
        if self.breaker.state is State.OPEN:
            late.link.close()
            return
        kept = self.late.setdefault(threading.get_ident() if whose is None else whose, late)
        if kept is not late:
            late.link.close()
        if self.closed:  # in this very moment
            self.drop_idle()

    def listen(self, payload: bytes, patience: float) -> Reply | ShardError:
        """Send a command that blocks on the server; return its reply, None if there is none, or what went wrong."""
        try:
            if self.breaker.state is not _CLOSED:
                self.admit()
        except ShardError as error:
            return error
        began = self.clock()
        soon = began + min(patience + GRACE, self.timeout)
        try:
            link, _ = self.pool.take(soon)
        except (OSError, ShardError) as error:
            return self.lost(error, dialled=True, hurried=patience < self.timeout, began=began, deadline=soon)
        try:
            reply = ask(link, payload, self.clock() + patience + GRACE)
            if reply.__class__ not in HEARD:
                raise OutOfStep(self.name, f"listening was answered with {type(reply).__name__}")
        except TimeoutError:
            link.close()  # which takes us out of the server's line; that it is silent says nothing about its health
            self.abandon()
            return None
        except (OSError, ShardError) as error:
            link.close()
            return self.lost(error, dialled=False)
        except BaseException:
            link.close()
            self.abandon()
            raise
        self.pool.give(link)
        return heard(self, reply)

    def knock(self) -> None:
        # The thread itself says whether it asks: a note of its own would stay when it could not be started.
        if self.closed or (self._prober is not None and self._prober.is_alive()):
            return
        self._prober = prober = Worker(f"prober of {self.name}", lambda: self._knock(prober))
        with suppress(ThreadNotStarted):  # the next call that finds the shard out tries again
            prober.begin(self._hook, "probe", shard=self.name)

    def _knock(self, prober: Worker) -> None:
        """Ask after the shard until it answers: the one thread per process that touches it while it is out."""
        # Two calls that came at once may have started one each: the last one stays.
        while prober.pause(self.next_knock()) != "end" and self._prober is prober:
            self.tally.probes += 1
            try:
                link = self.probe()
            except ClientClosed:
                return
            except Exception:  # noqa: BLE001  a credential provider may raise anything; without a prober the shard stays out
                continue
            self._prober = (
                None  # before the shard is back: should it go out again at once, the next prober is a new one
            )
            self.heard()
            self.pool.give(link)
            return

    def probe(self, deadline: float | None = None) -> Link:
        """Return a new link over which a PING was answered, or raise."""
        deadline = deadline or self.clock() + self.timeout
        link = self.pool.open(deadline)
        try:
            reply = ask(link, _PING, deadline) if self._marked else link.call(_PING, deadline)
        except BaseException:
            link.close()
            raise
        if isinstance(reply, ErrorReply):
            error = self.named(reply)
            if is_down(error):
                link.close()
                raise error
        return link


def may_retry(error: BaseException) -> bool:
    """Whether a kept connection was simply dead: then a fresh one may do. Never after a timeout or nonsense."""
    return isinstance(error, OSError) and not isinstance(error, TimeoutError)
