"""One use of one shard: from the breaker's consent until the breaker knows what came of it.

Theory of operation
-------------------
A breaker counts failures in a row, and the calls that are on trial while a shard comes back. So a
call that it lets through tells it exactly one thing, however the call ends: an answer, a failure,
or that nothing became known. And a connection goes back to its pool only if it is in step (G1). A
checkout holds both, the place at the breaker and the connection, and ends both together:

    state       method     the connection is    the breaker is told              next state
    ---------   --------   ------------------   ------------------------------   ----------
    -           (made)     -                    nothing: it lets the call        ADMITTED
                                                through, or `ShardOut` is raised
    ADMITTED    acquire    taken or opened      nothing                          CONNECTED
    ADMITTED    acquire_   this thread's own,   nothing; or as `fail` and        CONNECTED,
                in_order   else as `acquire`    `keep`                           or OVER
    ADMITTED    adopt      the caller's, if it  nothing                          CONNECTED, or
                           has one                                               ADMITTED
    CONNECTED   succeed    given back           an answer; or a failure, if      OVER
                                                the server does not serve now
    CONNECTED   keep       kept as overdue      nothing became known             OVER
    CONNECTED   recover    closed, and a new    nothing (the pool is emptied:    CONNECTED
                           one is opened        the others in it are dead too)
    either      end,       closed               a failure; or that nothing       OVER
                fail                            became known
    either      abandon    closed, when the     nothing became known             OVER
                           server has read it
    OVER        abandon    -                    nothing                          OVER

`acquire` ends by itself if there is no connection. So does `recover`, unless another try is worth
it: only in place of a kept connection that turned out to be dead (its server may have restarted),
and only for commands that may be sent twice. A new connection is never replaced, so that is once
at most.

In ADMITTED there is no connection, and `recover` does what `end` does; in OVER, ``over`` is true.

Whoever has a checkout leaves it OVER. A caller that is interrupted (by KeyboardInterrupt, say)
calls `abandon`, which may be called in each state.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from shardcache.drivers.shard_health import may_retry
from shardcache.drivers.sync.overdue import Overdue
from shardcache.errors import ShardError, ShardOut
from shardcache.flows.steps import Batch
from shardcache.policy.breaker import State
from shardcache.resp import ErrorReply, Reply
from shardcache.wire import Connection

if TYPE_CHECKING:
    from shardcache.drivers.sync.shard import Shard

__all__ = ("Checkout",)

_CLOSED = State.CLOSED

# Requests that one connection may owe. A hung server that wakes up reads 16 KiB in one go: eight
# requests, and what compensates them. If we have closed the connection meanwhile, its first reply
# is answered by a reset, and what it has not read by then is lost.
_MOST_OWED = 8


class Checkout:
    """See the table above. Times are in seconds of the shard's clock.

    ``began``: when the exchange began.
    ``deadline``: when a shard that has not answered is late.
    ``until``: the time up to which the caller waits for a connection; None: ``deadline``. If it is
        earlier, having got no connection says nothing about the shard.
    ``period``: what `ShardState.admit` has returned to a caller that has asked the breaker itself.
    ``owed``: how many replies to earlier exchanges come first on the connection.
    ``due``: when the next reply is overdue.
    ``over``: whether the checkout has ended.
    """

    __slots__ = (
        "_began",
        "_connection",
        "_deadline",
        "_kept",
        "_period",
        "_shard",
        "_until",
        "due",
        "over",
        "owed",
    )

    def __init__(
        self,
        shard: "Shard",
        began: float,
        deadline: float,
        until: float | None = None,
        period: int | None = None,
    ) -> None:
        if period is None:
            period = 0 if shard.breaker.state is _CLOSED else shard.admit()
        self._shard = shard
        self._period = period
        self._until = deadline if until is None else until
        self._began = began
        self._deadline = deadline
        self._connection: Connection | None = None
        self._kept = False  # whether the connection was opened for an earlier exchange
        self.owed = 0  # replies to earlier exchanges, which come first on this connection
        self.due = deadline  # when the next reply is overdue
        self.over = False

    def adopt(self, connection: Connection | None, *, kept: bool) -> None:
        """Go on with what a call has taken of the pool, if it has come to that."""
        self._connection, self._kept = connection, kept

    def acquire(self, parts: int = 1, *, hurried: bool = False) -> Connection:
        """Return a connection of the pool, or a new one; raise `ShardError` if there is none.

        ``parts``: how many shards are still to be asked, this one among them; see `Pool.open`.
        ``hurried``: as in `ShardState.record_failure`; always if there are others to be asked.
        """
        try:
            connection, fresh = self._shard.pool.acquire(self._until, parts)
        except BaseException as error:  # noqa: BLE001 - it comes out of there, or what it means
            self.end(error, hurried=hurried or parts > 1)
        self._connection = connection
        self._kept = not fresh
        return connection

    def acquire_in_order(self, batch: Batch, payload: bytes, parts: int) -> Connection:
        """Return a connection on which a batch takes effect behind this thread's earlier ones.

        That is the one whose replies nobody has waited for, if there is one. Raises `ShardError`
        if its replies are overdue, or are too many to send still more. What compensates earlier
        commands (``payload``) is sent behind them all the same.
        """
        overdue = self._shard.overdue
        if batch.compensates and overdue.broken_off:
            now = self._shard.clock()
            overdue.wait_for_broken_off(now + (self._until - now) / (parts + 1))
        taken = overdue.take()
        if taken is None:
            return self.acquire(parts)
        self._connection, self.owed, self.due, _ = taken
        self._kept = True
        if taken.overdue:
            if batch.compensates:
                # As far as its buffers take it. The server reads that when it wakes up.
                with suppress(OSError):
                    taken.connection.send_some(payload)
            # What has failed is the earlier exchange: it began its timeout before it was due.
            self._began = taken.due - (self._deadline - self._began)
            raise self.fail(TimeoutError())
        if taken.owed >= _MOST_OWED and not (batch.compensates or batch.after_pending):
            self.keep(taken.owed, taken.due)
            raise ShardOut(self._shard.name, f"has {taken.owed} requests still to answer")
        return taken.connection

    def succeed(self, replies: list[Reply]) -> list[Reply]:
        """End with replies; return them, with a `ShardError` in the place of each error reply."""
        shard = self._shard
        # From here on it is the pool's: a caller that is interrupted must not close it.
        connection, self._connection = self._connection, None
        if connection is not None:
            shard.pool.release(connection)
        self.over = True
        latest = self._began + shard.timeout
        if latest > shard.latest:  # noqa: PLR1730 - in a third of the time
            shard.latest = latest
        if (
            shard.breaker.failures
            or shard.breaker.state is not _CLOSED
            or ErrorReply in set(map(type, replies))
        ):
            return shard.record_replies(replies, self._period)
        return replies  # there is nothing to tell the breaker, nor to put in a reply's place

    def keep(self, owed: int, due: float) -> None:
        """End without waiting for ``owed`` replies, of which the next is overdue after ``due``."""
        connection, self._connection = self._connection, None  # as in `succeed`
        if connection is not None:
            self._shard.overdue.keep(Overdue(connection, owed, due))
        self.over = True
        if self._period:
            self._shard.release_trial(self._period)

    def recover(self, error: BaseException, *, idempotent: bool, parts: int = 1) -> Connection:
        """Return a new connection if another try is worth it. If not, end, and raise the error.

        ``error``: what went wrong with the connection.
        ``parts``: as in `acquire`.
        """
        try:
            if self._connection is None or not (idempotent and self._kept and may_retry(error)):
                self.end(error)
            self._connection.close()
            self._connection, self._kept = None, False
            self.owed, self.due = 0, self._deadline
            self._shard.record_retry()
            try:
                self._connection = connection = self._shard.pool.open(self._until, parts)
            except BaseException as another:  # noqa: BLE001 - as in `acquire`
                self.end(another, hurried=parts > 1)
            return connection
        finally:
            del error  # or it would keep this frame alive, and the frame it

    def fail(self, error: OSError | ShardError, *, hurried: bool = False) -> ShardError:
        """End by an error; return the `ShardError` that it means.

        ``hurried``: as in `ShardState.record_failure`.
        """
        shard, dialled = self._shard, self._connection is None
        if dialled and isinstance(error, TimeoutError) and self._until < self._deadline:
            self.abandon()
            return shard.overdue_error()
        self._close()
        return shard.record_failure(
            error,
            dialled=dialled,
            hurried=hurried,
            began=self._began,
            deadline=self._deadline,
            period=self._period,
        )

    def abandon(self) -> None:
        """End, whatever the state, without having learnt anything of the shard."""
        if not self.over:
            if self._connection is not None:
                self._shard.overdue.break_off(self._connection)
                self._connection = None
            self.over = True
            if self._period:
                self._shard.release_trial(self._period)

    def end(self, error: BaseException, *, hurried: bool = False) -> NoReturn:
        """End by an error of any kind, and raise what it means; see `fail`."""
        try:
            if isinstance(error, (OSError, ShardError)):
                raise self.fail(error, hurried=hurried)
            self.abandon()
            raise error
        finally:
            del error  # as in `recover`

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self.over = True
