"""Which nodes there are, asked again and again by one thread, off the path of calls.

Theory
------
A source is a function without arguments that says which nodes there are: it reads a file, asks DNS,
a Sentinel or a cluster. It may be slow, fail, lie, or hang. So no call waits for it, except for the
very first answer; and what it said last stays in use until it says something else that is good.

What a poll brings, or a call asks:

- an answer that differs from the last one: `apply` gets it; if that raises, the poll has failed.
- the same answer: nothing.
- an error, or an empty answer: the last good answer stays, and the pause until the next poll grows.
- no answer for ``timeout`` seconds: the same. This poll is waited for: there is no other beside it.
- `NodeWatch.refresh`: the next poll comes at once, or when the shortest pause is over.
- `refresh` during a poll: one more poll behind it, since this one may have looked too early. Not if
  what it was about is settled by then (`NodeWatch.refresh_unless`).
- a fork: the child has the last answer and no thread; its next use starts one.

The state (failing or not) is told once when it changes: `discovery_failed`, `discovery_back`.

Two threads: one that sleeps, decides and applies, and lives as long as the client; and one for each
poll, which may hang without harm. The first refers to the client only while it is at work, so that
a client that nobody has any more goes at once, and the thread with it.

The very first answer is waited for by the calls that need it, each by its own deadline. Once there
is an outcome, or one call has waited in vain, further calls fail at once, until there is an answer:
a source that hangs costs a process one deadline, not one for each call.
"""

import asyncio
import inspect
import weakref
from collections.abc import Callable, Hashable
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from math import inf
from typing import Any, Generic, TypeVar

from shardcache.drivers.error_copy import copy_error
from shardcache.errors import (
    ClientClosed,
    DiscoveryFailed,
    ShardCacheError,
    ShardError,
    ThreadNotStarted,
)
from shardcache.events import Event, Hook, emit
from shardcache.policy.poll_pace import PollPace
from shardcache.stats import DiscoveryStats, DiscoveryTally
from shardcache.system.forked import ForkedObjects
from shardcache.system.threads import Worker
from shardcache.wire.shared_call import SharedCall

__all__ = ("NodeWatch",)

T = TypeVar("T")
_forked = ForkedObjects()


