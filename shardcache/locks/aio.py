"""`AsyncQuorumLock`: the asyncio colour."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import Any, Self

from shardcache.base import CacheBase
from shardcache.drivers.arun import AsyncRunner
from shardcache.errors import InvalidArgument, LockConflict, LockError, LockLost, LockNotAcquired, QuorumUnavailable
from shardcache.flows.core import Core
from shardcache.flows.lock import Lease
from shardcache.flows.lock.room import LockRoom
from shardcache.keys import Key
from shardcache.locks.base import LockBase
from shardcache.locks.holder import Holder
from shardcache.options import Options
from shardcache.topology import Nodes, members

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
        options: Options | None = None,
    ) -> None:
        room, hook = self._connect(nodes, options)
        super().__init__(
            room,
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
        self._watch: asyncio.Task[None] | None = None

    def _connect(self, nodes: "Nodes | CacheBase | AsyncQuorumLock", options: Options | None) -> tuple[LockRoom, Any]:
        if isinstance(nodes, AsyncQuorumLock):
            self._runner, self._own = nodes._runner, False
            return nodes._room, nodes._hook
        if isinstance(nodes, CacheBase):
            runner = nodes._driver
            if not isinstance(runner, AsyncRunner):
                raise InvalidArgument(
                    f"nodes of an AsyncQuorumLock may be an AsyncShardCache, got {type(nodes).__name__}"
                )
            self._runner, self._own = runner, False
            return nodes._locks, nodes._core.options.on_event
        core = Core.of_lock(members(nodes), options)
        self._runner, self._own = AsyncRunner(core), True
        return LockRoom(core), core.options.on_event

    async def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take the lock; return whether it was taken.

        ``timeout``: seconds to wait for it (None or -1: for ever). Returns False if others hold it all the time. Raises
        `QuorumUnavailable`, once the time is over, if too many voters are out.
        """
        wait = self._wait(blocking, timeout)
        try:
            return await self._enter(wait)
        except LockNotAcquired as error:
            return self._refused(error)

    async def _enter(self, wait: float | None) -> bool:
        if self._enters_again():
            return True
        if wait == 0:
            await self._runner.run(self._acquire(0))
        else:
            end = None if wait is None else self._clock() + wait
            async with self._runner.line.turn(self._plan.keys.lock, wait) as came:
                if not came:
                    raise LockConflict(self.name, "others in this process were before us all the time")
                await self._runner.run(self._acquire(None if end is None else max(end - self._clock(), 0.0)))
        return True

    async def release(self) -> None:
        """Let go of the lock.

        Raises `LockNotHeld` without a lease, `LockLost` if it had ended before, `QuorumUnavailable` if too few voters answered to
        be sure: then it may be called again, and the ttl ends the lease in any case.
        """
        if not self._leaves_inner():
            await self._let_go(self._known("is not held, so it cannot be released"))

    async def _let_go(self, lease: Lease) -> None:
        if lease is self._lease:
            self._stop()
        await self._runner.run(self._release(lease))

    async def extend(self, ttl: float | None = None) -> bool:
        """Start the ttl anew (with another ``ttl``, from now on); return whether a majority has confirmed it.

        False: too few answered, and the lease ends when it would have. Raises `LockLost` if it has ended, `LockNotHeld` without a lease.
        """
        return await self._runner.run(self._extend(ttl))

    async def adopt(self, token: str) -> None:
        """Take over the lease that ``token`` stands for (from `handover`, in any process).

        Raises `LockLost` if it has ended, `QuorumUnavailable` if too few voters answer.
        """
        await self._runner.run(self._adopt(token))

    async def locked(self) -> bool:
        """Return whether anybody holds the lock. Raises `QuorumUnavailable` if too few voters answer."""
        return await self._runner.run(self._look()) is not None

    async def owner(self) -> Holder | None:
        """Return who holds the lock, since when, on which voters and for how long still; None if nobody does."""
        return await self._runner.run(self._look())

    async def force_release(self) -> int:
        """Take the lock from whoever holds it; return on how many voters it was held.

        For the operator: the holder goes on until it looks. Its fencing token is what keeps it from doing harm.
        """
        return await self._runner.run(self._break())

    async def close(self) -> None:
        """Close the connections of a lock that was made from URLs, ending any renewal. Does not release."""
        self._stop()
        if self._own:
            await self._runner.close()

    async def __aenter__(self) -> Self:
        await self._enter(self._timeout)
        self._note_entered()
        if self._cancel_on_loss:
            self._guarded, self._cancelled = asyncio.current_task(), False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease = self._entered_lease()
        if self._leaves_inner() or lease is None:
            return
        guarded, self._guarded = self._guarded, None
        try:
            await self._let_go(lease)
        except QuorumUnavailable as unsure:
            self._kept(unsure)
        except LockError:
            if error is None:  # else the body's own error matters more
                raise
        if self._cancelled and guarded is not None and guarded.uncancel() == 0 and kind is asyncio.CancelledError:
            raise LockLost(self.name, "the lease ended, and the block was cancelled") from error

    def _took(self, lease: Lease) -> None:
        super()._took(lease)
        self.lost.clear()
        self._stop()
        if self._auto_renew or self._cancel_on_loss:
            self._watch = asyncio.get_running_loop().create_task(
                self._keep(lease), name=f"shardcache renewal of {self.name}"
            )

    async def _keep(self, lease: Lease) -> None:
        """Renew, if asked to, and notice the end of the lease."""
        outcome = "extended"
        while True:
            await asyncio.sleep(self._pause(outcome) if self._auto_renew else self.remaining())
            if self._lease is not lease:
                return
            outcome = "unknown"
            try:
                if self._auto_renew and await self._runner.run(self._extend(None)):
                    outcome = "extended"
            except LockError:
                return
            except Exception as error:  # noqa: BLE001  whatever it was, the lease ends by its ttl, and its holder must learn of it
                self._note(error)
            if self.remaining() <= 0:
                self._lose()
                return

    def _stop(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None and watch is not asyncio.current_task():
            watch.cancel()

    def _caller(self) -> Hashable:
        return asyncio.current_task()

    def _signal(self) -> None:
        self.lost.set()
        if self._guarded is not None and not self._cancelled:
            self._cancelled = True
            self._guarded.cancel()
