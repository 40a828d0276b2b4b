"""The quorum lock as users see it, in both colours."""

from shardcache.locks.aio import AsyncQuorumLock
from shardcache.locks.holder import Holder
from shardcache.locks.lock import QuorumLock
from shardcache.locks.several import AsyncLockSet, LockSet

__all__ = ("AsyncLockSet", "AsyncQuorumLock", "Holder", "LockSet", "QuorumLock")
