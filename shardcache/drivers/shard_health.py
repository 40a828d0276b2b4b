"""The state of one shard, for both drivers: its breaker, its counters, and the name of a failure.

Whoever has called a shard tells exactly one thing of it: `record_replies` (or `record_success`, in
short), `record_failure`, or `release_trial` if nothing became known.
"""

import math
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import copy

from shardcache.errors import (
    AuthenticationFailed,
    ClientClosed,
    OutOfStep,
    ReplyTooLarge,
    ShardError,
    ShardOut,
    ShardTimeout,
    ShardUnavailable,
    WritesRefused,
    WrongTopology,
)
from shardcache.events import Event, Hook, Kind, emit
from shardcache.flows.own_pause import held_up
from shardcache.policy.breaker import Breaker, State
from shardcache.resp import ErrorReply, Reply, as_error
from shardcache.stats import ShardStats, ShardTally
from shardcache.wire.shared_call import NotInTime

__all__ = ("ShardState", "is_down", "may_retry")

_REPLICA = "READONLY"  # stands in the replies of a replica to writes
# Of a member of a cluster that is well.
_OF_SLOTS = ("TRYAGAIN", "CLUSTERDOWN Hash slot not served")
_MOVED = "MOVED "
_LOST = 3  # deadlines after which nobody can still be on trial


