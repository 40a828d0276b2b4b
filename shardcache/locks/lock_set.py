"""Several locks at once, all or none.

They are always taken in the same order, so that no two holders can wait for each other.
"""

import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from shardcache.client_base import CacheBase
from shardcache.drivers.aio.runner import AsyncRunner
from shardcache.drivers.sync.runner import Runner
from shardcache.drivers.undo_log import Entry
from shardcache.errors import (
    InvalidArgument,
    InvalidOption,
    LockConflict,
    LockCycle,
    LockError,
    LockNotAcquired,
    QuorumUnavailable,
    ShardCacheError,
)
from shardcache.flows.budget import Budget
from shardcache.flows.grouping import together
from shardcache.flows.lock.undo import AT_ONCE, give_back_all
from shardcache.flows.steps import Flow
from shardcache.keys import Key, distinct
from shardcache.locks.async_quorum_lock import AsyncQuorumLock
from shardcache.locks.guard import guard_handle
from shardcache.locks.lease_handle import Taking
from shardcache.locks.lease_holder import LeaseHolder
from shardcache.locks.lock_base import holder_of
from shardcache.locks.quorum_lock import QuorumLock
from shardcache.locks.waiting import checked_timeout, not_acquired, wait_time
from shardcache.topology.nodes import Nodes

__all__ = ("AsyncLockSet", "LockSet")

L = TypeVar("L", QuorumLock, AsyncQuorumLock)
Takings = dict[LeaseHolder[Any], Taking]


