"""The quorum lock as users see it, in both colours."""

from shardcache.locks.async_quorum_lock import AsyncQuorumLock
from shardcache.locks.holder import Holder
from shardcache.locks.lock_set import AsyncLockSet, LockSet
from shardcache.locks.quorum_lock import QuorumLock

__all__ = ("AsyncLockSet", "AsyncQuorumLock", "Holder", "LockSet", "QuorumLock")
