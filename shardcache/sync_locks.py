"""The methods of `ShardCache` that make locks over the client's connections."""

from collections.abc import Callable, Hashable, Iterable, Sequence

from shardcache.keys import Key
from shardcache.locks.lock_set import LockSet
from shardcache.locks.quorum_lock import QuorumLock
from shardcache.sync_many import ManyKeys

__all__ = ("LockMaker",)


class LockMaker(ManyKeys):
    """What the sync client does to make locks."""

    def lock(
        self,
        name: Key,
        ttl: float = 10.0,
        *,
        timeout: float | None = None,
        auto_renew: bool = False,
        on_lost: Callable[[QuorumLock], object] | None = None,
        reentrant: bool = False,
        owner: Hashable = None,
        voters: Sequence[str] | None = None,
        voter_timeout: float | None = None,
        label: str | None = None,
    ) -> QuorumLock:
        """Return a lock of this name within the namespace, over this client's connections.

        ``name``: the lock's name, as a key.
        ``ttl``: seconds that a lease lasts, 0.02 to 604 800 (7 days). Default: 10.
        ``timeout``: seconds that ``with`` and `QuorumLock.acquire` wait for the lock; -1: without
            an end; None (the default): as long as another owner holds it.
        ``auto_renew``: whether the lease is extended in the background, three times per ttl.
            Default: False.
        ``cancel_on_loss``: only asyncio: whether the task in the ``async with`` block is cancelled
            when its lease ends. Default: False.
        ``on_lost``: called once, with the lock, when a lease has ended under its holder. Default:
            none.
        ``reentrant``: whether the same owner may acquire it again. Default: False.
        ``owner``: who that is, any hashable; None (the default): the thread, or the task.
        ``voters``: names of the nodes that vote, the same in every client; None (the default):
            five of those that the nodes have agreed on.
        ``voter_timeout``: seconds to wait for one voter at most, above 0 and below the ttl. None
            (the default): a tenth of the ttl, but not above the client's timeout.
        ``label``: what an operator reads in `QuorumLock.owner`. Default: host, process and thread.

        The parameters are those of `QuorumLock`. Raises `InvalidArgument` for values that cannot
        be.
        """
        return QuorumLock(
            name,
            ttl,
            nodes=self,
            timeout=timeout,
            auto_renew=auto_renew,
            on_lost=on_lost,
            reentrant=reentrant,
            owner=owner,
            voters=voters,
            voter_timeout=voter_timeout,
            label=label,
        )

    def lock_many(
        self,
        names: Iterable[Key],
        ttl: float = 10.0,
        *,
        timeout: float | None = None,
        auto_renew: bool = False,
        on_lost: Callable[[QuorumLock], object] | None = None,
        owner: Hashable = None,
        voters: Sequence[str] | None = None,
        voter_timeout: float | None = None,
        label: str | None = None,
    ) -> LockSet:
        """Return several locks to be taken together, all or none.

        ``names``: the names, at least one, in any order; the locks are taken in a fixed order.
        ``timeout``: as for `lock`, for all of them together.
        ``ttl``: as for `lock`.
        ``auto_renew``: as for `lock`.
        ``cancel_on_loss``: as for `lock`.
        ``on_lost``: as for `lock`; called with the lock that was lost.
        ``owner``: as for `lock`.
        ``voters``: as for `lock`.
        ``voter_timeout``: as for `lock`.
        ``label``: as for `lock`.
        """
        return LockSet(
            names,
            ttl,
            nodes=self,
            timeout=timeout,
            auto_renew=auto_renew,
            on_lost=on_lost,
            owner=owner,
            voters=voters,
            voter_timeout=voter_timeout,
            label=label,
        )
