"""`QuorumLock`: the sync quorum lock."""

import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from shardcache.client_base import CacheBase
from shardcache.drivers.sync.runner import Runner
from shardcache.drivers.undo_log import Entry
from shardcache.errors import (
    LockConflict,
    LockCycle,
    LockError,
    LockLost,
    LockNotAcquired,
    LockNotHeld,
    QuorumUnavailable,
    ShardCacheError,
    ThreadNotStarted,
)
from shardcache.keys import Key
from shardcache.locks.guard import guard_handle
from shardcache.locks.holder import Holder
from shardcache.locks.lease_handle import Hold, Taking
from shardcache.locks.lock_base import LockBase
from shardcache.locks.lost import LostEvent
from shardcache.locks.renewal import Renewal
from shardcache.locks.waiting import not_acquired, wait_time
from shardcache.options import Options
from shardcache.system.queue import Place
from shardcache.topology.nodes import Nodes

__all__ = ("QuorumLock",)


class QuorumLock(LockBase[Runner]):
    """A lock that one holder in the fleet has at a time, granted by a majority of its voters.

    ``name``: the lock's name, as a key.
    ``ttl``: seconds that a lease lasts, 0.02 to 604 800 (7 days). Default: 10.
    ``nodes``: the servers, as in `ShardCache`; or a `ShardCache` or `QuorumLock`, whose connections
        and namespace it then shares.
    ``timeout``: seconds that ``with`` and `acquire` wait for the lock; -1: without an end; None
        (the default): as long as others hold it.
    ``auto_renew``: whether the lease is extended in the background, three times per ttl. Default:
        False.
    ``on_lost``: called once, with this lock, when a lease has ended under its holder. The renewal
        finds that at once; without one, `ensure_held` or `extend` finds it. Then ``lost`` is set as
        well. Default: none.
    ``reentrant``: whether the same owner may acquire it again. Default: False.
    ``owner``: who that is, any hashable; None (the default): the thread.
    ``voters``: names of the nodes that vote, the same in every client; None (the default): five of
        those that the nodes have agreed on.
    ``voter_timeout``: seconds to wait for one voter at most, above 0 and below the ttl. None (the
        default): a tenth of the ttl, but not above the client's timeout.
    ``label``: what an operator reads in `owner`. Default: host, process and thread.
    ``namespace``: text that is put before the keys of a lock with servers of its own. None (the
        default): "locks"; a lock that shares connections has the client's.
    ``options``: an `Options` for servers of its own; None: the defaults.

    A handle is for one holder at a time. Handles are cheap: make one for each use. A handle that
    nothing refers to any more is not renewed. Raises `InvalidArgument` for values that cannot be.

    Guarantee (G2): at any instant at most one holder is within its `remaining`, as long as clocks
    run at about the same rate; `fencing_token` grows with every acquisition. What breaks this, and
    what does not: docs/guarantees.md.
    Source: https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/
    """

    _nodes_rule = "a QuorumLock may be a ShardCache"

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
        super().__init__(
            self._connect(nodes, options, namespace, Runner, Runner.of),
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

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
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
        taking = Taking()
        try:
            with self._entry(lambda: self._undo(taking)) as entry:
                taking.call = weakref.ref(entry)
                self._enter(wait, taking)
        except LockNotAcquired as error:
            return not_acquired(error)
        return True

    def _entry(self, undo: Callable[[], object]) -> Entry:
        """Return the entry in the undo log of one call that takes, keeps or releases the lock."""
        return Entry(self._driver.undo_log, (self._holder.plan.keys.lock,), undo)

    def _enter(self, wait: float | None, taking: Taking) -> Hold:
        """Take the lock; ``taking`` gets what is to be undone if this is broken off."""
        # Look at the log before this call itself enters the lock.
        own = None if taking.call is None else taking.call()
        within = self._driver.undo_log.is_under_way(self._holder.plan.keys.lock, own)
        again = self._enters_again(taking)
        if again is not None:
            return again
        if wait == 0 or within:
            return self._try_once(taking, within=within and wait != 0)
        began, note = self._holder.clock(), self._holder.teller()
        line, key = self._driver.line, self._holder.plan.keys.lock
        place = taking.place = Place()
        try:
            line.join(key, place)
            limit = self._holder.turn_limit(wait)
            if not line.wait_turn(place, limit, lambda: note(self._holder.others_first())):
                raise self._holder.others_first()
            flow = self._holder.acquire(wait, began, note, taking)
            return self._driver.run(flow, self._holder.budget(wait, bounded=True))
        finally:
            line.leave(key, place)

    def _try_once(self, taking: Taking, *, within: bool) -> Hold:
        """Make one attempt. ``within``: inside a call of this thread for the same lock.

        There a wait would never end: then raises `LockCycle` instead of `LockConflict`.
        """
        try:
            return self._driver.run(
                self._holder.acquire(0, taking=taking), self._holder.budget(0, bounded=True)
            )
        except LockConflict as error:
            if not within:
                raise
            raise LockCycle.of(error) from error

    def _undo(self, taking: Taking) -> None:
        """Give back what a call had taken that was broken off."""
        if self._holder.hold is not None:  # an inner round of a re-entrant lock
            self._holder.hold.forget_inner(taking)
        if taking.place is not None:
            self._driver.line.leave(self._holder.plan.keys.lock, taking.place)
        taking.drop()
        self._driver.run(taking.flow())
        if taking.hold is not None:
            taking.hold.unguard()

    def release(self) -> None:
        """Release the lock.

        Raises `LockNotHeld` if this handle has no lease, and `LockLost` if the lease had ended
        before. Raises `QuorumUnavailable` if too few voters answered to be sure: then it may be
        called again, and the ttl ends the lease in any case.
        """
        taking = Taking()
        try:
            with self._entry(lambda: self._finish(taking, self._leaves)):
                hold = self._leaves(taking)
                if hold is not None:
                    self._let_go(hold, taking)
        finally:
            self._unguard(taking)

    def _let_go(self, hold: Hold, taking: Taking) -> None:
        hold.end_renewal()
        self._driver.run(self._holder.release(hold, taking), self._holder.budget(0))

    def _finish(self, taking: Taking, leave: Callable[[Taking], Hold | None]) -> None:
        """Release the lock for a release that was broken off, perhaps before it sent anything."""
        if taking.settled:
            return
        if taking.pending is None:
            hold = leave(taking)
            if hold is None:
                return
            taking.pending = self._holder.pending(hold)
        taking.drop()
        self._driver.run(taking.flow())
        taking.settled = True

    def extend(self, ttl: float | None = None) -> bool:
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
            return self._extended(hold, ttl)
        finally:
            if ttl is not None:  # the next renewal may be due sooner
                self._hurry(hold)

    def _extended(self, hold: Hold, ttl: float | None) -> bool:
        log = self._driver.undo_log
        try:
            with self._entry(_nothing) as entry, hold.gate:
                # A finalizer or signal handler may be inside of an extension by the same thread.
                if hold.extending in log.entries:
                    return False
                hold.extending = entry
                return self._driver.run(self._holder.extend(hold, ttl), self._holder.budget(0))
        except LockLost:
            self._lose(hold)
            raise

    def adopt(self, token: str) -> None:
        """Take over a lease that was handed over; of several callers one gets it.

        ``token``: the text that `handover` returned, in any process.

        Raises `LockLost` if another caller has adopted it, or the lease has ended. Raises
        `QuorumUnavailable` if too few voters answer: then it may be tried again. Raises
        `InvalidArgument` for a text that is not from `handover`.
        """
        taking = Taking()
        with self._entry(lambda: self._undo(taking)) as entry:
            taking.call = weakref.ref(entry)
            self._driver.run(self._holder.adopt(token, taking), self._holder.budget(0))

    def locked(self) -> bool:
        """Return whether anybody holds the lock.

        Raises `QuorumUnavailable` if too few voters answer.
        """
        return (
            self._driver.run(self._holder.inspect(), self._holder.budget(0, bounded=True))
            is not None
        )

    def owner(self) -> Holder | None:
        """Return who holds the lock, since when, for how long, and on which voters; or None.

        Raises `QuorumUnavailable` if too few voters answer.
        """
        return self._driver.run(self._holder.inspect(), self._holder.budget(0, bounded=True))

    def force_release(self) -> int:
        """Take the lock from its holder; return on how many voters it was held.

        This is for the operator. The holder goes on until it looks at its lease; only its fencing
        token, where it is checked, keeps it from doing harm.
        """
        return self._driver.run(self._holder.force_release(), self._holder.budget(0))

    def close(self) -> None:
        """End any renewal, and close the connections of a lock with servers of its own.

        The lock is not released.
        """
        hold = self._holder.hold
        if hold is not None:
            hold.end_renewal()
            if (
                hold.renewal is not None
                and hold.renewal.is_alive()
                and hold.renewal is not threading.current_thread()
            ):
                hold.renewal.join()
        if self._holder.backend.owned:
            self._driver.close()

    def __enter__(self) -> Self:
        taking = Taking()
        with self._entry(lambda: self._undo(taking)) as entry:
            taking.call = weakref.ref(entry)
            hold = self._enter(self._timeout, taking)
            hold.guard = hold.guard or guard_handle(self, self._driver, self._holder.plan, hold)
            self._note_entered(hold)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        taking: Taking | None = None
        try:  # this is the first step: see below
            taking = Taking()
            self._end(taking, error)
        except ShardCacheError:
            raise
        except BaseException:
            # Perhaps before the undo log had an entry. Somebody may keep the handle, and then no
            # guard would ever release the lock.
            again = Taking() if taking is None else taking
            with self._entry(lambda: self._finish(again, self._left)):
                self._finish(again, self._left)
            raise

    def _end(self, taking: Taking, error: BaseException | None) -> None:
        """End a `with`; ``error`` is that of the block."""
        try:
            with self._entry(lambda: self._finish(taking, self._left)):
                hold = self._left(taking)
                if hold is not None:
                    self._let_go(hold, taking)
        except QuorumUnavailable as unsure:
            if taking.hold is not None:
                self._holder.leave_to_ttl(taking.hold, unsure)
        except LockError:
            if error is None:  # otherwise the error of the block matters more
                raise
        finally:
            self._unguard(taking)

    @staticmethod
    def _unguard(taking: Taking) -> None:
        """Note that a release has ended, so that no guard has anything left to do."""
        if taking.settled and taking.hold is not None:
            taking.hold.unguard()

    def _start(self, hold: Hold) -> None:
        if self._auto_renew and not hold.over:
            pause = self._holder.next_pause(hold, "extended")
            hold.renewal = Renewal(self.name, self._renew, hold, pause)
            hold.renewal.begin(self._holder.backend.hook, "renew")

    def _hurry(self, hold: Hold) -> None:
        """Let the renewal compute its next time anew; start it again if it had ended."""
        if hold.renewal is not None and hold.renewal.is_alive():
            hold.renewal.look()
        else:
            with suppress(ThreadNotStarted):  # the extension counts, and an event tells
                self._start(hold)

    def _renew(self, hold: Hold, due: bool) -> float | None:
        """Extend the lease; return the seconds until the next renewal, None if there is none.

        ``due``: False: only compute those seconds anew.
        """
        if not due:
            return self._holder.next_pause(hold, "extended")
        outcome = "unknown"
        try:
            if self._extended(hold, None):
                outcome = "extended"
        except (LockLost, LockNotHeld):
            return None
        # After any error the lease ends by its ttl, and its holder must learn of it.
        except Exception as error:  # noqa: BLE001
            if hold.leaving or hold.over:
                return None
            self._note(error)
        pause = self._holder.next_pause(hold, outcome)
        if pause > 0:
            return pause
        self._lose(hold)
        return None

    @staticmethod
    def _caller() -> Hashable:
        return threading.get_ident()

    @staticmethod
    def _new_gate() -> Any:
        # Looked up in its module at each call, because gevent may have patched that.
        return threading.RLock()


def _nothing() -> None:
    """Undo nothing: an extension that is broken off leaves the lease as it is."""
