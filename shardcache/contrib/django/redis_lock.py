"""A quorum lock with the methods and errors of redis-py's lock, as django-redis hands it out."""

from types import TracebackType
from typing import Self

from redis.exceptions import LockError as RedisLockError
from redis.exceptions import LockNotOwnedError

from shardcache.errors import LockError, QuorumUnavailable
from shardcache.locks import QuorumLock

__all__ = ("RedisLock",)


class RedisLock:
    """A lock that one holder in the fleet has; use it in ``with``.

    ``lock``: the `QuorumLock` behind it.
    ``blocking``: whether `acquire` waits unless told otherwise.
    ``timeout``: seconds that it waits then; None: as long as others hold the lock.
    """

    def __init__(self, lock: QuorumLock, *, blocking: bool, timeout: float | None) -> None:
        self.quorum_lock = lock
        self._blocking = blocking
        self._timeout = timeout

    def acquire(self, blocking: bool | None = None, blocking_timeout: float | None = None) -> bool:
        """Take the lock; return whether it was taken. Without a majority of the shards it is not.

        ``blocking``: whether to wait; None (the default): as was said when it was made.
        ``blocking_timeout``: seconds to wait; None (the default): as was said when it was made.
        """
        waits = self._blocking if blocking is None else blocking
        timeout = self._timeout if blocking_timeout is None else blocking_timeout
        try:
            return self.quorum_lock.acquire(waits, timeout if waits else None)
        except QuorumUnavailable:
            return False

    def release(self) -> None:
        """Give the lock back; raise redis-py's `LockNotOwnedError` if it is not held any more."""
        try:
            self.quorum_lock.release()
        except LockError as error:
            raise LockNotOwnedError(str(error)) from error

    def extend(self, additional_time: float, replace_ttl: bool = False) -> bool:
        """Hold the lock for longer.

        ``additional_time``: seconds more.
        ``replace_ttl``: whether they count from now. Default: False.

        Raises redis-py's `LockNotOwnedError` if it is not held any more.
        """
        held = 0.0 if replace_ttl else self.quorum_lock.remaining()
        try:
            kept = self.quorum_lock.extend(held + additional_time)
        except LockError as error:
            raise LockNotOwnedError(str(error)) from error
        return kept

    def locked(self) -> bool:
        """Return whether anybody holds the lock."""
        return self.quorum_lock.locked()

    def owned(self) -> bool:
        """Return whether this lock is held by its owner now."""
        return self.quorum_lock.remaining() > 0

    def __enter__(self) -> Self:
        if not self.acquire():
            raise RedisLockError("Unable to acquire lock within the time specified")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
