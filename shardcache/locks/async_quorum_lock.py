"""`AsyncQuorumLock`: the asyncio colour."""

import asyncio
import warnings
import weakref
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from shardcache.client_base import CacheBase
from shardcache.drivers.aio.runner import AsyncRunner
from shardcache.errors import (
    InvalidArgument,
    LockError,
    LockLost,
    LockNotAcquired,
    LockNotHeld,
    QuorumUnavailable,
)
from shardcache.flows.context import ClientContext
from shardcache.flows.lock import Lease
from shardcache.flows.lock.planner import LockPlanner
from shardcache.keys import Key
from shardcache.locks.holder import Holder
from shardcache.locks.lease_handle import Hold
from shardcache.locks.lock_base import LONE, LockBase
from shardcache.options import Options
from shardcache.topology.nodes import Nodes, members

__all__ = ("AsyncQuorumLock",)


class AsyncQuorumLock(LockBase):
    """A lock that one holder in the fleet has at a time, granted by a majority of independent servers.

    All as `QuorumLock`, with ``await`` and ``async with``; ``nodes`` may be an `AsyncShardCache`, the default owner of a
    re-entrant lock is the task, and ``lost`` is an `asyncio.Event`. ``cancel_on_loss``: the task in the ``async with`` block is cancelled
    when the lease ends under it, and the block raises `LockLost`.
    """

    _runner: AsyncRunner
    _own: bool

    def __init__(
        self,
        name: Key,
        ttl: float = 10.0,
        *,
        nodes: "Nodes | CacheBase | AsyncQuorumLock",
        timeout: float | None = None,
        auto_renew: bool = False,
        cancel_on_loss: bool = False,
        on_lost: Callable[[Self], object] | None = None,
        reentrant: bool = False,
        owner: Hashable = None,
        voters: Sequence[str] | None = None,
        voter_timeout: float | None = None,
        label: str | None = None,
        namespace: str | None = None,
        options: Options | None = None,
    ) -> None:
        planner, hook = self._connect(nodes, options, namespace)
        super().__init__(
            planner,
            hook,
            name,
            ttl,
            timeout=timeout,
            auto_renew=auto_renew,
            on_lost=on_lost,
            reentrant=reentrant,
            owner=owner,
            voters=voters,
            voter_timeout=voter_timeout,
            label=label,
        )
        self.lost = asyncio.Event()
        self._cancel_on_loss = bool(cancel_on_loss)
        self._guarded: asyncio.Task[Any] | None = None  # the task to cancel
        self._cancelled = False  # whether it was

    def _connect(
        self,
        nodes: "Nodes | CacheBase | AsyncQuorumLock",
        options: Options | None,
        namespace: str | None,
    ) -> tuple[LockPlanner, Any]:
        self._check_namespace(namespace, shared=isinstance(nodes, (CacheBase, AsyncQuorumLock)))
        if isinstance(nodes, AsyncQuorumLock):
            self._runner, self._own = nodes._runner, False
            self._root = nodes  # whose connections are closed when nobody has it any more
            return nodes._planner, nodes._hook
        if isinstance(nodes, CacheBase):
            runner = nodes._driver
            if not isinstance(runner, AsyncRunner):
                raise InvalidArgument(
                    f"nodes of an AsyncQuorumLock may be an AsyncShardCache, got {type(nodes).__name__}"
                )
            self._runner, self._own = runner, False
            return nodes._locks, nodes._context.options.on_event
        context = ClientContext.of_lock(
            members(nodes), options, LONE if namespace is None else namespace
        )
        self._runner, self._own = AsyncRunner(context), True
        return LockPlanner(context), context.options.on_event

    async def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take the lock; return whether it was taken.

        ``timeout``: seconds to wait for it; -1: without an end; left out: that of the handle. With none anywhere it waits as long as others hold
        it, but for a majority of the voters to answer no longer than the ttl. After a second of waiting the hook hears of it (`lock_waiting`), and
        the log. Returns False if others hold it all the time. Raises
        `QuorumUnavailable`, once the time is over, if too many voters are out.
        """
        wait = self._wait(blocking, timeout, self._timeout)
        try:
            await self._enter(wait)
        except LockNotAcquired as error:
            return self._refused(error)
        return True

    async def _enter(self, wait: float | None) -> Hold:
        again = self._enters_again()
        if again is not None:
            return again
        if wait == 0:
            return await self._runner.run(self._acquire(0), self._budget(0))
        began, note = self._clock(), self._teller()
        async with self._runner.line.wait_turn(
            self._plan.keys.lock, wait, lambda: note(self._others_first())
        ) as came:
            if not came:
                raise self._others_first()
            return await self._runner.run(self._acquire(wait, began, note), self._budget(wait))

    async def release(self) -> None:
        """Let go of the lock.

        Raises `LockNotHeld` without a lease, `LockLost` if it had ended before, `QuorumUnavailable` if too few voters answered to
        be sure: then it may be called again, and the ttl ends the lease in any case.
        """
        hold = self._leaves()
        if hold is not None:
            await self._let_go(hold)

    async def _let_go(self, hold: Hold) -> None:
        self._stop(hold)
        await self._runner.run(self._release(hold), self._budget(0))

    async def extend(self, ttl: float | None = None) -> bool:
        """Start the ttl anew (with another ``ttl``, from now on); return whether a majority has confirmed it.

        False: too few answered, and the lease ends when it would have, or with the new ttl if that is sooner.
        Raises `LockLost` if it has ended, `LockNotHeld` without a lease, `QuorumUnavailable` if the voters do not let this user do it.
        """
        hold = self._known("is not held, so it cannot be extended")
        try:
            return await self._extended(hold, ttl)
        finally:
            if ttl is not None:  # the next renewal may be due sooner
                self._stop(hold)
                self._start(hold)

    async def _extended(self, hold: Hold, ttl: float | None) -> bool:
        async with hold.gate:
            return await self._runner.run(self._extend(hold, ttl), self._budget(0))

    async def adopt(self, token: str) -> None:
        """Take over the lease that ``token`` stands for (from `handover`, in any process). Of several who do so, one gets it.

        Raises `LockLost` if somebody else has adopted it, or it has ended; `QuorumUnavailable` if too few voters answer, and then it
        may be tried again.
        """
        await self._runner.run(self._adopt(token), self._budget(0))

    async def locked(self) -> bool:
        """Return whether anybody holds the lock. Raises `QuorumUnavailable` if too few voters answer."""
        return await self._runner.run(self._inspect(), self._budget(0)) is not None

    async def owner(self) -> Holder | None:
        """Return who holds the lock, since when, on which voters and for how long still; None if nobody does."""
        return await self._runner.run(self._inspect(), self._budget(0))

    async def force_release(self) -> int:
        """Take the lock from whoever holds it; return on how many voters it was held.

        For the operator: the holder goes on until it looks. Its fencing token is what keeps it from doing harm.
        """
        return await self._runner.run(self._break(), self._budget(0))

    async def close(self) -> None:
        """Close the connections of a lock that was made from URLs, ending any renewal. Does not release."""
        hold = self._hold
        if hold is not None:
            self._stop(hold)
            watch = hold.renewal
            if (
                watch is not None
                and watch.get_loop() is asyncio.get_running_loop()
                and watch is not _this_task()
            ):
                await asyncio.wait([watch])
        if self._own:
            await self._runner.close()

    async def __aenter__(self) -> Self:
        self._note_entered(await self._enter(self._timeout))
        if self._cancel_on_loss:
            self._guarded, self._cancelled = asyncio.current_task(), False
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        entry = self._entry()
        hold = None if entry is None else self._left(entry)
        if hold is None:
            return
        guarded, self._guarded = self._guarded, None
        cut_off = self._cancelled and guarded is not None  # by ourselves
        theirs = cut_off and await _absorb(guarded, kind)
        try:
            await self._let_go(hold)
        except QuorumUnavailable as unsure:
            self._kept(hold, unsure)
        except LockError:
            if error is None:  # else the body's own error matters more
                raise
        if theirs and kind is not asyncio.CancelledError:
            raise asyncio.CancelledError
        if cut_off and not theirs and (kind is None or kind is asyncio.CancelledError):
            raise LockLost(self.name, "the lease ended, and the block was cancelled") from error

    def __del__(self) -> None:
        if getattr(self, "_own", False) and self._runner.open:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self._runner.drop()

    def _took(self, lease: Lease) -> Hold:
        self.lost.clear()
        if self._hold is not None:
            self._stop(self._hold)
        return super()._took(lease)

    def _start(self, hold: Hold) -> None:
        if (self._auto_renew or self._cancel_on_loss) and not hold.over:
            watch = _watch(weakref.ref(self), hold, self._next(hold, "extended"))
            hold.renewal = asyncio.get_running_loop().create_task(
                watch, name=f"shardcache renewal of {self.name}"
            )

    def _next(self, hold: Hold, outcome: str) -> float:
        return self._pause(hold, outcome) if self._auto_renew else self._left_of(hold)

    async def _renew(self, hold: Hold) -> float | None:
        """Extend, if asked to; return the seconds until the next time, None if there is none."""
        outcome = "unknown"
        try:
            if self._auto_renew and await self._extended(hold, None):
                outcome = "extended"
        except (LockLost, LockNotHeld):
            return None
        except Exception as error:  # noqa: BLE001  whatever it was, the lease ends by its ttl, and its holder must learn of it
            if hold.leaving or hold.over:
                return None
            self._note(error)
        pause = self._next(hold, outcome)
        if pause > 0:
            return pause
        self._lose(hold)
        return None

    def _stop(self, hold: Hold) -> None:
        watch: asyncio.Task[None] | None = hold.renewal
        if watch is None or watch.done() or watch is _this_task():
            return
        loop = watch.get_loop()
        if loop is _this_loop():
            watch.cancel()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(watch.cancel)

    def _caller(self) -> Hashable:
        return _this_task()

    def _gate(self) -> asyncio.Lock:
        return asyncio.Lock()

    def _signal(self) -> None:
        self.lost.set()
        if self._guarded is not None and not self._cancelled:
            self._cancelled = True
            self._guarded.cancel()


async def _watch(find: "weakref.ref[AsyncQuorumLock]", hold: Hold, pause: float | None) -> None:
    """Renew, and notice the end of the lease, until nobody has the lock any more: what nobody can release shall end by its ttl."""
    while pause is not None:
        await asyncio.sleep(pause)
        lock = find()
        if lock is None:
            return
        pause = await lock._renew(hold)
        del lock  # or it would never be nobody's


async def _absorb(guarded: "asyncio.Task[Any] | None", kind: type[BaseException] | None) -> bool:
    """Take back our own cancellation of the block; return whether somebody else has cancelled it too."""
    theirs = guarded is not None and guarded.uncancel() > 0
    if kind is not asyncio.CancelledError:
        # The block ended before the cancellation could be delivered: it would hit what comes next.
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
    return theirs


def _this_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _this_task() -> "asyncio.Task[Any] | None":
    return None if _this_loop() is None else asyncio.current_task()