class _LockSetBase(ABC, Generic[L]):
    def __init__(
        self,
        names: Iterable[Key],
        ttl: float = 10.0,
        *,
        nodes: Nodes | CacheBase,
        timeout: float | None = None,
        **settings: Any,
    ) -> None:
        asked = distinct(names)
        if not asked:
            raise InvalidArgument("at least one name is needed, got none")
        if settings.get("reentrant"):
            raise InvalidOption(
                "several locks at once are not re-entrant: reentrant=True is for one lock"
            )
        # Each lock shares the connections of the one before.
        made: dict[bytes, tuple[Key, L, LeaseHolder[Any]]] = {}
        root: Any = nodes
        for name in asked:
            root = lock = self._make(name, ttl, root, settings)
            settings.pop("namespace", None)  # the others share the first one's
            holder = holder_of(lock)
            made.setdefault(holder.plan.keys.lock, (name, lock, holder))  # "a" and b"a" are one
        # One fixed order for the whole fleet: that of the bytes of the keys.
        ordered = [made[key] for key in sorted(made)]
        self.locks: Mapping[Key, L] = {name: lock for name, lock, _ in ordered}
        self._holders = tuple(holder for _, _, holder in ordered)
        self._timeout = checked_timeout(timeout)
        self._driver: Any = self._holders[0].backend.driver
        self._clock = self._holders[0].clock
        self._keys = frozenset(made)

    @abstractmethod
    def _make(self, name: Key, ttl: float, nodes: Any, settings: Any) -> L:
        """Return one lock."""

    def remaining(self) -> float:
        """Return the seconds for which all locks are held: 0.0 if one is not."""
        return min(lock.remaining() for lock in self.locks.values())

    def ensure_held(self) -> None:
        """Raise `LockLost` or `LockNotHeld` if one of the locks is not held any more."""
        for lock in self.locks.values():
            lock.ensure_held()

    def fencing_tokens(self) -> dict[Key, int]:
        """Return each lock's fencing token."""
        return {name: lock.fencing_token for name, lock in self.locks.items()}

    def _acquire(
        self,
        wait: float | None,
        takings: Takings | None = None,
        call: weakref.ref[Entry] | None = None,
    ) -> Flow[bool]:
        """Take one lock after the other; on any failure give back those that were taken.

        ``wait``: seconds to wait for all of them; None and inf as in `QuorumLock.acquire`.
        ``takings``: gets what is to be undone if the call is broken off.
        ``call``: as in `Taking`.
        """
        # All locks share one deadline, which counts from here.
        takings = {} if takings is None else takings
        began, note = self._clock(), self._holders[0].teller()
        end = None if wait is None else began + wait
        while True:
            first = math.inf  # when the first lease ends
            try:
                for holder in self._holders:
                    takings[holder] = taking = Taking(call)
                    hold = yield from holder.acquire(wait, began, note, taking)
                    first = min(first, hold.lease.valid_until)
            except GeneratorExit:
                raise
            except BaseException:
                yield from self._give_back(takings)
                raise
            if first > self._clock():
                return True
            # The wait for the last lock was longer than the first lease lasts: try again.
            yield from self._give_back(takings)
            if end is not None and self._clock() >= end:
                raise LockConflict(
                    ", ".join(holder.name for holder in self._holders),
                    "the first lease ended before the last was had",
                )

    def _budget(self) -> Budget | None:
        """Return what is left of the caller's `deadline`; None: there is none."""
        return self._holders[0].budget(None, bounded=True)

    @staticmethod
    def _give_back(takings: Takings) -> Flow[None]:
        """Give back what was taken, in one step, and wait for no reply.

        There may be no time left, and the ttl ends the leases anyway.
        """
        pending = []
        for taking in tuple(takings.values()):
            if taking.settled:
                continue
            taking.drop()
            if taking.pending is not None:
                pending.append(taking.pending)
        yield from give_back_all(pending)
        for taking in takings.values():
            taking.pending = None

    def _leaving(self) -> Takings:
        """Return what is to be undone for each lock that is held, if its release is broken off."""
        found: Takings = {}
        for holder in self._holders:
            hold = holder.current()
            if hold is not None:
                found[holder] = taking = Taking()
                taking.hold, taking.pending = hold, holder.pending(hold)
        return found

    def _release(self, takings: Takings) -> Flow[None]:
        """Release all locks at once (very many: part by part), then raise the first error.

        If it is broken off at any point, it gives all of them back.
        """
        holders = list(self._holders)
        errors: list[LockError | None] = []
        try:
            for at in range(0, len(holders), AT_ONCE):
                part = holders[at : at + AT_ONCE]
                errors += yield from together(
                    [_released(holder, takings.get(holder)) for holder in part],
                    hear_all=at + AT_ONCE < len(holders),
                )
        except GeneratorExit:
            raise
        except BaseException:
            yield from self._give_back(takings)
            raise
        for error in errors:
            if error is not None:
                raise error

    def _ends(self, error: BaseException | None, failed: LockError) -> None:
        """Raise the error of a release at the end of a ``with``, unless the block has an error."""
        if isinstance(failed, QuorumUnavailable):
            for holder in self._holders:
                hold = holder.current()
                if hold is not None:
                    holder.leave_to_ttl(hold, failed)
        elif error is None:
            raise failed


