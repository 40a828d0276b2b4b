"""The lease of one handle, and the flows that take, extend and release it.

It is the same in both colours. Each `QuorumLock` and `AsyncQuorumLock` has one; a lock set works
with those of its locks. A holder does not refer to its handle, so that a handle goes at once when
nothing else refers to it: it is not renewed then, and its block is undone.
"""

import math
import os
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

from shardcache.drivers.lock_backend import LockBackend
from shardcache.errors import (
    InvalidArgument,
    InvalidOption,
    LockConflict,
    LockLost,
    LockNotHeld,
    QuorumUnavailable,
    ShardError,
)
from shardcache.events import Event, emit
from shardcache.flows.budget import Budget
from shardcache.flows.lock import Lease, acquire, extend, force_release, inspect_lock, release
from shardcache.flows.lock.adoption import adopt
from shardcache.flows.lock.ballot import lasting
from shardcache.flows.lock.lock_plan import LockPlan
from shardcache.flows.lock.undo import Pending, give_back_all
from shardcache.flows.lock.wait_limit import Note
from shardcache.flows.steps import Flow
from shardcache.keys import Key
from shardcache.locks.holder import Holder
from shardcache.locks.lease_handle import Hold, Taking
from shardcache.locks.waiting import teller
from shardcache.request_deadline import TIME_IS_OVER, caller_end_by, time_left
from shardcache.system.holder_token import check_label, new_token

__all__ = ("HANDED_OVER", "LeaseHolder")

HANDED_OVER = "handover:"  # tells the text for `adopt` from a token that is only to be shown
_RENEWALS = 3  # renewals in one ttl: two may fail
_HURRY = 10  # after a renewal that failed, the next one comes after this part of the ttl

D = TypeVar("D")