class ShardState(ABC):
    """Keeps the breaker and the counters of one shard.

    A driver derives the class from it that has the connections, and probes the shard while it is
    out.

    ``only_reads``: whether it is there for reads from a replica of a cluster. Then a MOVED is a
    failure as if the server were down: by its map the keys are not its own, and another server has
    to be asked. An ASK is none: it is about the keys of a slot under way.
    ``suspect``: called when the server may have moved or changed its role: a connection was lost or
    could not be made, a reply did not come, or it says that it is a replica. It must neither block
    nor raise.
    """

    __slots__ = (
        "__weakref__",
        "_excused_until",
        "_hook",
        "_last",
        "_lock",
        "_moved_at",
        "_nameless",
        "_random",
        "_refusal",
        "_tried_at",
        "breaker",
        "clock",
        "closed",
        "in_service",
        "keys",
        "name",
        "only_reads",
        "suspect",
        "tally",
        "timeout",
    )

    def __init__(
        self,
        name: str,
        breaker: Breaker,
        *,
        clock: Callable[[], float],
        timeout: float,
        hook: Hook | None,
        random: Callable[[], float],
        keys: str = "*",
    ) -> None:
        self.name = name
        self.only_reads = False
        self.keys = keys  # the pattern that the client's keys match, for messages
        self.breaker = breaker
        self.clock = clock
        self.tally = ShardTally()
        self.closed = False
        self._refusal: Callable[[], ShardError] | None = None
        self.in_service = True  # whether the topology has its node
        self._hook = hook
        self._last: ShardError | None = None
        # Re-entrant: a finalizer or a signal handler may come in between and call the client.
        # Nothing waits while it is held.
        self._lock = threading.RLock()
        self._tried_at = 0.0  # when a call was last let in on trial
        self._moved_at = -math.inf  # when it got another address
        self._nameless = False  # whether its host name could not be looked up last
        self._random = random
        self.suspect: Callable[[], object] = lambda: None
        self._excused_until = 0.0
        self.timeout = timeout

    @abstractmethod
    def idle(self) -> int:
        """Return how many connections wait for use."""

    @abstractmethod
    def drop_idle(self) -> None:
        """Close the connections that wait for use: they were opened to a server that is gone."""

    @abstractmethod
    def start_probing(self) -> None:
        """Have the shard probed in the background, until `probe_succeeded`. Raises nothing."""

    def stats(self) -> ShardStats:
        """Return a frozen snapshot."""
        return self.tally.freeze(self.breaker.state.value, self.idle())

    def admit(self) -> int:
        """Take a place for a call while the shard is not in service, or raise `ShardOut`.

        Return the breaker's period that it is a place of; 0 if the shard is in service by now.
        """
        if self.closed:
            raise ClientClosed("the client is closed")
        with self._lock:
            now = self.clock()
            if (
                self.breaker.state is State.HALF_OPEN
                and now > self._tried_at + _LOST * self.timeout
            ):
                # The calls on trial were broken off before they could give their places back.
                self.breaker.new_period()
            if self.breaker.admit():
                self._tried_at = now
                return self.breaker.period if self.breaker.state is State.HALF_OPEN else 0
        if self.breaker.state is State.OPEN:
            # This may be a fork of the process that had the prober, or none could be started.
            self.start_probing()
        self.tally.refused_open += 1
        if self._refusal is not None:
            raise self._refusal()
        why = f" after: {self._last.reason}" if self._last else ""
        raise ShardOut(self.name, f"is out of service{why}") from self._last

    def refuse(self, why: Callable[[], ShardError]) -> None:
        """Refuse all calls from now on.

        ``why``: returns the error for one call.
        """
        self.in_service = False
        self.breaker.state = State.OPEN
        self._refusal = why

    def record_success(self, period: int | None = None) -> None:
        """Note a reply while there was something to forget.

        ``period``, here and below: what `admit` returned; see `Breaker.succeeded`.
        """
        with self._lock:
            back = self.breaker.succeeded(period)
        if back:
            self._last = None
            emit(self._hook, Event("shard_back", self.name))

    def release_trial(self, period: int | None = None) -> None:
        """Give back the place of a call that was broken off by its caller."""
        with self._lock:
            self.breaker.abandoned(period)

    def record_replies(self, replies: list[Reply], period: int | None = None) -> list[Reply]:
        """Put a `ShardError` in the place of each error reply, and note how the shard is doing."""
        if ErrorReply in set(map(type, replies)):
            replies = [
                self.named(reply) if reply.__class__ is ErrorReply else reply for reply in replies
            ]
            for reply in replies:
                if isinstance(reply, WritesRefused):  # is it a replica now, of another primary?
                    self.look_up_again()
                if is_down(reply):
                    self.record_failure(reply, dialled=False, period=period)
                    return replies
        if self.breaker.failures or self.breaker.state is not State.CLOSED:
            self.record_success(period)
        return replies

    def record_retry(self) -> None:
        """Note that a kept connection turned out to be dead: its siblings are no better."""
        self.tally.retries += 1
        self.drop_idle()

    def named(self, reply: ErrorReply) -> ShardError:
        """Return the error that an error reply stands for."""
        if _REPLICA in str(reply):
            self.suspect()
        error = as_error(self.name, reply, self.keys)
        if self.only_reads and str(reply).startswith(_MOVED):
            found = ShardUnavailable(self.name, f"does not read these keys: {error.reason}")
            found.__cause__ = error.__cause__
            return found
        return error

    @abstractmethod
    def look_up_again(self) -> None:
        """Have the host name looked up in the background: another server may have it now."""

    def _note_lookup(self, error: OSError | None) -> None:
        """Note that a look-up of the host name has failed, or takes too long; None: an answer."""
        if self.closed:
            return
        with self._lock:
            changed = self._nameless is (error is None)
            self._nameless = error is not None
        # One that takes too long may be told again and again.
        if error is not None and (changed or not isinstance(error, NotInTime)):
            self.tally.failed_lookups += 1
        if changed:
            kind: Kind = "lookup_back" if error is None else "lookup_failed"
            emit(self._hook, Event(kind, self.name, error=error))

    def _note_move(self) -> None:
        """Note that new connections go to another address, and have it tried at once."""
        self.tally.moves += 1
        with self._lock:
            self._moved_at = self.clock()
            self.breaker.moved()
        emit(self._hook, Event("shard_moved", self.name))

    def record_failure(
        self,
        error: OSError | ShardError,
        *,
        dialled: bool,
        hurried: bool = False,
        began: float | None = None,
        deadline: float = math.inf,
        stranded: bool = False,
        period: int | None = None,
        guessed: bool = False,
    ) -> ShardError:
        """Return the `ShardError` for an exchange that ended without a reply, and count it.

        ``dialled``: it happened while connecting.
        ``hurried``: it was given up before the call's own deadline, because several shards had to
        share that. Such a timeout weighs like any failure.
        ``began``: when the exchange began (None: unknown). A timeout weighs like any failure too
        if the shard has answered an exchange that began later. Nothing weighs what began before the
        shard had its address.
        ``deadline``: of the exchange. A timeout that is noticed long after it is this process' own
        doing.
        ``stranded``: the connection stood still while the shard answered on others. That weighs
        nothing.
        ``guessed``: ``began`` is as early as it can have been.
        """
        # Name it, and tell a hook of refused credentials.
        given = math.inf if began is None else None if guessed else deadline - began
        found = self.named_error(error, dialled, given)
        if found is not error and found.__cause__ is None:
            found.__cause__ = error
        if isinstance(found, AuthenticationFailed) or isinstance(
            found.__cause__, AuthenticationFailed
        ):
            emit(self._hook, Event("auth_failed", self.name, error=copy(found)))
        if isinstance(found, (ShardUnavailable, WrongTopology)) and not isinstance(
            found, OutOfStep
        ):
            self.suspect()
        # Then judge the shard by it. A reply that is too large says nothing about other keys, and
        # costs no time.
        if isinstance(found, ReplyTooLarge):
            self.tally.failures += 1
            self.release_trial(period)
        elif began is not None and began <= self._moved_at and isinstance(found, ShardUnavailable):
            self._unjudged(found, period)
        elif isinstance(found, ShardTimeout):
            if held_up(self.clock(), deadline):
                self._excused(found, period)
            elif stranded:
                self._unjudged(found, period)
            else:
                lonely = began is None or not self.answers_later_than(began)
                self._failed(found, timeout=not hurried, lonely=lonely, period=period)
        elif isinstance(found, ShardUnavailable):
            self._failed(found, period=period)
        else:
            self.release_trial(period)
        return found

    @abstractmethod
    def answers_later_than(self, began: float) -> bool:
        """Whether the shard has answered an exchange that began after this time.

        If it has, one without an answer says little about it.
        """

    def _excused(self, error: ShardTimeout, period: int | None) -> None:
        """Note a timeout after a pause of this process, in which it could not listen.

        All that were under way in one pause count as one failure at the most, and none if the
        shard is on trial. But a process that is late again and again must find out as well that a
        shard hangs.
        """
        now = self.clock()
        if now < self._excused_until or self.breaker.state is not State.CLOSED:
            self._unjudged(error, period)
        else:
            self._excused_until = now + self.timeout
            self._failed(error, period=period)

    def _unjudged(self, error: ShardError, period: int | None) -> None:
        """Count a failure that says nothing about the shard."""
        self.tally.failures += 1
        self.tally.timeouts += isinstance(error, ShardTimeout)
        self.release_trial(period)

    def named_error(
        self, error: OSError | ShardError, dialled: bool, given: float | None = math.inf
    ) -> ShardError:
        """Return the `ShardError` for an exchange that ended without a reply.

        ``dialled``: it ended while connecting.
        ``given``: seconds that the shard had, where that was less than a whole call has; None if
        that is not known.
        """
        if isinstance(error, (ShardUnavailable, OutOfStep)):
            return error
        if isinstance(error, TimeoutError):  # `NotInTime` is one
            # What is over: the call, or what one voter has of it.
            over = f"the deadline ({self._given})"
            if given is None:
                over = f"its time ({self._given}, or less in a step of it)"
            elif given < 0.99 * self.timeout:
                over = f"the {given:.3g} s that it has in this step of the call"
            if isinstance(error, NotInTime):
                return ShardTimeout(self.name, f"{error} took longer than {over}")
            doing = "no connection" if dialled else "no reply"
            return ShardTimeout(self.name, f"{doing} within {over}")
        if isinstance(error, ssl.SSLError) and (
            dialled or isinstance(error, ssl.SSLCertVerificationError)
        ):
            why = f"no TLS connection: {error}"
            if isinstance(error, ssl.SSLCertVerificationError):
                why = f"its certificate is not trusted: {error.verify_message}"
            refused = AuthenticationFailed(self.name, why)
            refused.__cause__, error = error, refused
        if isinstance(error, ShardError):
            # A wrong address, role or password is a mistake to be told; a server that has
            # served before and now says so is out of service.
            if not self.tally.connects:
                return error
            found = ShardUnavailable(
                self.name, f"{error.reason} (new connections were accepted before)"
            )
            found.__cause__ = error
            return found
        doing = "cannot connect" if dialled else "connection lost"
        return ShardUnavailable(self.name, f"{doing}: {error or type(error).__name__}")

    @property
    def _given(self) -> str:
        """Say how long a call may wait."""
        return f"{self.timeout:g} s for {'a replica' if self.only_reads else 'the whole call'}"

    def _failed(
        self,
        error: ShardError,
        *,
        timeout: bool = False,
        lonely: bool = True,
        period: int | None = None,
    ) -> None:
        tally = self.tally
        tally.failures += 1
        tally.timeouts += isinstance(error, ShardTimeout)
        # Without the traceback, which would keep the callers' frames alive.
        self._last = copy(error)
        with self._lock:
            opened = self.breaker.failed(timeout=timeout, lonely=lonely, period=period)
        if opened:
            tally.ejections += 1
            self.drop_idle()
            emit(self._hook, Event("shard_out", self.name, error=error))
            self.start_probing()

    def login_refused(self, reply: ErrorReply) -> None:
        """Note that the server does not take renewed credentials.

        Its connections stay logged in as they were.
        """
        why = (
            "renewed credentials are not taken, connections stay logged in as before: "
            f"{self.named(reply).reason}"
        )
        emit(
            self._hook,
            Event("auth_failed", self.name, "renew", error=AuthenticationFailed(self.name, why)),
        )

    def overdue_error(self) -> ShardError:
        """Return the error for a reply that has not come in time, without counting a failure."""
        return ShardTimeout(self.name, "did not answer in time")

    def next_probe(self) -> float:
        """Return the seconds until the next probe."""
        return self.breaker.next_delay(self._random())

    def probe_succeeded(self) -> None:
        """Note that a probe was answered: calls are let in again, a few at first."""
        with self._lock:
            self.breaker.probed(answered=True)


def is_down(error: object) -> bool:
    """Whether an error reply says that the server does not serve now.

    That it takes no writes says nothing about reads. That the keys of one command lie apart while
    their slot migrates, or that another member of a cluster has the slot, says nothing about it.
    """
    if not isinstance(error, ShardUnavailable) or isinstance(error, WritesRefused):
        return False
    cause = error.__cause__
    return not (isinstance(cause, ErrorReply) and str(cause).startswith(_OF_SLOTS))


def may_retry(error: BaseException) -> bool:
    """Whether a kept connection was simply dead: then a new one may do.

    Never after a timeout or nonsense.
    """
    return isinstance(error, OSError) and not isinstance(error, TimeoutError)
