"""A function that may block for long, run in a thread of its own, whose result callers share.

Looking up a host name, asking a credential provider, reading certificates: none of them takes a
deadline, and each can block for half a minute. So none runs in the thread of a call (G4), nor on
an event loop. A caller waits until its own deadline. While the function runs, further callers wait
for the same result: a service that hangs costs one thread, not one for each call and each probe.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, Generic, TypeVar

from shardcache.errors import ThreadNotStarted
from shardcache.events import Hook
from shardcache.system.threads import Worker

__all__ = ("NotBegun", "NotInTime", "SharedCall")

T = TypeVar("T")


class NotInTime(TimeoutError):
    """A step of opening a connection was not done by the deadline; the text names the step."""


class NotBegun(OSError):
    """A step of opening a connection was not begun, because the system had no thread for it."""


class SharedCall(Generic[T]):
    """Runs one function at a time.

    No lock is held while foreign code runs, and a forked child does not wait for a thread of its
    parent.

    ``what``: the name of the step, for `NotInTime`.
    """

    __slots__ = ("_running", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._running: dict[int, Future[T]] = {}  # by process id; at most one of this process

    @property
    def running(self) -> bool:
        """Whether the function runs, or is about to, in this process."""
        return os.getpid() in self._running

    def start(
        self, function: Callable[[], T], *, may_block: bool, hook: Hook | None = None
    ) -> Future[T]:
        """Run ``function`` in a thread, unless one runs already; return the future of its result.

        ``may_block``: run it in the caller's thread if the system gives no thread. If it may not
            block, the future ends with `NotBegun` then.
        ``hook``: is told if the system gives no thread.
        """
        me = os.getpid()
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # so that no caller can cancel it for the others
        try:
            # setdefault is atomic, so of several callers at once only one starts a thread.
            running = self._running.setdefault(me, future)
            if running is not future:
                return running
            # After a fork: the threads of the parent do not run in this process.
            for process in self._running.keys() - {me}:
                self._running.pop(process, None)
            try:
                self._begin(lambda: self._run(function, future), hook)
            except ThreadNotStarted as error:
                if may_block:
                    self._run(function, future)
                else:
                    self._end(future, error=NotBegun(f"{self._what}: {error.__cause__}"))
        except BaseException:  # a signal handler raised: the callers that wait must not hang
            self._end(future, error=ConnectionAbortedError(f"{self._what} was broken off"))
            raise
        return future

    def get(
        self,
        function: Callable[[], T],
        deadline: float,
        clock: Callable[[], float],
        hook: Hook | None = None,
    ) -> T:
        """Return what ``function`` returns, or raise what it raises; `NotInTime` at ``deadline``.

        Raises `NotBegun` if the system gives no thread: without one the deadline could not be kept.

        ``hook``: as in `start`.
        """
        future = self.start(function, may_block=False, hook=hook)
        wait([future], max(deadline - clock(), 0))
        return self._result(future)

    async def get_async(
        self, function: Callable[[], T], deadline: float, hook: Hook | None = None
    ) -> T:
        """As `get`, on an event loop, which goes on. ``deadline`` is of the loop's clock."""
        future = self.start(function, may_block=False, hook=hook)
        waiting = asyncio.wrap_future(future)
        try:
            await asyncio.wait(
                [waiting], timeout=max(deadline - asyncio.get_running_loop().time(), 0)
            )
        finally:
            waiting.cancel()  # else asyncio logs a later error as one that nobody retrieved
        return self._result(future)

    def _begin(self, run: Callable[[], None], hook: Hook | None) -> None:
        """Have ``run`` called in a thread, or raise `ThreadNotStarted`."""
        Worker(self._what, run).begin(hook, "connect")

    def _result(self, future: "Future[T]") -> T:
        if not future.done():
            raise NotInTime(self._what)
        return future.result()

    def _run(self, function: Callable[[], T], future: "Future[T]") -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001  the callers that wait raise it
            self._end(future, error=error)
        else:
            self._end(future, result)

    def _end(
        self, future: "Future[T]", result: Any = None, error: BaseException | None = None
    ) -> None:
        me = os.getpid()
        # This comes first, so that a caller that comes from now on gets a newer result.
        if self._running.get(me) is future:
            self._running.pop(me, None)
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
