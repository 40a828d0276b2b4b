"""`QuorumLock`: the sync colour."""

import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from shardcache.client_base import CacheBase
from shardcache.drivers.sync.runner import Runner
from shardcache.errors import (
    InvalidArgument,
    LockError,
    LockLost,
    LockNotAcquired,
    LockNotHeld,
    QuorumUnavailable,
    ShardCacheError,
    ThreadNotStarted,
)
from shardcache.flows.context import ClientContext
from shardcache.flows.lock import Lease
from shardcache.flows.lock.planner import LockPlanner
from shardcache.keys import Key
from shardcache.locks.guard import guard
from shardcache.locks.holder import Holder
from shardcache.locks.lease_handle import Hold
from shardcache.locks.lock_base import LONE, LockBase
from shardcache.locks.lost import LostEvent
from shardcache.locks.renewal import Renewal
from shardcache.options import Options
from shardcache.topology.nodes import Nodes, members

__all__ = ("QuorumLock",)


class QuorumLock(LockBase):
    """A lock that one holder in the fleet has at a time, granted by a majority of independent servers.

    ``nodes``: URLs, a mapping of names to URLs, Nodes, a `ShardCache` (`ShardCache.lock` is short for that) or another
    `QuorumLock`, whose connections and namespace it then shares. ``ttl``: seconds that a lease lasts; ``auto_renew`` extends it in the background,
    three times per ttl. ``timeout``: seconds that ``with`` and `acquire` wait for the lock (see there). ``voters``: names of the nodes that
    vote, all with the same ones; left out, five of those that the nodes have agreed on. ``voter_timeout``: the longest wait for
    one voter, seconds (a tenth of the ttl, and not above the client's timeout). ``on_lost`` is called once, with this lock, when
    the lease is found to have ended under its holder: by the renewal as soon as it has, without one by `ensure_held` or `extend`;
    ``lost`` is then set as well. ``reentrant``: the same owner (``owner``, any hashable; left out, the
    thread) may acquire it again. ``label``: what an operator reads in `owner`. ``namespace``: of a lock that is made from servers ("locks" if left
    out); one that shares a client's connections has the client's.

    One handle is for one holder at a time: make one for each use, they are cheap. A handle that nobody refers to any more renews no longer.

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
        self.lost: threading.Event = LostEvent()

    def _connect(
        self,
        nodes: "Nodes | CacheBase | QuorumLock",
        options: Options | None,
        namespace: str | None,
    ) -> tuple[LockPlanner, Any]:
        self._check_namespace(namespace, shared=isinstance(nodes, (CacheBase, QuorumLock)))
        if isinstance(nodes, QuorumLock):
            self._runner, self._own = nodes._runner, False
            return nodes._planner, nodes._hook
        if isinstance(nodes, CacheBase):
            runner = nodes._driver
            if not isinstance(runner, Runner):
                raise InvalidArgument(
                    f"nodes of a QuorumLock may be a ShardCache, got {type(nodes).__name__}"
                )
            self._runner, self._own = runner, False
            return nodes._locks, nodes._context.options.on_event
        context = ClientContext.of_lock(
            members(nodes), options, LONE if namespace is None else namespace
        )
        self._runner, self._own = Runner.of(context), True
        return LockPlanner(context), context.options.on_event

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take the lock; return whether it was taken.

        ``timeout``: seconds to wait for it; -1: without an end; left out: that of the handle. With none anywhere it waits as long as others hold
        it, but for a majority of the voters to answer no longer than the ttl. After a second of waiting the hook hears of it (`lock_waiting`), and
        the log. Returns False if others hold it all the time. Raises
        `QuorumUnavailable`, once the time is over, if too many voters are out.
        """
        wait = self._wait(blocking, timeout, self._timeout)
        taken: list[Hold] = []
        try:
            self._enter(wait, taken)
            return True
        except LockNotAcquired as error:
            return self._refused(error)
        except BaseException:  # a signal handler raised: nobody will know that it was taken
            self._undo(taken)
            raise

    def _enter(self, wait: float | None, taken: list[Hold]) -> Hold:
        """Take the lock; what is taken is noted in ``taken`` as soon as it is."""
        again = self._enters_again()
        if again is not None:
            return again
        if wait == 0:
            return self._runner.run(self._acquire(0, taken=taken), self._budget(0))
        began, note = self._clock(), self._teller()
        line, key = self._runner.line, self._plan.keys.lock
        place = None
        try:
            place = line.join(key)
            if not line.wait_turn(place, wait, lambda: note(self._others_first())):
                raise self._others_first()
            return self._runner.run(self._acquire(wait, began, note, taken), self._budget(wait))
        finally:
            if place is not None:
                line.leave(key, place)

    def _undo(self, taken: list[Hold]) -> None:
        """Give back what was taken for somebody who was broken off."""
        for hold in taken:
            if not hold.over:
                with suppress(ShardCacheError):  # what broke it off matters more
                    self._runner.run(self._give_back(hold))

    def release(self) -> None:
        """Let go of the lock.

        Raises `LockNotHeld` without a lease, `LockLost` if it had ended before, `QuorumUnavailable` if too few voters answered to
        be sure: then it may be called again, and the ttl ends the lease in any case.
        """
        hold = None
        try:
            hold = self._leaves()
            if hold is not None:
                self._let_go(hold)
        except LockError:
            raise
        except BaseException:  # a signal handler raised, perhaps before anything was sent
            hold = hold or (None if self._reentrant else self._current())
            if hold is not None:
                self._undo([hold])
            raise

    def _let_go(self, hold: Hold) -> None:
        self._stop(hold)
        self._runner.run(self._release(hold), self._budget(0))

    def extend(self, ttl: float | None = None) -> bool:
        """Start the ttl anew (with another ``ttl``, from now on); return whether a majority has confirmed it.

        False: too few answered, and the lease ends when it would have, or with the new ttl if that is sooner.
        Raises `LockLost` if it has ended, `LockNotHeld` without a lease, `QuorumUnavailable` if the voters do not let this user do it.
        """
        hold = self._known("is not held, so it cannot be extended")
        try:
            return self._extended(hold, ttl)
        finally:
            if ttl is not None:  # the next renewal may be due sooner
                self._hurry(hold)

    def _extended(self, hold: Hold, ttl: float | None) -> bool:
        with hold.gate:
            if (
                hold.extending
            ):  # a finalizer or a signal handler, inside of an extension by this very thread
                return False
            try:
                hold.extending = True
                return self._runner.run(self._extend(hold, ttl), self._budget(0))
            finally:
                hold.extending = False

    def adopt(self, token: str) -> None:
        """Take over the lease that ``token`` stands for (from `handover`, in any process). Of several who do so, one gets it.

        Raises `LockLost` if somebody else has adopted it, or it has ended; `QuorumUnavailable` if too few voters answer, and then it
        may be tried again.
        """
        self._runner.run(self._adopt(token), self._budget(0))

    def locked(self) -> bool:
        """Return whether anybody holds the lock. Raises `QuorumUnavailable` if too few voters answer."""
        return self._runner.run(self._inspect(), self._budget(0)) is not None

    def owner(self) -> Holder | None:
        """Return who holds the lock, since when, on which voters and for how long still; None if nobody does."""
        return self._runner.run(self._inspect(), self._budget(0))

    def force_release(self) -> int:
        """Take the lock from whoever holds it; return on how many voters it was held.

        For the operator: the holder goes on until it looks. Its fencing token is what keeps it from doing harm.
        """
        return self._runner.run(self._break(), self._budget(0))

    def close(self) -> None:
        """Close the connections of a lock that was made from URLs, ending any renewal. Does not release."""
        hold = self._hold
        if hold is not None:
            self._stop(hold)
            if (
                hold.renewal is not None
                and hold.renewal.is_alive()
                and hold.renewal is not threading.current_thread()
            ):
                hold.renewal.join()
        if self._own:
            self._runner.close()

    def __enter__(self) -> Self:
        taken: list[Hold] = []
        try:
            hold = self._enter(self._timeout, taken)
            hold.guard = hold.guard or guard(self, self._runner, self._plan, hold)
            self._note_entered(hold)
            return self
        except LockError:
            raise
        except BaseException:  # as in `acquire`
            self._undo(taken)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        entry = hold = None
        try:
            entry = self._entry()
            hold = None if entry is None else self._left(entry)
            if hold is not None:
                self._let_go(hold)
                hold.unguard()
        except QuorumUnavailable as unsure:
            if hold is not None:
                self._kept(hold, unsure)
                hold.unguard()
        except LockError:
            if error is None:  # else the body's own error matters more
                raise
        except BaseException:  # as in `release`
            entry = entry or self._entry()
            if entry is not None and not entry[1].is_inner:
                self._undo([entry[1]])
            raise

    def _took(self, lease: Lease) -> Hold:
        self.lost.clear()
        if self._hold is not None:
            self._stop(self._hold)
        return super()._took(lease)

    def _start(self, hold: Hold) -> None:
        if self._auto_renew and not hold.over:
            hold.renewal = Renewal(self, hold, self._pause(hold, "extended"))
            hold.renewal.begin(self._hook, "renew")

    def _hurry(self, hold: Hold) -> None:
        """Let the renewal reckon anew when the next time is; start it again if it had ended."""
        if hold.renewal is not None and hold.renewal.is_alive():
            hold.renewal.look()
        else:
            with suppress(ThreadNotStarted):  # the lease is what the voters say, and an event tells
                self._start(hold)

    def _renew(self, hold: Hold) -> float | None:
        """Extend; return the seconds until the next time, None if there is none."""
        outcome = "unknown"
        try:
            if self._extended(hold, None):
                outcome = "extended"
        except (LockLost, LockNotHeld):
            return None
        except Exception as error:  # noqa: BLE001  whatever it was, the lease ends by its ttl, and its holder must learn of it
            if hold.leaving or hold.over:
                return None
            self._note(error)
        pause = self._pause(hold, outcome)
        if pause > 0:
            return pause
        self._lose(hold)
        return None

    def _stop(self, hold: Hold) -> None:
        if hold.renewal is not None:
            hold.renewal.end()

    def _caller(self) -> Hashable:
        return threading.get_ident()

    def _gate(self) -> Any:
        return threading.RLock()

    def _signal(self) -> None:
        self.lost.set()
