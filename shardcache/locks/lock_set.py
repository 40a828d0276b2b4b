"""Several locks at once: all or none, always in the same order, so that no two holders can wait for each other."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from shardcache.client_base import CacheBase
from shardcache.errors import (
    InvalidArgument,
    InvalidOption,
    LockConflict,
    LockError,
    LockNotAcquired,
    QuorumUnavailable,
    ShardCacheError,
)
from shardcache.flows.steps import Flow
from shardcache.keys import Key, distinct
from shardcache.locks.async_quorum_lock import AsyncQuorumLock
from shardcache.locks.guard import guard
from shardcache.locks.quorum_lock import QuorumLock
from shardcache.topology.nodes import Nodes

__all__ = ("AsyncLockSet", "LockSet")

L = TypeVar("L", QuorumLock, AsyncQuorumLock)


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
        made: dict[bytes, tuple[Key, L]] = {}
        root: Any = nodes
        for name in asked:
            root = lock = self._make(name, ttl, root, settings)
            settings.pop("namespace", None)  # the others share the first one's
            made.setdefault(lock._plan.keys.lock, (name, lock))  # "a" and b"a" are one
        # One fixed order for the whole fleet: that of the bytes of the keys.
        self.locks: Mapping[Key, L] = dict(made[key] for key in sorted(made))
        self._first: L = next(iter(made.values()))[1]
        self._timeout = self._first._wait(True, timeout, None)
        self._clock = self._first._clock

    @abstractmethod
    def _make(self, name: Key, ttl: float, nodes: Any, settings: Any) -> L:
        """Return one lock of this colour."""

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

    def _acquire(self, wait: float | None) -> Flow[bool]:
        """Take one after the other; on any failure give back what was taken."""
        began, note = self._clock(), self._first._teller()
        end = None if wait is None else began + wait
        while True:
            taken: list[L] = []
            try:
                for lock in self.locks.values():
                    yield from lock._acquire(wait, began, note)
                    taken.append(lock)
            except GeneratorExit:
                raise
            except BaseException:
                yield from self._give_back(taken)
                raise
            if self.remaining() > 0:
                return True
            # Waiting for the last ones took longer than the first ones last.
            yield from self._give_back(taken)
            if end is not None and self._clock() >= end:
                raise LockConflict(
                    ", ".join(lock.name for lock in taken),
                    "the first lease ended before the last was had",
                )

    def _give_back(self, locks: list[L]) -> Flow[None]:
        """Let go of what was taken, and wait for nobody: there may be no time left, and the ttl ends it anyway."""
        for lock in reversed(locks):
            hold = lock._current()
            if hold is not None:
                yield from lock._give_back(hold)

    def _release(self) -> Flow[None]:
        """Let go of all, then raise the first error."""
        first: LockError | None = None
        for lock in reversed(self.locks.values()):  # type: ignore[call-overload]  # it is a dict
            try:
                hold = lock._known("is not held, so it cannot be released")
                lock._stop(hold)
                yield from lock._release(hold)
            except LockError as error:
                first = first or error
        if first is not None:
            raise first

    def _ends(self, error: BaseException | None, failed: LockError) -> None:
        """Raise what went wrong at the end of a ``with``, unless the body's own error matters more."""
        if isinstance(failed, QuorumUnavailable):
            for lock in self.locks.values():
                hold = lock._current()
                if hold is not None:
                    lock._kept(hold, failed)
        elif error is None:
            raise failed


class LockSet(_LockSetBase[QuorumLock]):
    """Several `QuorumLock` s taken together, in a fixed order: all or none.

    ``names``: any number of names; ``settings`` are those of `QuorumLock`. ``locks`` has each lock by its name.
    ``timeout``: seconds that ``with`` and `acquire` wait for all of them (see `QuorumLock.acquire`).
    """

    def _make(self, name: Key, ttl: float, nodes: Any, settings: Any) -> QuorumLock:
        return QuorumLock(name, ttl, nodes=nodes, **settings)

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take all locks; return whether they were taken. As `QuorumLock.acquire`."""
        wait = self._first._wait(blocking, timeout, self._timeout)
        try:
            return self._first._runner.run(self._acquire(wait))
        except LockNotAcquired as error:
            return self._first._refused(error)
        except BaseException:  # a signal handler raised: nobody will know that they were taken
            self._undo()
            raise

    def _undo(self) -> None:
        with suppress(ShardCacheError):  # what broke it off matters more
            self._first._runner.run(self._give_back(list(self.locks.values())))

    def release(self) -> None:
        """Let go of all locks. As `QuorumLock.release`; raises the first error when all have been tried."""
        self._first._runner.run(self._release())

    def close(self) -> None:
        """Close the connections of locks that were made from URLs. Does not release."""
        for lock in self.locks.values():
            lock.close()

    def __enter__(self) -> Self:
        try:
            self._first._runner.run(self._acquire(self._timeout))
            for lock in self.locks.values():
                hold = lock._known("is not held")
                hold.guard = guard(lock, lock._runner, lock._plan, hold)
            return self
        except LockError:
            raise
        except BaseException:  # as in `acquire`
            self._undo()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.release()
            self._unguard()
        except LockError as failed:
            self._unguard()
            self._ends(error, failed)
        except BaseException:
            self._undo()
            raise

    def _unguard(self) -> None:
        for lock in self.locks.values():
            if lock._hold is not None:
                lock._hold.unguard()


class AsyncLockSet(_LockSetBase[AsyncQuorumLock]):
    """Several `AsyncQuorumLock` s taken together, in a fixed order: all or none. As `LockSet`, with ``await``."""

    def _make(self, name: Key, ttl: float, nodes: Any, settings: Any) -> AsyncQuorumLock:
        return AsyncQuorumLock(name, ttl, nodes=nodes, **settings)

    async def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take all locks; return whether they were taken. As `QuorumLock.acquire`."""
        wait = self._first._wait(blocking, timeout, self._timeout)
        try:
            return await self._first._runner.run(self._acquire(wait))
        except LockNotAcquired as error:
            return self._first._refused(error)

    async def release(self) -> None:
        """Let go of all locks. As `QuorumLock.release`; raises the first error when all have been tried."""
        await self._first._runner.run(self._release())

    async def close(self) -> None:
        """Close the connections of locks that were made from URLs. Does not release."""
        for lock in self.locks.values():
            await lock.close()

    async def __aenter__(self) -> Self:
        await self._first._runner.run(self._acquire(self._timeout))
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
