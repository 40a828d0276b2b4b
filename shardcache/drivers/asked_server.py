"""Servers that are asked about others: members of a cluster, Sentinels.

All are asked at once, each over a connection of its own that is closed behind the answer, and in a
thread of its own: one that hangs delays nobody.
"""

from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Generic, TypeVar

from shardcache.errors import AuthenticationFailed, ShardCacheError, ShardError
from shardcache.events import Event, Hook, emit
from shardcache.urls import Address
from shardcache.wire import Connection, Dialer
from shardcache.wire.shared_call import SharedCall

__all__ = ("AskedServer", "has_answered", "wait_for_answers")

T = TypeVar("T")


class AskedServer(Generic[T]):
    """One of them: what asks it, one question at a time.

    ``dial``: opens connections to it.
    ``hook``: is told, once, that it refuses the login.
    ``silent``: whether it did not answer the last time.
    """

    __slots__ = ("_call", "_dial", "_hook", "_told", "silent")

    def __init__(self, dial: Dialer, hook: Hook | None) -> None:
        self.silent = False
        self._told = False  # that it refuses the login
        self._dial = dial
        self._hook = hook
        self._call: SharedCall[T] = SharedCall(f"asking {dial.shard}")

    @property
    def name(self) -> str:
        """What errors and events call it."""
        return self._dial.shard

    @property
    def address(self) -> Address:
        """Where it is."""
        return self._dial.address

    def begin(self, question: Callable[[Connection], T], deadline: float) -> "Future[T]":
        """Have ``question`` asked in a thread of its own; return the future of the answer."""

        def ask() -> T:
            connection = self._dial(deadline)
            try:
                return question(connection)
            finally:
                connection.close()

        # Without a thread they are asked one after the other, all by one deadline.
        return self._call.start(ask, may_block=True, hook=self._hook)

    def failure(self, future: "Future[T]") -> BaseException | None:
        """Return why it has not answered by now; None if it has. Note which it is."""
        error = future.exception() if future.done() else TimeoutError("no answer in time")
        self.silent = error is not None
        if error is None:
            self._told = False
        return error

    def why(self, error: BaseException) -> str:
        """Return in words why it has not answered; tell of a refused login, once."""
        if isinstance(error, AuthenticationFailed) and not self._told:
            self._told = True
            emit(self._hook, Event("auth_failed", self.name, error=error))
        if isinstance(error, ShardError):
            said = error.reason
        elif isinstance(error, (ShardCacheError, OSError)):
            said = str(error)
        else:  # a foreign text may have credentials in it
            said = ""
        return f"{self.name}: {said or type(error).__name__}"


def wait_for_answers(
    asking: "Collection[Future[T]]",
    until: float,
    clock: Callable[[], float],
    left: Callable[[], float],
) -> None:
    """Wait for answers, or until it is not worth waiting any more.

    ``until``: the deadline, by ``clock``.
    ``left``: returns the seconds that those which have not answered still have, as far as the
        answers that there are decide it. Once that is less, it stays less.
    """
    waiting = set(asking)
    while waiting:
        done, waiting = wait(waiting, max(until - clock(), 0.0), return_when=FIRST_COMPLETED)
        if not done:
            break
        until = min(until, clock() + left())


def has_answered(future: "Future[T]") -> bool:
    """Whether there is an answer by now."""
    return future.done() and future.exception() is None