class LeaseHolder(Generic[D]):
    """What a handle holds, at any time one lease at most.

    ``backend``: what it works with.
    ``name``: the name of the lock.
    ``ttl``: seconds that a lease lasts.
    ``voters``: names of the nodes that vote; None: those of the membership.
    ``voter_timeout``: seconds to wait for one voter; None: the default.
    ``owner``: who acts, for a re-entrant lock; None: what ``caller`` returns.
    ``label``: what an operator reads of the holder; None: the default.
    ``caller``: returns the running thread or task.
    ``new_gate``: returns a lock of threads or tasks, for `Hold`.
    ``taken``: returns what is to be called with each new `Hold` before it counts; None if the
        handle is gone. It may raise, and then the lease is given back.

    Methods that return a `Flow` ask the voters; the driver of ``backend`` runs them.
    """

    __slots__ = (
        "_caller",
        "_label",
        "_new_gate",
        "_owner",
        "_taken",
        "_voter_timeout",
        "backend",
        "clock",
        "hold",
        "plan",
    )

    def __init__(
        self,
        backend: LockBackend[D],
        name: Key,
        ttl: float,
        *,
        voters: Sequence[str] | None,
        voter_timeout: float | None,
        owner: Hashable,
        label: str | None,
        caller: Callable[[], Hashable],
        new_gate: Callable[[], Any],
        taken: Callable[[], Callable[[Hold], None] | None],
    ) -> None:
        self.backend = backend
        self.clock = backend.clock
        self.plan = backend.planner.plan(name, ttl, voters, voter_timeout)
        try:
            hash(owner)
        except TypeError as error:
            raise InvalidOption(f"owner must be hashable: {error}") from None
        self._owner = owner
        self._label = check_label(label)
        self._voter_timeout = voter_timeout
        self._caller = caller
        self._new_gate = new_gate
        self._taken = taken
        self.hold: Hold | None = None

    # What is known without asking a voter.

    @property
    def name(self) -> str:
        """The lock's name."""
        return self.plan.name

    @property
    def voters(self) -> tuple[str, ...]:
        """The names of the nodes that vote on this lock."""
        hold = self.current()
        if hold is not None and hold.lease.voters is not None:
            return hold.lease.voters.names
        return self.backend.planner.electorate.plan(self.plan).voters.names

    def current(self) -> Hold | None:
        """Return what is held; None in a forked child, whose parent holds it.

        It is None too as long as the call that took it may still be broken off.
        """
        hold = self.hold
        if hold is None or hold.over or hold.pid != os.getpid() or not hold.counts():
            return None
        return hold

    def known(self, complaint: str) -> Hold:
        """Return what is held. Raises `LockNotHeld` with ``complaint`` if there is nothing."""
        hold = self.current()
        if hold is None:
            raise LockNotHeld(self.name, complaint)
        return hold

    def left_of(self, hold: Hold) -> float:
        """Return for how many seconds a lease is still good, by our own clock."""
        return max(hold.lease.valid_until - self.clock(), 0.0)

    def next_pause(self, hold: Hold, outcome: str) -> float:
        """Return the seconds until the next renewal: soon after a failure, never after the end."""
        gap = self.plan.ttl / (_RENEWALS if outcome == "extended" else _HURRY)
        return min(gap, self.left_of(hold))

    def identity(self) -> Hashable:
        """Return the owner in whose name the caller acts, for a re-entrant lock."""
        return self._owner if self._owner is not None else self._caller()

    def budget(self, wait: float | None, *, bounded: bool = False) -> Budget | None:
        """Return the time that all exchanges of one call share; None: there is no bound.

        It is ``wait``, or one timeout if that is longer.

        ``bounded``: whether the caller's `deadline` ends it too. It does not end what would leave
            others without the lock, or the holder without its lease.
        """
        end = caller_end_by(self.clock) if bounded else None
        if wait is None or wait == math.inf:
            return None if end is None else Budget(math.inf, self.clock, end=end)
        timeout = max(self.backend.planner.timeout, self.plan.voter_timeout)
        return Budget(max(wait, timeout), self.clock, end=end)

    @staticmethod
    def turn_limit(wait: float | None) -> float | None:
        """Return the seconds to wait for others of this process: ``wait``, or what is left."""
        left = time_left()
        return wait if left is None else min(math.inf if wait is None else wait, max(left, 0.0))

    def _caller_end(self) -> float:
        """Return when the caller's `deadline` is over. Raises `QuorumUnavailable` if it is now."""
        end = caller_end_by(self.clock)
        if end is None:
            return math.inf
        if end <= self.clock():
            raise QuorumUnavailable(self.name, f"a majority {TIME_IS_OVER}")
        return end

    def teller(self) -> Note:
        """Return a function that tells why a caller still waits, once for each reason."""
        return teller(self.backend.hook)

    def others_first(self) -> LockConflict:
        """Return the reason of a caller whose turn in this process has not come."""
        return LockConflict(self.name, "others in this process are before us")

    # What asks the voters.

    def acquire(
        self,
        wait: float | None,
        began: float | None = None,
        note: Note | None = None,
        taking: Taking | None = None,
    ) -> Flow[Hold]:
        """Take the lock.

        ``wait``: seconds to wait; None and inf as in `QuorumLock.acquire`.
        ``began``: the clock when the call began; None: now.
        ``note``: called with the reason while the call waits.
        ``taking``: gets what is to be undone if the call is broken off.

        Raises `LockNotAcquired`.
        """
        # The flow of the protocol, with the clock and the names of this handle.
        end = self._caller_end()
        taking = Taking() if taking is None else taking
        planner = self.backend.planner
        lease = yield from acquire(
            self.plan,
            planner.registry,
            token=new_token(self._label),
            wait=wait,
            clock=self._clock_of(taking),
            random=self.backend.random,
            began=began,
            note=self.teller() if note is None else note,
            electorate=planner.electorate,
            undo=taking,
            end=end,
        )
        return (yield from self._kept_or_given_back(lease, taking))

    def adopt(self, token: str, taking: Taking | None = None) -> Flow[Hold]:
        """Take over a lease that was handed over.

        ``token``: the text that `handover` returned.
        ``taking``: as in `acquire`.

        Raises `LockLost` if nobody can have the lease any more, or another caller has it.
        """
        # The text is that of `handover`, with the fencing token and the giver's holder token.
        taking = Taking() if taking is None else taking
        given = token.removeprefix(HANDED_OVER) if isinstance(token, str) else ""
        fence, _, text = given.partition(":")
        if given == token or not (fence.isascii() and fence.isdecimal()) or not text:
            raise InvalidArgument(f"adopt takes the text that `handover` gave, got {token!r:.80}")
        own = new_token(self._label)
        planner = self.backend.planner
        plan, *before = yield from planner.electorate.refresh(self.plan)
        arguments = (text.encode(), own, int(fence))

        def adopted(plan: LockPlan) -> Flow[Lease]:
            return adopt(
                plan,
                *arguments,
                registry=planner.registry,
                clock=self._clock_of(taking),
                random=self.backend.random,
                undo=taking,
            )

        # While the voters are changed, the former ones may have the lease.
        try:
            lease = yield from adopted(plan)
        except LockLost:
            if not before:
                raise
            lease = yield from adopted(before[0])
        return (yield from self._kept_or_given_back(lease, taking))

    def _kept_or_given_back(self, lease: Lease, taking: Taking) -> Flow[Hold]:
        """Hold a lease; one that cannot be renewed as the user wants is given back."""
        self._refuse_child(taking)
        try:
            return self._took(lease, taking)
        except BaseException:  # no thread could be started, say
            taking.drop()
            yield from taking.flow()
            raise

    def _refuse_child(self, taking: Taking) -> None:
        """Raise `LockConflict` in a child that was forked since the call began.

        The parent goes on with the call, under the same holder token.
        """
        if taking.pid != os.getpid():
            raise LockConflict(self.name, "this process was forked while its parent was taking it")

    def _clock_of(self, taking: Taking) -> Callable[[], float]:
        """Return the clock for the flow of a call: it is looked at before anything is sent."""

        def clock() -> float:
            self._refuse_child(taking)
            return self.clock()

        return clock

    def _took(self, lease: Lease, taking: Taking) -> Hold:
        """Remember the lease, after its renewal has begun."""
        if self.hold is not None:
            self.hold.end_renewal()
        hold = Hold(lease, self.identity(), taking.pid, self._new_gate(), taking.call)
        taking.hold = hold
        taken = self._taken()
        if taken is not None:
            taken(hold)  # first: a lease that should be renewed and cannot be is not held
        self.hold = hold
        return hold

    def extend(self, hold: Hold, ttl: float | None) -> Flow[bool]:
        """Start the ttl of a lease anew; return whether a majority has confirmed it.

        ``ttl``: seconds, for this extension and all that follow; None: as before.

        Raises `LockLost`, `LockNotHeld` after a release or handover, and `QuorumUnavailable` if the
        voters refuse it.
        """
        planner = self.backend.planner
        if ttl is not None:
            self.plan = planner.lasting(self.plan, ttl, self._voter_timeout)
        errors: list[ShardError] = []
        outcome = yield from extend(
            self.plan, hold.lease, registry=planner.registry, clock=self.clock, errors=errors
        )
        if outcome == "lost":
            if hold.leaving or hold.over:
                raise LockNotHeld(
                    self.name, "was released or handed over before it could be extended"
                )
            hold.lease.ended = True
            raise LockLost(  # the caller tells it to hook and callback
                self.name,
                "it could not be extended: a majority of the voters does not have it any more",
            )
        refusals = lasting(errors)
        if outcome == "unknown" and len(refusals) > len(self.voters) - self.plan.quorum:
            raise QuorumUnavailable(
                self.name, f"it could not be extended: {refusals[0]}"
            ) from refusals[0]
        return outcome == "extended"

    def release(self, hold: Hold, taking: Taking) -> Flow[None]:
        """Release a lease.

        ``taking``: is settled once the voters have been asked. There is nothing for the undo log
            any more, even if too few of them answered.

        Raises `LockLost` if the lease had ended before, and `QuorumUnavailable` if too few voters
        have confirmed the release.
        """
        again, hold.leaving = hold.leaving, True
        errors: list[ShardError] = []
        try:
            outcome = yield from release(self.plan, hold.lease, errors)
        except GeneratorExit:
            raise
        except BaseException:  # broken off, perhaps before anything was sent
            yield from give_back_all([self.pending(hold)])
            raise
        hold.over = outcome != "unknown"
        taking.settled = True
        # Too few confirmations: the user may try again.
        if outcome == "unknown":
            left = f"its ttl of {self.plan.ttl:g} s ends it anyway"
            why = "".join(f"; {error}" for error in errors)
            cause = errors[0] if errors else None
            raise QuorumUnavailable(
                self.name, f"too few voters answered to be sure that it is released; {left}{why}"
            ) from cause
        # At a second call, the lease may have ended by our first release, which was not confirmed.
        if outcome == "lost" and not again:
            raise LockLost(
                self.name,
                "it had ended before it was released, and somebody else may have held it meanwhile",
            )

    def pending(self, hold: Hold) -> Pending:
        """Return the part of a lease that the voters have, for the undo log."""
        lease = hold.lease
        return Pending(self.plan.on(lease.voters), lease.token, lambda: lease.unsure)

    def leave_to_ttl(self, hold: Hold, error: BaseException) -> None:
        """Leave a lease to its ttl, since its release was not confirmed; tell the hook."""
        hold.over = True
        emit(self.backend.hook, Event("lock_kept", "", "lock", 1, error))

    def inspect(self) -> Flow[Holder | None]:
        """Return who holds the lock, whoever it is; None: nobody."""
        self._caller_end()
        for plan in (yield from self.backend.planner.electorate.refresh(self.plan)):
            holder = Holder.of(plan, (yield from inspect_lock(plan)))
            if holder is not None:
                return holder
        return None

    def force_release(self) -> Flow[int]:
        """Take the lock from its holder; return on how many voters it was held."""
        freed = 0
        for plan in (yield from self.backend.planner.electorate.refresh(self.plan)):
            freed += yield from force_release(plan)
        return freed
