"""What `QuorumLock` and `AsyncQuorumLock` have in common: everything but waiting."""

import logging
import os
import weakref
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from shardcache.client_base import CacheBase, backend_of
from shardcache.drivers.lock_backend import LockBackend
from shardcache.errors import InvalidArgument, InvalidOption, LockLost, LockNotHeld
from shardcache.events import Event, emit
from shardcache.flows.context import ClientContext
from shardcache.flows.lock.planner import LockPlanner
from shardcache.hooks import call_hook, check_hook
from shardcache.keys import Key
from shardcache.locks.lease_handle import Entered, Hold, Taking
from shardcache.locks.lease_holder import HANDED_OVER, LeaseHolder
from shardcache.locks.waiting import checked_timeout
from shardcache.options import Options
from shardcache.topology.nodes import members

__all__ = ("LONE", "LockBase", "holder_of")

LONE = "locks"  # the namespace of locks without a cache

D = TypeVar("D")


class LockBase(Generic[D]):
    """A handle on one lock. At any time it has one lease at most."""

    lost: Any  # the event of this colour: whether a lease has ended under its holder
    _nodes_rule: str  # what an error says: the client that ``nodes`` may be has the same colour

    def __init__(
        self,
        backend: LockBackend[D],
        name: Key,
        ttl: float,
        *,
        timeout: float | None,
        auto_renew: bool,
        on_lost: Callable[[Any], object] | None,
        reentrant: bool,
        owner: Hashable,
        voters: Sequence[str] | None,
        voter_timeout: float | None,
        label: str | None,
    ) -> None:
        # Check all arguments before anything is sent.
        self._holder = LeaseHolder(
            backend,
            name,
            ttl,
            voters=voters,
            voter_timeout=voter_timeout,
            owner=owner,
            label=label,
            caller=self._caller,
            new_gate=self._new_gate,
            taken=weakref.WeakMethod(self._taken),
        )
        check_hook("on_lost", on_lost)
        self._driver = backend.driver
        self._timeout = checked_timeout(timeout)
        self._auto_renew = bool(auto_renew)
        self._on_lost = on_lost
        self._reentrant = bool(reentrant)
        # What each `with` got. It releases that lease, even if the lease was lost and another
        # caller has used the handle since.
        self._entered: list[Entered] = []

    @classmethod
    def _connect(
        cls,
        nodes: Any,
        options: Options | None,
        namespace: str | None,
        driver: type[D],
        connect: Callable[[ClientContext], D],
    ) -> LockBackend[D]:
        """Return what a lock of these ``nodes`` works with.

        ``driver``: the driver of this colour.
        ``connect``: makes one, for servers of the lock's own.
        """
        if not isinstance(nodes, (CacheBase, LockBase)):
            context = ClientContext.of_lock(
                members(nodes), options, LONE if namespace is None else namespace
            )
            planner, hook = LockPlanner(context), context.options.on_event
            return LockBackend(connect(context), planner, hook, owned=True)
        if namespace is not None:
            raise InvalidOption(
                "namespace is for a lock of its own servers; one that shares connections has "
                f"theirs, got {namespace!r:.80}"
            )
        shared = backend_of(nodes) if isinstance(nodes, CacheBase) else holder_of(nodes).backend
        if not isinstance(shared.driver, driver):
            raise InvalidArgument(f"nodes of {cls._nodes_rule}, got {type(nodes).__name__}")
        return shared._replace(owned=False)

    def __reduce__(self) -> str:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled or copied, since a lease belongs to its "
            "process: hand it over by the text that `handover` returns, which `adopt` takes"
        )

    @property
    def name(self) -> str:
        """The lock's name."""
        return self._holder.name

    @property
    def ttl(self) -> float:
        """Seconds that a lease lasts from each acquisition and extension."""
        return self._holder.plan.ttl

    @property
    def voters(self) -> tuple[str, ...]:
        """The names of the nodes that vote on this lock."""
        return self._holder.voters

    @property
    def fencing_token(self) -> int:
        """An int above that of every earlier acquisition; the store checks it (docs/fencing.md).

        It stays the same, and readable, when the lease is lost. Raises `LockNotHeld` if this handle
        has no lease.
        """
        return self._holder.known("has no fencing token").lease.fence

    @property
    def token(self) -> str:
        """Fencing token and holder token of this handle's lease as one text, to be shown.

        Raises `LockNotHeld` if this handle has no lease.
        """
        lease = self._holder.known("has no token").lease
        return f"{lease.fence}:{lease.token.decode()}"

    def remaining(self) -> float:
        """Return for how many seconds this handle alone holds the lock; 0.0 if it does not."""
        hold = self._holder.current()
        return 0.0 if hold is None else self._holder.left_of(hold)

    @property
    def held(self) -> bool:
        """Whether this handle holds the lock at this moment, by its own clock."""
        return self.remaining() > 0

    def ensure_held(self) -> None:
        """Raise `LockLost` if the lease has ended, `LockNotHeld` if there is none; ask no voter."""
        hold = self._holder.known("is not held")
        if self._holder.left_of(hold) <= 0:
            self._lose(hold)
            raise LockLost(self.name, "the lease has ended, and somebody else may hold the lock")

    def handover(self) -> str:
        """Give the lease away without releasing it; return a text for `adopt`.

        Any thread, task or process may adopt the lease; one of them gets it, once. Raises as
        `ensure_held`.
        """
        token = HANDED_OVER + self.token
        self.ensure_held()
        hold = self._holder.known("has no token")
        hold.end_renewal()
        # A caller that is broken off before this still has the lease. From here on a renewal under
        # way restores nothing.
        hold.over = hold.lease.ended = True
        hold.unguard()  # in a `with`, which has nothing to release any more
        return token

    # What is different in each colour.

    @staticmethod
    def _caller() -> Hashable:
        """Return the running thread or task."""
        raise NotImplementedError

    @staticmethod
    def _new_gate() -> Any:
        """Return a lock of threads or tasks."""
        raise NotImplementedError

    def _start(self, hold: Hold) -> None:
        """Begin to renew, if the user wants renewals. Raises `ThreadNotStarted`."""
        raise NotImplementedError

    def _taken(self, hold: Hold) -> None:
        """Note that a lease was taken which does not count yet."""
        self.lost.clear()
        self._start(hold)

    def _signal(self) -> None:
        """Give the sign that the lease was lost."""
        self.lost.set()

    # The rounds of a re-entrant lock, and of blocks.

    def _enters_again(self, mark: object) -> Hold | None:
        """Return what the caller holds of this re-entrant lock, if anything, and note a round."""
        hold = self._holder.current()
        if (
            not self._reentrant
            or hold is None
            or hold.leaving
            or hold.owner != self._holder.identity()
        ):
            return None
        self.ensure_held()
        hold.enter_again(mark)
        return hold

    def _leaves(self, taking: Taking) -> Hold | None:
        """Return what is to be released; None if the caller leaves an inner round only."""
        hold = self._holder.known("is not held, so it cannot be released")
        if self._reentrant and hold.owner != self._holder.identity():
            raise LockNotHeld(self.name, "is held by another owner")
        taking.hold = hold
        return None if hold.leave_inner(taking) else hold

    def _note_entered(self, hold: Hold) -> None:
        """Note what a `with` got."""
        self._entered.append(Entered(self._caller(), hold))

    def _left(self, taking: Taking) -> Hold | None:
        """Return what the end of a `with` is to release.

        It is None if the lease is over already, or if an outer `with` goes on.
        """
        entered = taking.entered
        if entered is None:
            me, noted = self._caller(), tuple(self._entered)
            # An exit stack may be left in another task or thread than it was entered in.
            entered = next(
                (one for one in reversed(noted) if one.caller == me), noted[-1] if noted else None
            )
            if entered is None:
                return None
            taking.entered = entered
        with suppress(ValueError):
            self._entered.remove(entered)
        taking.hold = hold = entered.hold
        return None if hold.over or hold.pid != os.getpid() or hold.leave_inner(taking) else hold

    # The loss of a lease.

    def _lose(self, hold: Hold) -> None:
        """Tell once that the lease is lost, unless it is being released or was handed over."""
        if hold is not self._holder.hold or hold.leaving or hold.over or not hold.first_to_tell():
            return
        emit(
            self._holder.backend.hook,
            Event("lock_lost", "", "lock", 1, LockLost(self.name, "the lease has ended")),
        )
        self._signal()
        if self._on_lost is not None:
            try:
                call_hook(self._on_lost, self)
            except Exception:
                logging.getLogger("shardcache").exception("on_lost of lock %r failed", self.name)

    def _note(self, error: BaseException) -> None:
        """Note a renewal that failed."""
        logging.getLogger("shardcache").warning(
            "a renewal of lock %r failed", self.name, exc_info=error
        )

    def __repr__(self) -> str:
        state = f"held for {self.remaining():.3g} s" if self.held else "not held"
        return f"<{type(self).__name__} {self.name!r} on {', '.join(self.voters)}: {state}>"


def holder_of(lock: LockBase[D]) -> LeaseHolder[D]:
    """Return what a handle holds its lease by, for a lock set or another lock to work with."""
    return lock._holder  # noqa: SLF001  users have no use for a public name of it
