"""`QuorumLock`: the sync colour."""

import threading
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import Any, Self

from shardcache.base import CacheBase
from shardcache.drivers.run import Runner
from shardcache.errors import InvalidArgument, LockConflict, LockError, LockNotAcquired, QuorumUnavailable
from shardcache.flows.core import Core
from shardcache.flows.lock import Lease
from shardcache.flows.lock.room import LockRoom
from shardcache.keys import Key
from shardcache.locks.base import LockBase
from shardcache.locks.holder import Holder
from shardcache.options import Options
from shardcache.topology import Nodes, members

__all__ = ("QuorumLock",)


class QuorumLock(LockBase):
    """A lock that one holder in the fleet has at a time, granted by a majority of independent servers.

    ``nodes``: URLs, a mapping of names to URLs, Nodes, a `ShardCache` (`ShardCache.lock` is short for that) or another
    `QuorumLock`, whose connections and namespace it then shares. ``ttl``: seconds that a lease lasts; ``auto_renew`` extends it in the background,
    three times per ttl. ``timeout``: seconds that ``with`` waits for the lock (None: for ever). ``voters``: names of the nodes that
    vote, all with the same ones; left out, the first five clockwise from the name on the ring. ``voter_timeout``: the longest wait for
    one voter, seconds (a tenth of the ttl, and not above the client's timeout). ``on_lost`` is called once, with this lock, when
    the lease ends under its holder; ``lost`` is then set as well. ``reentrant``: the same owner (``owner``, any hashable; left out, the
    thread) may acquire it again. ``label``: what an operator reads in `owner`.

    One handle is for one holder at a time: make one for each use, they are cheap.

    Guarantee (G2): at any instant at most one holder is within its `remaining`, as long as clocks run at about the same rate; `fencing_token`
    grows with every acquisition. What breaks this, and what does not: docs/guarantees.md.
    Source: https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/
    """

    _runner: Runner
    _own: bool

    def __init__(
        self,
        name: Key,
        ttl: float = 10.0,
        *,
        nodes: "Nodes | CacheBase | QuorumLock",
        timeout: float | None = None,
        auto_renew: bool = False,
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
        self.lost = threading.Event()
        self._renewing: threading.Event | None = None

    def _connect(self, nodes: "Nodes | CacheBase | QuorumLock", options: Options | None) -> tuple[LockRoom, Any]:
        if isinstance(nodes, QuorumLock):
            self._runner, self._own = nodes._runner, False
            return nodes._room, nodes._hook
        if isinstance(nodes, CacheBase):
            runner = nodes._driver
            if not isinstance(runner, Runner):
                raise InvalidArgument(f"nodes of a QuorumLock may be a ShardCache, got {type(nodes).__name__}")
            self._runner, self._own = runner, False
            return nodes._locks, nodes._core.options.on_event
        core = Core.of_lock(members(nodes), options)
        self._runner, self._own = Runner.of(core), True
        return LockRoom(core), core.options.on_event

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take the lock; return whether it was taken.

        ``timeout``: seconds to wait for it (None or -1: for ever). Returns False if others hold it all the time. Raises
        `QuorumUnavailable`, once the time is over, if too many voters are out.
        """
        wait = self._wait(blocking, timeout)
        try:
            return self._enter(wait)
        except LockNotAcquired as error:
            return self._refused(error)

    def _enter(self, wait: float | None) -> bool:
        if self._enters_again():
            return True
        if wait == 0:
            self._runner.run(self._acquire(0))
        else:
            end = None if wait is None else self._clock() + wait
            with self._runner.line.turn(self._plan.keys.lock, wait) as came:
                if not came:
                    raise LockConflict(self.name, "others in this process were before us all the time")
                self._runner.run(self._acquire(None if end is None else max(end - self._clock(), 0.0)))
        return True

    def release(self) -> None:
        """Let go of the lock.

        Raises `LockNotHeld` without a lease, `LockLost` if it had ended before, `QuorumUnavailable` if too few voters answered to
        be sure: then it may be called again, and the ttl ends the lease in any case.
        """
        if not self._leaves_inner():
            self._let_go(self._known("is not held, so it cannot be released"))

    def _let_go(self, lease: Lease) -> None:
        if lease is self._lease:
            self._stop()
        self._runner.run(self._release(lease))

    def extend(self, ttl: float | None = None) -> bool:
        """Start the ttl anew (with another ``ttl``, from now on); return whether a majority has confirmed it.

        False: too few answered, and the lease ends when it would have. Raises `LockLost` if it has ended, `LockNotHeld` without a lease.
        """
        return self._runner.run(self._extend(ttl))

    def adopt(self, token: str) -> None:
        """Take over the lease that ``token`` stands for (from `handover`, in any process).

        Raises `LockLost` if it has ended, `QuorumUnavailable` if too few voters answer.
        """
        self._runner.run(self._adopt(token))

    def locked(self) -> bool:
        """Return whether anybody holds the lock. Raises `QuorumUnavailable` if too few voters answer."""
        return self._runner.run(self._look()) is not None

    def owner(self) -> Holder | None:
        """Return who holds the lock, since when, on which voters and for how long still; None if nobody does."""
        return self._runner.run(self._look())

    def force_release(self) -> int:
        """Take the lock from whoever holds it; return on how many voters it was held.

        For the operator: the holder goes on until it looks. Its fencing token is what keeps it from doing harm.
        """
        return self._runner.run(self._break())

    def close(self) -> None:
        """Close the connections of a lock that was made from URLs, ending any renewal. Does not release."""
        self._stop()
        if self._own:
            self._runner.close()

    def __enter__(self) -> Self:
        self._enter(self._timeout)
        self._note_entered()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease = self._entered_lease()
        if self._leaves_inner() or lease is None:
            return
        try:
            self._let_go(lease)
        except QuorumUnavailable as unsure:
            self._kept(unsure)
        except LockError:
            if error is None:  # else the body's own error matters more
                raise

    def _took(self, lease: Lease) -> None:
        super()._took(lease)
        self.lost.clear()
        if self._auto_renew:
            self._renewing = stop = threading.Event()
            threading.Thread(
                target=self._renew, args=(lease, stop), name=f"shardcache renewal of {self.name}", daemon=True
            ).start()

    def _renew(self, lease: Lease, stop: threading.Event) -> None:
        outcome = "extended"
        while not stop.wait(self._pause(outcome)):
            if self._lease is not lease:
                return
            outcome = "unknown"
            try:
                if self._runner.run(self._extend(None)):
                    outcome = "extended"
            except LockError:
                return
            except Exception as error:  # noqa: BLE001  whatever it was, the lease ends by its ttl, and its holder must learn of it
                self._note(error)
            if self.remaining() <= 0:
                self._lose()
                return

    def _stop(self) -> None:
        if self._renewing is not None:
            self._renewing.set()

    def _caller(self) -> Hashable:
        return threading.get_ident()

    def _signal(self) -> None:
        self.lost.set()