class LockSet(_LockSetBase[QuorumLock]):
    """Several locks (`QuorumLock`) taken together, in a fixed order: all or none.

    ``names``: the names, at least one, in any order.
    ``ttl``: as in `QuorumLock`.
    ``nodes``: as in `QuorumLock`.
    ``timeout``: seconds that ``with`` and `acquire` wait for all of them together, as in
        `QuorumLock`.
    ``settings``: all other parameters of `QuorumLock`, except ``reentrant``.

    ``locks`` has each lock by its name. Raises `InvalidArgument` for values that cannot be.
    """

    _driver: Runner

    def _make(self, name: Key, ttl: float, nodes: Any, settings: Any) -> QuorumLock:
        return QuorumLock(name, ttl, nodes=nodes, **settings)

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take all locks; return whether they were taken.

        ``blocking``: as in `QuorumLock.acquire`.
        ``timeout``: as in `QuorumLock.acquire`, for all of them together.
        """
        wait = wait_time(blocking, timeout, self._timeout)
        takings: Takings = {}
        try:
            with self._entry(lambda: takings) as entry:
                self._enter(wait, takings, entry)
        except LockNotAcquired as error:
            return not_acquired(error)
        return True

    def _entry(self, undo: Callable[[], Takings]) -> Entry:
        """Return the entry in the undo log for one call that takes or releases the locks."""
        driver = self._driver
        return Entry(driver.undo_log, self._keys, lambda: driver.run(self._give_back(undo())))

    def _enter(self, wait: float | None, takings: Takings, own: Entry) -> None:
        log = self._driver.undo_log
        within = any(log.is_under_way(key, own) for key in self._keys)
        try:
            flow = self._acquire(0 if within else wait, takings, weakref.ref(own))
            self._driver.run(flow, self._budget())
        except LockConflict as error:
            if not within or wait == 0:
                raise
            raise LockCycle.of(error) from error

    def release(self) -> None:
        """Release all locks, as `QuorumLock.release` does; at the end raise the first error."""
        takings: Takings = {}

        def leaving() -> Takings:
            takings.update({} if takings else self._leaving())
            return takings

        with self._entry(leaving):
            leaving()
            self._driver.run(self._release(takings))

    def close(self) -> None:
        """Close the connections of locks with servers of their own. The locks are not released."""
        for lock in self.locks.values():
            lock.close()

    def __enter__(self) -> Self:
        takings: Takings = {}
        with self._entry(lambda: takings) as entry:
            self._enter(self._timeout, takings, entry)
            for lock, (holder, taking) in zip(self.locks.values(), takings.items(), strict=True):
                hold = taking.hold
                if hold is not None:
                    hold.guard = guard_handle(lock, self._driver, holder.plan, hold)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.release()
        except LockError as failed:
            self._ends(error, failed)
        except ShardCacheError:
            raise
        except BaseException:  # perhaps before the undo log had an entry
            takings = self._leaving()
            with self._entry(lambda: takings):
                self._driver.run(self._give_back(takings))
            raise
        finally:
            self._unguard()

    def _unguard(self) -> None:
        for holder in self._holders:
            if holder.hold is not None and holder.hold.over:
                holder.hold.unguard()


class AsyncLockSet(_LockSetBase[AsyncQuorumLock]):
    """Several locks (`AsyncQuorumLock`) taken together. As `LockSet`, with ``await``."""

    _driver: AsyncRunner

    def _make(self, name: Key, ttl: float, nodes: Any, settings: Any) -> AsyncQuorumLock:
        return AsyncQuorumLock(name, ttl, nodes=nodes, **settings)

    async def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take all locks; return whether they were taken.

        ``blocking``: as in `QuorumLock.acquire`.
        ``timeout``: as in `QuorumLock.acquire`, for all of them together.
        """
        wait = wait_time(blocking, timeout, self._timeout)
        try:
            return await self._driver.run(self._acquire(wait), self._budget())
        except LockNotAcquired as error:
            return not_acquired(error)

    async def release(self) -> None:
        """Release all locks, as `QuorumLock.release` does; at the end raise the first error."""
        await self._driver.run(self._release(self._leaving()))

    async def close(self) -> None:
        """Close the connections of locks with servers of their own. The locks are not released."""
        for lock in self.locks.values():
            await lock.close()

    async def __aenter__(self) -> Self:
        await self._driver.run(self._acquire(self._timeout), self._budget())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.release()
        except LockError as failed:
            self._ends(error, failed)


def _released(holder: LeaseHolder[Any], taking: Taking | None) -> Flow[LockError | None]:
    """Release one lock of several; return the error, if there is one."""
    try:
        hold = holder.known("is not held, so it cannot be released")
        hold.end_renewal()
        yield from holder.release(hold, Taking() if taking is None else taking)
    except LockError as error:
        return error
    return None