class NodeWatch(Generic[T]):
    """Polls a source, and hands on what it answers when that has changed.

    ``source``: called without arguments, in a thread; what it returns is compared by ``==``, and
        counts as no answer if it is empty or None.
    ``apply``: called with an answer that differs from the one before, in the thread of the watch. A
        bound method is held weakly, so that the watch does not keep its client alive.
    ``interval``: seconds between two polls, jittered by a quarter.
    ``timeout``: seconds after which a poll that has not ended counts as failed.
    ``hook``: gets the events.
    ``clock``: the time in seconds.
    ``random``: random numbers from 0 to 1.
    ``name``: what events and errors call the source; without credentials. Default: the name of the
        function, or of the type.

    Nothing is asked before the first use.
    """

    __slots__ = (
        "__weakref__",
        "_answer",
        "_answered",
        "_apply",
        "_asked",
        "_call",
        "_clock",
        "_closed",
        "_failing",
        "_hook",
        "_outcome",
        "_overdue",
        "_pace",
        "_random",
        "_source",
        "_tally",
        "_timeout",
        "_trouble",
        "_worker",
        "interval",
        "name",
    )

    def __init__(
        self,
        source: Callable[[], T],
        apply: Callable[[T], object],
        *,
        interval: float,
        timeout: float,
        hook: Hook | None,
        clock: Callable[[], float],
        random: Callable[[], float],
        name: str = "",
    ) -> None:
        self._source = source
        self._apply: Callable[[], Callable[[T], object] | None] = (
            weakref.WeakMethod(apply) if inspect.ismethod(apply) else lambda: apply
        )
        self.interval = interval
        self._timeout = timeout
        self._hook = hook
        self._clock = clock
        self._random = random
        self.name = name or getattr(source, "__qualname__", type(source).__qualname__)
        self._call: SharedCall[T] = SharedCall("asking for the nodes")
        self._closed = False
        self._worker: Worker | None = None
        self._tally = DiscoveryTally()
        # Of the polls. `_asked`: why there is to be one more than the interval gives; by what it is
        # about, whether that is settled by now.
        self._pace = PollPace(interval, random)
        self._asked: dict[Hashable, Callable[[], bool]] = {}
        self._overdue = False
        # Of the answers. `_trouble`: why the last poll gave none, or none in time for a call.
        self._answer: T | None = None
        self._answered = False
        self._trouble: DiscoveryFailed | None = None
        self._failing = False  # what the hook was told last
        # The first outcome, good or bad, under the one key "first". It is made when it is first
        # used: made before gevent has patched the process, it would stop the whole process.
        self._outcome: dict[str, Future[None]] = {}
        _forked.add(self)

    def ensure(self, deadline: float, hurried: bool = False) -> None:
        """Return when there has been a good answer; wait for it until ``deadline``.

        ``hurried``: whether others would wait longer, so that a wait in vain is not theirs too.

        It is a matter of some hundred nanoseconds if there has been one.

        Raises `DiscoveryFailed` if there is none: at ``deadline``, or at once if the last poll has
        failed or an earlier call has waited in vain. Raises `ClientClosed`.
        """
        first = self._awaited()
        if first is not None:
            wait([first], max(deadline - self._clock(), 0.0))
            self._check_answered(hurried)

    async def ensure_async(self, deadline: float, hurried: bool = False) -> None:
        """As `ensure`, on an event loop, which goes on. ``deadline`` is of the loop's clock."""
        first = self._awaited()
        if first is None:
            return
        loop = asyncio.get_running_loop()
        waiting = asyncio.wrap_future(first)
        try:
            await asyncio.wait([waiting], timeout=max(deadline - loop.time(), 0.0))
        finally:
            waiting.cancel()
        self._check_answered(hurried)

    def refresh(self) -> None:
        """Have the source polled soon, since the nodes may have changed. Returns at once.

        However often this is called, there is one poll at a time, and one behind it.
        """
        self.refresh_unless(None, _never)

    def refresh_unless(self, about: Hashable, settled: Callable[[], bool]) -> None:
        """Do as `refresh` does, but poll for no more than what is still open when it is due.

        ``about``: what it is about; of several calls about the same, the last one counts.
        ``settled``: whether the answer that is in use by then says it already. It must neither
            block nor raise, and is called in the thread of the watch.
        """
        if self._closed:
            return
        # Looked at before it is written: a storm of calls wakes the thread once. Who finds it set
        # is served by the poll that has not begun.
        known = bool(self._asked)
        self._asked[about] = settled
        if not known:
            worker = self._worker
            if worker is not None:
                worker.look()
        self.check()

    def check(self) -> None:
        """Start the thread if there is none: in a forked child, or after a failed start."""
        if not self.alive and not self._closed:
            self._start()

    @property
    def alive(self) -> bool:
        """Whether there is a thread that polls."""
        worker = self._worker
        return worker is not None and worker.is_alive()

    @property
    def trouble(self) -> DiscoveryFailed | None:
        """Why the last poll brought no nodes, or none in time; None if nothing is wrong."""
        trouble = None if self._trouble is None else copy_error(self._trouble)
        return trouble if isinstance(trouble, DiscoveryFailed) else None

    def close(self) -> None:
        """End the thread. A poll under way is not waited for, and its answer is not used."""
        self._closed = True
        self._asked.clear()
        if self._worker is not None:
            self._worker.end()
        self._settle()

    def stats(self) -> DiscoveryStats:
        """Return a frozen snapshot of the counters."""
        return self._tally.freeze(ok=self._answered and self._trouble is None)

    def __del__(self) -> None:
        worker = getattr(self, "_worker", None)  # none if the constructor raised
        if worker is not None:
            worker.end()

    def after_fork(self) -> None:
        """Forget the thread and the poll of the parent. The answer stays."""
        self._worker = None
        self._asked.clear()
        self._overdue = False
        if not self._answered:
            # This process has an outcome of its own to wait for.
            self._outcome.clear()
            self._trouble = None
            self._pace = PollPace(self.interval, self._random)

    # What calls do.

    def _awaited(self) -> "Future[None] | None":
        """Return what to wait for; None if there has been a good answer."""
        self.check()
        if self._closed:
            raise ClientClosed("the client is closed")
        if self._answered:
            return None
        if self._trouble is not None:
            raise copy_error(self._trouble)
        return self._first()

    def _check_answered(self, hurried: bool) -> None:
        if self._answered:
            return
        if self._closed:
            raise ClientClosed("the client is closed")
        trouble = self._trouble
        if trouble is None:
            trouble = DiscoveryFailed(self.name, "no answer by the deadline of the call")
            if not hurried:
                # The thread tells the hook, when `timeout` is over.
                self._trouble = trouble
        raise copy_error(trouble)

    def _start(self) -> None:
        watch, timeout, clock = weakref.ref(self), self._timeout, self._clock
        # Two calls that came at once may start one each: the last one stays.
        self._worker = worker = Worker(
            "discovery", lambda: _poll_forever(watch, worker, timeout, clock)
        )
        try:
            worker.begin(self._hook, "discovery")
        except ThreadNotStarted as error:
            if not self._answered:
                self._trouble = DiscoveryFailed(self.name, str(error))
            return
        if not self._first().done():
            self._trouble = None

    def _first(self) -> "Future[None]":
        """Return what the calls that need the first answer wait for."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # so that no caller can cancel it for the others
        return self._outcome.setdefault("first", future)

    def _settle(self) -> None:
        with suppress(InvalidStateError):  # another thread was faster, or it is not the first one
            self._first().set_result(None)

    # What the thread does.

    def belongs_to(self, worker: Worker) -> bool:
        """Return whether ``worker`` is the thread that polls."""
        return self._worker is worker and not self._closed

    def pause(self) -> float:
        """Return the seconds until the next poll, 0 if it is due."""
        for about, settled in list(self._asked.items()):
            if settled():
                self._asked.pop(about, None)
        return self._pace.wait(self._clock(), asked=bool(self._asked))

    def ask(self) -> "Future[T]":
        """Begin a poll; return the future of its answer."""
        self._asked.clear()  # whoever asks from now on may know more than this poll will find
        self._tally.polls += 1
        return self._call.start(self._source, may_block=True, hook=self._hook)

    def be_overdue(self) -> None:
        """Note that the poll under way has not ended in time."""
        self._overdue = True
        self._fail(f"no answer for {self._timeout:g} s", None)

    def take(self, polled: "Future[T]") -> None:
        """Use the outcome of a poll, which has ended."""
        error = polled.exception()
        changed = False
        if error is None:
            answer = polled.result()
            try:
                changed = self._use(answer)
            except BaseException as refused:  # noqa: BLE001  noted, and the thread goes on
                error = refused
        if error is not None:
            self._pace.failed(self._clock())
            if self._overdue:  # and counted already
                self._overdue = False
            else:
                self._fail(_reason(error), error)
            return
        # It was good: whatever was wrong is over.
        self._pace.succeeded(self._clock())
        self._overdue = False
        self._answered, self._trouble = True, None
        self._tally.changes += changed
        self._settle()
        if self._failing:
            self._failing = False
            emit(self._hook, Event("discovery_back", self.name))

    def _use(self, answer: T) -> bool:
        """Hand on an answer if it is a new one; return whether it is. Raises if it is not good."""
        if not answer:
            raise DiscoveryFailed(self.name, "it named no nodes")
        if self._answered and answer == self._answer:
            return False
        apply = self._apply()
        if apply is not None:
            apply(answer)
        self._answer = answer
        return True

    def _fail(self, reason: str, cause: BaseException | None) -> None:
        self._tally.failures += 1
        failed = DiscoveryFailed(self.name, reason)
        failed.__cause__ = cause
        self._trouble = failed
        self._settle()
        if not self._failing:
            self._failing = True
            emit(self._hook, Event("discovery_failed", self.name, error=failed))


def _never() -> bool:
    """Return False: only a poll can tell."""
    return False


def _poll_forever(
    ref: "weakref.ref[NodeWatch[Any]]",
    worker: Worker,
    timeout: float,
    clock: Callable[[], float],
) -> None:
    """Poll until the watch is closed or gone: the one thread per client and process that does."""
    while (watch := ref()) is not None and watch.belongs_to(worker):
        pause = watch.pause()
        until = clock() + timeout  # a poll is overdue by the time that it began
        polled = watch.ask() if pause <= 0 else None
        watch = None  # while this waits, the client may go
        if polled is None:
            if worker.pause(pause) == "end":
                return
            continue
        polled.add_done_callback(lambda _: worker.look())
        while not polled.done():
            left = until - clock()
            if left <= 0:
                left = until = inf
                if (watch := ref()) is not None:
                    watch.be_overdue()
                watch = None
            if worker.pause(left) == "end":
                return
        if (watch := ref()) is not None and watch.belongs_to(worker):
            watch.take(polled)


def _reason(error: BaseException) -> str:
    """Return what a log may say of an error: a foreign text may have credentials in it (G7)."""
    if isinstance(error, ShardError):
        return error.reason
    return str(error) if isinstance(error, ShardCacheError) else type(error).__name__
