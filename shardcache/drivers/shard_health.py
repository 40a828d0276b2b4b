"""The state of one shard, whatever the colour: its breaker, its counters, and what each failure is called."""

import math
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import copy
from typing import NoReturn

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
)
from shardcache.events import Event, Hook, emit
from shardcache.flows.own_pause import held_up
from shardcache.policy.breaker import Breaker, State
from shardcache.resp import ErrorReply, as_error
from shardcache.stats import ShardStats, ShardTally
from shardcache.wire.shared_call import NotInTime

__all__ = ("ShardState", "is_down")

_LOST = 3  # deadlines after which nobody can still be on trial


class ShardState(ABC):
    """Keeps the breaker and the books of one shard. Who holds connections, and knocks while it is out, derives from it."""

    __slots__ = (
        "_excused_until",
        "_hook",
        "_last",
        "_lock",
        "_random",
        "_tried_at",
        "breaker",
        "clock",
        "closed",
        "keys",
        "name",
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
        self.keys = keys  # the pattern that the client's keys match, for messages
        self.breaker = breaker
        self.clock = clock
        self.tally = ShardTally()
        self.closed = False
        self._hook = hook
        self._last: ShardError | None = None
        # Re-entrant: a finalizer or a signal handler may come in between and call the client. Nothing in there waits.
        self._lock = threading.RLock()
        self._tried_at = 0.0  # when a call was last let in on trial
        self._random = random
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
        """See to it that somebody asks after the shard in the background, and says `heard` when it answers. Raises nothing."""

    def stats(self) -> ShardStats:
        """Return a frozen snapshot."""
        return self.tally.freeze(self.breaker.state.value, self.idle())

    def admit(self) -> None:
        """Take a place for a call while the shard is not in service, or raise `ShardOut`."""
        if self.closed:
            raise ClientClosed("the client is closed")
        with self._lock:
            now = self.clock()
            if (
                self.breaker.state is State.HALF_OPEN
                and now > self._tried_at + _LOST * self.timeout
            ):
                self.breaker.trials = (
                    0  # whoever was let in has been broken off before he could give his place back
                )
            if self.breaker.admit():
                self._tried_at = now
                return
        if self.breaker.state is State.OPEN:
            self.start_probing()  # this may be a fork of the process that had the prober, or none could be started
        self.tally.refused_open += 1
        why = f" after: {self._last.reason}" if self._last else ""
        raise ShardOut(self.name, f"is out of service{why}") from self._last

    def record_success(self) -> None:
        """Note a reply while there was something to forget."""
        with self._lock:
            back = self.breaker.succeeded()
        if back:
            self._last = None
            emit(self._hook, Event("shard_back", self.name))

    def release_trial(self) -> None:
        """Give back the place of a call that was broken off by its caller."""
        with self._lock:
            self.breaker.abandoned()

    def record_retry(self) -> None:
        """Note that a kept connection turned out to be dead: its siblings are no better."""
        self.tally.retries += 1
        self.drop_idle()

    def named(self, reply: ErrorReply) -> ShardError:
        """Return the error that an error reply stands for."""
        return as_error(self.name, reply, self.keys)

    def raise_refusal(self, reply: ErrorReply) -> NoReturn:
        """Raise what an error reply stands for; "not serving now" counts as a failure of the shard."""
        error = self.named(reply)
        if is_down(error):
            self._failed(error)
        else:
            self.record_success()
        raise error

    def record_failure(
        self,
        error: OSError | ShardError,
        *,
        dialled: bool,
        hurried: bool = False,
        began: float | None = None,
        deadline: float = math.inf,
        stranded: bool = False,
    ) -> ShardError:
        """Return the `ShardError` for an exchange that ended without a reply, and count it.

        ``dialled``: it happened while connecting. ``hurried``: before the call's own deadline,
        because several shards had to share it; such a timeout weighs like any failure. So does one in an exchange that ``began`` before
        others which the shard has answered. If it was ``stranded`` on a connection while the shard answered others, it weighs nothing.
        One that is noticed long after ``deadline`` is this process' own doing.
        """
        found = self.named_error(error, dialled)
        if found is not error and found.__cause__ is None:
            found.__cause__ = error
        if isinstance(found, AuthenticationFailed) or isinstance(
            found.__cause__, AuthenticationFailed
        ):
            emit(self._hook, Event("auth_failed", self.name, error=copy(found)))
        if isinstance(found, ReplyTooLarge):  # says nothing about other keys, and cost no time
            self.tally.failures += 1
            self.release_trial()
        elif isinstance(found, ShardTimeout):
            if held_up(self.clock(), deadline):
                self._excused(found)
            elif stranded:
                self._unjudged()
            else:
                lonely = began is None or not self.answers_later_than(began)
                self._failed(found, timeout=not hurried, lonely=lonely)
        elif isinstance(found, ShardUnavailable):
            self._failed(found)
        else:
            self.release_trial()
        return found

    @abstractmethod
    def answers_later_than(self, began: float) -> bool:
        """Whether the shard has answered an exchange that began after this time: then one without an answer says little about it."""

    def _excused(self, error: ShardTimeout) -> None:
        """Note a timeout after a pause of this process, in which it could not listen.

        All that were under way in one pause count as one failure at the most, and none if the shard is on trial. But a process that is
        late again and again must find out as well that a shard hangs.
        """
        now = self.clock()
        if now < self._excused_until or self.breaker.state is not State.CLOSED:
            self._unjudged()
        else:
            self._excused_until = now + self.timeout
            self._failed(error)

    def _unjudged(self) -> None:
        """Count a timeout that says nothing about the shard."""
        self.tally.failures += 1
        self.tally.timeouts += 1
        self.release_trial()

    def named_error(self, error: OSError | ShardError, dialled: bool) -> ShardError:
        """Return the `ShardError` for an exchange that ended without a reply; ``dialled``: while connecting."""
        if isinstance(error, (ShardUnavailable, OutOfStep)):
            return error
        if isinstance(error, NotInTime):
            return ShardTimeout(
                self.name,
                f"{error} took longer than the deadline ({self.timeout:g} s for the whole call)",
            )
        if isinstance(error, TimeoutError):
            doing = "no connection" if dialled else "no reply"
            return ShardTimeout(
                self.name, f"{doing} within the deadline ({self.timeout:g} s for the whole call)"
            )
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

    def _failed(self, error: ShardError, *, timeout: bool = False, lonely: bool = True) -> None:
        tally = self.tally
        tally.failures += 1
        tally.timeouts += isinstance(error, ShardTimeout)
        self._last = copy(
            error
        )  # without the traceback, which would keep the callers' frames alive
        with self._lock:
            opened = self.breaker.failed(timeout=timeout, lonely=lonely)
        if opened:
            tally.ejections += 1
            self.drop_idle()
            emit(self._hook, Event("shard_out", self.name, error=error))
            self.start_probing()

    def login_refused(self, reply: ErrorReply) -> None:
        """Note that the server does not take renewed credentials: its connections stay logged in as they were."""
        why = f"renewed credentials are not taken, connections stay logged in as before: {self.named(reply).reason}"
        emit(
            self._hook,
            Event("auth_failed", self.name, "renew", error=AuthenticationFailed(self.name, why)),
        )

    def overdue_error(self) -> ShardError:
        """Return the error for a reply that has not come in time, without judging the shard for it yet."""
        return ShardTimeout(self.name, "did not answer in time")

    def next_probe(self) -> float:
        """Return the seconds until the next probe."""
        return self.breaker.next_delay(self._random())

    def probe_succeeded(self) -> None:
        """Note that a probe was answered: calls are let in again, a few at first."""
        with self._lock:
            self.breaker.probed(answered=True)


def is_down(error: object) -> bool:
    """Whether an error reply says that the server does not serve now. That it takes no writes says nothing about reads."""
    return isinstance(error, ShardUnavailable) and not isinstance(error, WritesRefused)
