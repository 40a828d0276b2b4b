"""`AsyncQuorumLock`: the asyncio quorum lock."""

import asyncio
import warnings
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from shardcache.client_base import CacheBase
from shardcache.drivers.aio.runner import AsyncRunner
from shardcache.errors import (
    LockError,
    LockLost,
    LockNotAcquired,
    LockNotHeld,
    QuorumUnavailable,
)
from shardcache.keys import Key
from shardcache.locks.async_renewal import AsyncRenewal, this_task
from shardcache.locks.holder import Holder
from shardcache.locks.lease_handle import Hold, Taking
from shardcache.locks.lock_base import LockBase
from shardcache.locks.waiting import not_acquired, wait_time
from shardcache.options import Options
from shardcache.topology.nodes import Nodes

__all__ = ("AsyncQuorumLock",)


class AsyncQuorumLock(LockBase[AsyncRunner]):
    """A lock that one holder in the fleet has at a time, granted by a majority of its voters.

    ``cancel_on_loss``: whether the task in the ``async with`` block is cancelled when the lease
        ends under it; the block then raises `LockLost`. Default: False.
    ``nodes``: as in `QuorumLock`, with an `AsyncShardCache` or `AsyncQuorumLock` instead.
    ``owner``: as in `QuorumLock`; None (the default): the task.

    All else is as `QuorumLock`, with ``await`` and ``async with``; ``lost`` is an `asyncio.Event`.
    """

    _nodes_rule = "an AsyncQuorumLock may be an AsyncShardCache"

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
        # This keeps the lock alive whose end would close the connections.
        self._root = nodes if isinstance(nodes, AsyncQuorumLock) else None
        super().__init__(
            self._connect(nodes, options, namespace, AsyncRunner, AsyncRunner),
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
        self.lost: asyncio.Event = asyncio.Event()
        self._cancel_on_loss = bool(cancel_on_loss)
        self._guarded: asyncio.Task[Any] | None = None  # the task to cancel
        self._cancelled = False  # whether it was

    async def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take the lock; return whether it was taken.

        ``blocking``: whether to wait for it; False makes one attempt. Default: True.
        ``timeout``: seconds to wait; -1: without an end; None (the default): that of the handle.

        Without any timeout it waits as long as others hold the lock, but no longer than the ttl for
        a majority of the voters to answer. After a second of waiting, the hook and the log are told
        (`lock_waiting`). Returns False if others hold the lock all the time. Raises
        `QuorumUnavailable` at the end of that time if too many voters are out. A `deadline` around
        the call ends that time too. Without asyncio, raises `LockCycle` in a finalizer or signal
        handler that waits for the lock that its own thread is taking or releasing (docs/locks.md).
        """
        wait = wait_time(blocking, timeout, self._timeout)
        try:
            await self._enter(wait)
        except LockNotAcquired as error:
            return not_acquired(error)
        return True

    async def _enter(self, wait: float | None) -> Hold:
        again = self._enters_again(None)
        if again is not None:
            return again
        if wait == 0:
            return await self._driver.run(
                self._holder.acquire(0), self._holder.budget(0, bounded=True)
            )
        began, note = self._holder.clock(), self._holder.teller()
        async with self._driver.line.wait_turn(
            self._holder.plan.keys.lock,
            self._holder.turn_limit(wait),
            lambda: note(self._holder.others_first()),
        ) as came:
            if not came:
                raise self._holder.others_first()
            return await self._driver.run(
                self._holder.acquire(wait, began, note), self._holder.budget(wait, bounded=True)
            )

    async def release(self) -> None:
        """Release the lock.

        Raises `LockNotHeld` if this handle has no lease, and `LockLost` if the lease had ended
        before. Raises `QuorumUnavailable` if too few voters answered to be sure: then it may be
        called again, and the ttl ends the lease in any case.
        """
        taking = Taking()
        hold = self._leaves(taking)
        if hold is not None:
            await self._let_go(hold, taking)

    async def _let_go(self, hold: Hold, taking: Taking) -> None:
        hold.end_renewal()
        await self._driver.run(self._holder.release(hold, taking), self._holder.budget(0))

    async def extend(self, ttl: float | None = None) -> bool:
        """Start the ttl anew; return whether a majority has confirmed it.

        ``ttl``: seconds, 0.02 to 604 800, from now on instead of the former ttl; None (the default)
            keeps that.

        If it is False, too few voters answered: the lease ends when it would have ended, or with
        the new ttl if that is sooner. Raises `LockNotHeld` if this handle has no lease, `LockLost`
        if the lease has ended, `QuorumUnavailable` if the voters refuse it to this user, and
        `InvalidOption` for a ttl outside its range.
        """
        hold = self._holder.known("is not held, so it cannot be extended")
        try:
            return await self._extended(hold, ttl)
        finally:
            if ttl is not None:  # the next renewal may be due sooner
                hold.end_renewal()
                self._start(hold)

    async def _extended(self, hold: Hold, ttl: float | None) -> bool:
        try:
            async with hold.gate:
                return await self._driver.run(
                    self._holder.extend(hold, ttl), self._holder.budget(0)
                )
        except LockLost:
            self._lose(hold)
            raise

    async def adopt(self, token: str) -> None:
        """Take over a lease that was handed over; of several callers one gets it.

        ``token``: the text that `handover` returned, in any process.

        Raises `LockLost` if another caller has adopted it, or the lease has ended. Raises
        `QuorumUnavailable` if too few voters answer: then it may be tried again. Raises
        `InvalidArgument` for a text that is not from `handover`.
        """
        await self._driver.run(self._holder.adopt(token), self._holder.budget(0))

    async def locked(self) -> bool:
        """Return whether anybody holds the lock.

        Raises `QuorumUnavailable` if too few voters answer.
        """
        return (
            await self._driver.run(self._holder.inspect(), self._holder.budget(0, bounded=True))
            is not None
        )

    async def owner(self) -> Holder | None:
        """Return who holds the lock, since when, for how long, and on which voters; or None.

        Raises `QuorumUnavailable` if too few voters answer.
        """
        return await self._driver.run(self._holder.inspect(), self._holder.budget(0, bounded=True))

    async def force_release(self) -> int:
        """Take the lock from its holder; return on how many voters it was held.

        This is for the operator. The holder goes on until it looks at its lease; only its fencing
        token, where it is checked, keeps it from doing harm.
        """
        return await self._driver.run(self._holder.force_release(), self._holder.budget(0))

    async def close(self) -> None:
        """End any renewal, and close the connections of a lock with servers of its own.

        The lock is not released.
        """
        hold = self._holder.hold
        if hold is not None:
            hold.end_renewal()
            if hold.renewal is not None:
                await hold.renewal.wait()
        if self._holder.backend.owned:
            await self._driver.close()

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
        taking = Taking()
        hold = self._left(taking)
        if hold is None:
            return
        guarded, self._guarded = self._guarded, None
        # Was the block cancelled by us, since the lease ended, or also by somebody else?
        cut_off = self._cancelled and guarded is not None
        theirs = cut_off and await _absorb(guarded, kind)
        try:
            await self._let_go(hold, taking)
        except QuorumUnavailable as unsure:
            self._holder.leave_to_ttl(hold, unsure)
        except LockError:
            if error is None:  # otherwise the error of the block matters more
                raise
        # A cancellation of others goes on; ours becomes the loss of the lock.
        if theirs and kind is not asyncio.CancelledError:
            raise asyncio.CancelledError
        if cut_off and not theirs and (kind is None or kind is asyncio.CancelledError):
            raise LockLost(self.name, "the lease ended, and the block was cancelled") from error

    def __del__(self) -> None:
        holder = getattr(self, "_holder", None)  # None: an argument was refused
        if holder is not None and holder.backend.owned and holder.backend.driver.open:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            holder.backend.driver.drop()

    def _start(self, hold: Hold) -> None:
        if (self._auto_renew or self._cancel_on_loss) and not hold.over:
            pause = self._next(hold, "extended")
            hold.renewal = AsyncRenewal(self.name, self._renew, hold, pause)

    def _next(self, hold: Hold, outcome: str) -> float:
        """Return the seconds until the next renewal, or until the lease ends."""
        holder = self._holder
        return holder.next_pause(hold, outcome) if self._auto_renew else holder.left_of(hold)

    async def _renew(self, hold: Hold) -> float | None:
        """Extend the lease, if the user wants renewals.

        Return the seconds until the next look, None if there is none.
        """
        outcome = "unknown"
        try:
            if self._auto_renew and await self._extended(hold, None):
                outcome = "extended"
        except (LockLost, LockNotHeld):
            return None
        # After any error the lease ends by its ttl, and its holder must learn of it.
        except Exception as error:  # noqa: BLE001
            if hold.leaving or hold.over:
                return None
            self._note(error)
        pause = self._next(hold, outcome)
        if pause > 0:
            return pause
        self._lose(hold)
        return None

    @staticmethod
    def _caller() -> Hashable:
        return this_task()

    @staticmethod
    def _new_gate() -> asyncio.Lock:
        return asyncio.Lock()

    def _signal(self) -> None:
        super()._signal()
        if self._guarded is not None and not self._cancelled:
            self._cancelled = True
            self._guarded.cancel()


async def _absorb(guarded: "asyncio.Task[Any] | None", kind: type[BaseException] | None) -> bool:
    """Take back our own cancellation of the block; return whether others have cancelled it too."""
    theirs = guarded is not None and guarded.uncancel() > 0
    if kind is not asyncio.CancelledError:
        # The block ended before the cancellation was delivered; it would hit the next await.
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
    return theirs
