"""One shard as a client sees it: its connections, its breaker, its counters, and who knocks while it is out."""

import ssl
import threading
from collections.abc import Callable
from typing import NoReturn

from shardcache.commands import ErrorReply, Reply, as_error
from shardcache.errors import (
    AuthenticationFailed,
    ClientClosed,
    OutOfStep,
    ShardError,
    ShardOut,
    ShardTimeout,
    ShardUnavailable,
)
from shardcache.events import Event, Hook, tell
from shardcache.policy.breaker import Breaker, State
from shardcache.stats import ShardStats, ShardTally
from shardcache.urls import Address
from shardcache.wire import Dialer, Link, Pool, pack

__all__ = ("Shard",)

_PING = pack((b"PING",))
_CLOSED = State.CLOSED


class Shard:
    """Sends packed commands to one server within a deadline, and keeps away from it while it is out."""

    __slots__ = (
        "_closing",
        "_dial",
        "_hook",
        "_last",
        "_lock",
        "_luck",
        "_prober",
        "_timeout",
        "address",
        "breaker",
        "clock",
        "name",
        "pool",
        "tally",
    )

    def __init__(
        self,
        dial: Dialer,
        breaker: Breaker,
        *,
        max_idle: int,
        timeout: float,
        hook: Hook | None,
        luck: Callable[[], float],
    ) -> None:
        self.name = dial.shard
        self.address: Address = dial.address
        self.clock = dial.clock
        self.breaker = breaker
        self.pool = Pool(dial, max_idle)
        self.tally = ShardTally()
        self._dial = dial
        self._hook = hook
        self._last: ShardError | None = None
        self._luck = luck
        self._timeout = timeout
        self._closing = threading.Event()
        self.after_fork()

    def after_fork(self) -> None:
        """Replace what another thread may have held, and forget threads that did not come along."""
        self._lock = threading.Lock()
        self._prober: threading.Thread | None = None
        self._closing = threading.Event()

    def stats(self) -> ShardStats:
        self.tally.connects = self.pool.connects
        return self.tally.freeze(self.breaker.state.value, len(self.pool))

    def close(self) -> None:
        self._closing.set()
        self.pool.close()

    def call(self, payload: bytes, deadline: float, twice: bool) -> Reply:
        """Send one command and return its reply. Raises `ShardError` or `ClientClosed`, by the deadline."""
        if self.breaker.state is not _CLOSED:
            self.admit()
        pool = self.pool
        retried = False
        while True:
            link, fresh = None, True
            try:
                link, fresh = pool.take(deadline)
                reply = link.call(payload, deadline)
            except (OSError, ShardError) as error:
                if link is not None:
                    link.close()
                    if twice and not fresh and not retried and may_retry(error):
                        retried = True
                        self.again()
                        continue
                raise self.lost(error, dialled=link is None) from error
            except BaseException:
                if link is not None:
                    link.close()
                self.abandon()
                raise
            pool.give(link)
            if reply.__class__ is ErrorReply:
                self.refused(reply)
            if self.breaker.failures or self.breaker.state is not _CLOSED:
                self.answered()
            return reply

    def admit(self) -> None:
        """Take a place for a call while the shard is not in service, or raise `ShardOut`."""
        with self._lock:
            if self.breaker.admit():
                return
            if self.breaker.state is State.OPEN and self._prober is None:
                self._knock_again()  # this is a fork of the process that had the prober
        self.tally.refused_open += 1
        why = f" after: {self._last.reason}" if self._last else ""
        raise ShardOut(self.name, f"is out of service{why}") from self._last

    def answered(self) -> None:
        """Note a reply while there was something to forget."""
        with self._lock:
            back = self.breaker.succeeded()
        if back:
            self._last = None
            tell(self._hook, Event("shard_back", self.name))

    def abandon(self) -> None:
        """Give back the place of a call that was broken off by its caller."""
        with self._lock:
            self.breaker.abandoned()

    def again(self) -> None:
        """Note that a kept connection turned out to be dead: its siblings are no better."""
        self.tally.retries += 1
        self.pool.empty()

    def refused(self, reply: ErrorReply) -> NoReturn:
        """Raise what an error reply stands for; "not serving now" counts as a failure of the shard."""
        error = as_error(self.name, reply)
        if isinstance(error, ShardUnavailable):
            self._failed(error)
        else:
            self.answered()
        raise error

    def lost(self, error: OSError | ShardError, *, dialled: bool, hurried: bool = False) -> ShardError:
        """Return the `ShardError` for an exchange that ended without a reply, and count it.

        ``dialled``: it happened while connecting. ``hurried``: before the call's own deadline,
        because several shards had to share it; such a timeout weighs like any failure.
        """
        found = self._named(error, dialled)
        if found is not error:
            found.__cause__ = error
        if isinstance(found, ShardUnavailable):
            self._failed(found, timeout=isinstance(found, ShardTimeout) and not hurried)
        else:
            self.abandon()
        return found

    def _named(self, error: OSError | ShardError, dialled: bool) -> ShardError:
        if isinstance(error, (ShardUnavailable, OutOfStep)):
            return error
        if isinstance(error, TimeoutError):
            doing = "no connection" if dialled else "no reply"
            return ShardTimeout(self.name, f"{doing} within the deadline ({self._timeout:g} s for the whole call)")
        if isinstance(error, ssl.SSLCertVerificationError):
            error = AuthenticationFailed(self.name, f"its certificate is not trusted: {error.verify_message}")
        if isinstance(error, ShardError):
            # A wrong address, role or password is a mistake to be told; a server that has
            # served before and now says so is out of service.
            return ShardUnavailable(self.name, error.reason) if self.pool.connects else error
        doing = "cannot connect" if dialled else "connection lost"
        return ShardUnavailable(self.name, f"{doing}: {error or type(error).__name__}")

    def _failed(self, error: ShardError, *, timeout: bool = False) -> None:
        tally = self.tally
        tally.failures += 1
        tally.timeouts += isinstance(error, ShardTimeout)
        self._last = error
        with self._lock:
            opened = self.breaker.failed(timeout=timeout)
            if opened:
                self._knock_again()
        if opened:
            tally.ejections += 1
            self.pool.empty()
            tell(self._hook, Event("shard_out", self.name, error=error))

    def _knock_again(self) -> None:
        self._prober = threading.Thread(target=self._knock, name=f"shardcache prober of {self.name}", daemon=True)
        self._prober.start()

    def _knock(self) -> None:
        """Ask after the shard until it answers: the one thread per process that touches it while it is out."""
        closing = self._closing
        while not closing.wait(self.breaker.next_delay(self._luck())):
            self.tally.probes += 1
            try:
                link = self.probe()
            except (OSError, ShardError):
                continue
            except ClientClosed:
                return
            with self._lock:
                self.breaker.probed(answered=True)
            self.pool.give(link)
            return

    def probe(self) -> Link:
        """Return a new link over which a PING was answered, or raise."""
        deadline = self.clock() + self._timeout
        link = self.pool.open(deadline)
        try:
            reply = link.call(_PING, deadline)
            if isinstance(reply, ErrorReply):
                raise as_error(self.name, reply)
        except BaseException:
            link.close()
            raise
        return link


def may_retry(error: BaseException) -> bool:
    """Whether a kept connection was simply dead: then a fresh one may do. Never after a timeout or nonsense."""
    return isinstance(error, OSError) and not isinstance(error, TimeoutError)
