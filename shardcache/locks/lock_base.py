"""What both colours of the lock have in common: everything but waiting.

The methods whose names begin with an underscore and a verb are flows: each colour runs them by its driver.
"""

import logging
import math
import os
import random
import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any

from shardcache.errors import (
    InvalidArgument,
    InvalidOption,
    LockConflict,
    LockLost,
    LockNotAcquired,
    LockNotHeld,
    QuorumUnavailable,
    ShardError,
)
from shardcache.events import Event, Hook, emit, repeats
from shardcache.flows.budget import Budget
from shardcache.flows.lock import Lease, acquire, extend, force_release, inspect_lock, release
from shardcache.flows.lock.adoption import adopt, put_back
from shardcache.flows.lock.ballot import lasting
from shardcache.flows.lock.planner import LockPlanner
from shardcache.flows.lock.renew_release import give_back
from shardcache.flows.lock.wait_limit import Note
from shardcache.flows.steps import Flow
from shardcache.hooks import call_hook, check_hook
from shardcache.keys import Key
from shardcache.locks.holder import Holder
from shardcache.locks.lease_handle import Hold
from shardcache.system.clock import boottime
from shardcache.system.holder_token import check_label, default_label, new_token

__all__ = ("LONE", "LockBase")

LONE = "locks"  # the namespace of locks without a cache
_logger = logging.getLogger("shardcache.locks")
_logger.addFilter(repeats)
_HANDED_OVER = "handover:"  # what tells the text for `adopt` from a token that is only shown
_RENEWALS = 3  # in one ttl: two may fail
_HURRY = 10  # after a failed one, the next comes after this part of the ttl


class LockBase:
    """A handle on one lock. At any time it has one lease at most."""

    def __init__(
        self,
        planner: LockPlanner,
        hook: Hook | None,
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
        clock: Callable[[], float] = boottime,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._planner = planner
        self._hook = hook
        self._plan = self._planner.plan(name, ttl, voters, voter_timeout)
        check_hook("on_lost", on_lost)
        try:
            hash(owner)
        except TypeError as error:
            raise InvalidOption(f"owner must be hashable: {error}") from None
        self._timeout = _checked_timeout(timeout)
        self._auto_renew = bool(auto_renew)
        self._on_lost = on_lost
        self._reentrant = bool(reentrant)
        self._fixed_owner = owner
        self._label = check_label(label)
        self._clock = clock
        self._random = random
        self._voter_timeout = voter_timeout
        self._hold: Hold | None = None
        # What each caller's `with` got: it releases that, even if somebody has used this handle again after its loss.
        self._entered: list[tuple[Hashable, Hold]] = []

    def __reduce__(self) -> str:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled or copied, since a lease belongs to its process: "
            "hand it over by the text that `handover` returns, which `adopt` takes"
        )

    # What is known without asking anybody.

    @property
    def name(self) -> str:
        """The lock's name."""
        return self._plan.name

    @property
    def ttl(self) -> float:
        """Seconds that the lease lasts from each acquisition and extension."""
        return self._plan.ttl

    @property
    def voters(self) -> tuple[str, ...]:
        """The names of the nodes that vote on this lock."""
        hold = self._current()
        if hold is not None and hold.lease.voters is not None:
            return hold.lease.voters.names
        return self._planner.electorate.plan(self._plan).voters.names

    @property
    def fencing_token(self) -> int:
        """An int above that of every earlier acquisition of this lock, to be checked where the work is done (docs/fencing.md).

        Raises `LockNotHeld` if this handle has no lease; it stays the same, and readable, when the lease is lost.
        """
        return self._known("has no fencing token").lease.fence

    @property
    def token(self) -> str:
        """What this handle's lease is known by, to be read: fencing token and what stands in the key. Raises `LockNotHeld` without a lease."""
        lease = self._known("has no token").lease
        return f"{lease.fence}:{lease.token.decode()}"

    def remaining(self) -> float:
        """Return the seconds for which nobody else can hold the lock: 0.0 if this handle does not hold it."""
        hold = self._current()
        return 0.0 if hold is None else self._left_of(hold)

    @property
    def held(self) -> bool:
        """Whether this handle holds the lock at this moment, by its own clock."""
        return self.remaining() > 0

    def ensure_held(self) -> None:
        """Raise `LockLost` if the lease has ended, `LockNotHeld` if there is none. Costs no round trip."""
        hold = self._known("is not held")
        if self._left_of(hold) <= 0:
            self._lose(hold)
            raise LockLost(self.name, "the lease has ended, and somebody else may hold the lock")

    def handover(self) -> str:
        """Let go of the lease without releasing it; return the text by which another thread, task or process can `adopt` it, one of them once."""
        token = _HANDED_OVER + self.token
        self.ensure_held()
        hold = self._known("has no token")
        hold.over = hold.lease.ended = True  # a renewal under way puts nothing back any more
        self._stop(hold)
        return token

    # What is to be asked of the voters.

    def _acquire(
        self,
        wait: float | None,
        began: float | None = None,
        note: Note | None = None,
        taken: list[Hold] | None = None,
    ) -> Flow[Hold]:
        """Take the lock; what was taken goes to ``taken`` too.

        Raises `LockNotAcquired` if that cannot be done within ``wait`` seconds from ``began``; see `acquire`.
        """
        lease = yield from acquire(
            self._plan,
            self._planner.registry,
            token=new_token(self._label or default_label()),
            wait=wait,
            clock=self._clock,
            random=self._random,
            began=began,
            note=self._teller() if note is None else note,
            electorate=self._planner.electorate,
        )
        try:
            hold = self._took(lease)
            if taken is not None:
                taken.append(hold)
            return hold
        except BaseException:  # no thread could be started, say
            lease.ended = True
            yield from give_back(self._plan.on(lease.voters), lease.token, lease.unsure)
            raise

    def _budget(self, wait: float | None) -> Budget | None:
        """Return what the exchanges of one call may take together; None: there is no bound.

        That is its ``wait``, or one timeout if that is longer.
        """
        if wait is None or wait == math.inf:
            return None
        return Budget(max(wait, self._planner.timeout, self._plan.voter_timeout), self._clock)

    def _adopt(self, token: str) -> Flow[None]:
        given = token.removeprefix(_HANDED_OVER) if isinstance(token, str) else ""
        fence, _, text = given.partition(":")
        if given == token or not (fence.isascii() and fence.isdecimal()) or not text:
            raise InvalidArgument(f"adopt takes the text that `handover` gave, got {token!r:.80}")
        own = new_token(self._label or default_label())
        plan, *before = yield from self._planner.electorate.refresh(self._plan)
        arguments = (text.encode(), own, int(fence))
        registry = self._planner.registry
        try:
            lease = yield from adopt(
                plan, *arguments, registry=registry, clock=self._clock, random=self._random
            )
        except LockLost:
            if not before:
                raise
            [plan] = before
            lease = yield from adopt(
                plan, *arguments, registry=registry, clock=self._clock, random=self._random
            )
        try:
            self._took(lease)
        except BaseException:
            yield from put_back(plan, lease.token, text.encode())
            raise

    def _extend(self, hold: Hold, ttl: float | None) -> Flow[bool]:
        if ttl is not None:
            self._plan = self._planner.lasting(self._plan, ttl, self._voter_timeout)
        errors: list[ShardError] = []
        registry = self._planner.registry
        outcome = yield from extend(
            self._plan, hold.lease, registry=registry, clock=self._clock, errors=errors
        )
        if outcome == "lost":
            if hold.leaving or hold.over:
                raise LockNotHeld(
                    self.name, "was released or handed over before it could be extended"
                )
            hold.lease.ended = True
            self._lose(hold)
            raise LockLost(
                self.name,
                "it could not be extended: a majority of the voters does not have it any more",
            )
        refusals = lasting(errors)
        if outcome == "unknown" and len(refusals) > len(self.voters) - self._plan.quorum:
            raise QuorumUnavailable(
                self.name, f"it could not be extended: {refusals[0]}"
            ) from refusals[0]
        return outcome == "extended"

    def _release(self, hold: Hold) -> Flow[None]:
        again, hold.leaving = hold.leaving, True
        errors: list[ShardError] = []
        try:
            outcome = yield from release(self._plan, hold.lease, errors)
        except GeneratorExit:
            raise
        except BaseException:  # broken off, perhaps before it was sent; it may be called again
            yield from give_back(
                self._plan.on(hold.lease.voters), hold.lease.token, hold.lease.unsure
            )
            raise
        if outcome == "unknown":
            left = f"its ttl of {self.ttl:g} s ends it anyway"
            why = "".join(f"; {error}" for error in errors)
            cause = errors[0] if errors else None
            raise QuorumUnavailable(
                self.name, f"too few voters answered to be sure that it is released; {left}{why}"
            ) from cause
        hold.over = True
        if outcome == "lost" and not again:  # else it was our own release that nobody had confirmed
            raise LockLost(
                self.name,
                "it had ended before it was released, and somebody else may have held it meanwhile",
            )

    def _give_back(self, hold: Hold) -> Flow[None]:
        """Let go of a lease, and wait for nobody: there may be no time left, and the ttl ends it anyway."""
        self._stop(hold)
        hold.over = hold.lease.ended = True
        yield from give_back(self._plan.on(hold.lease.voters), hold.lease.token, hold.lease.unsure)

    def _inspect(self) -> Flow[Holder | None]:
        for plan in (yield from self._planner.electorate.refresh(self._plan)):
            holder = Holder.of(plan, (yield from inspect_lock(plan)))
            if holder is not None:
                return holder
        return None

    def _break(self) -> Flow[int]:
        freed = 0
        for plan in (yield from self._planner.electorate.refresh(self._plan)):
            freed += yield from force_release(plan)
        return freed

    # The state of the handle.

    def _took(self, lease: Lease) -> Hold:
        hold = Hold(lease, self._identity(), os.getpid(), self._gate())
        self._start(hold)  # first: what should be renewed and cannot be is not held
        self._hold = hold
        return hold

    def _start(self, hold: Hold) -> None:
        """Begin to renew, if that is asked for. Raises `ThreadNotStarted`."""
        raise NotImplementedError

    def _current(self) -> Hold | None:
        """What this handle has, unless it was the process that this one was forked from that got it."""
        hold = self._hold
        return hold if hold is not None and not hold.over and hold.pid == os.getpid() else None

    def _known(self, complaint: str) -> Hold:
        hold = self._current()
        if hold is None:
            raise LockNotHeld(self.name, complaint)
        return hold

    def _left_of(self, hold: Hold) -> float:
        return max(hold.lease.valid_until - self._clock(), 0.0)

    def _identity(self) -> Hashable:
        """Return who is calling, for a re-entrant lock."""
        return self._fixed_owner if self._fixed_owner is not None else self._caller()

    def _caller(self) -> Hashable:
        raise NotImplementedError

    def _gate(self) -> Any:
        raise NotImplementedError

    def _enters_again(self) -> Hold | None:
        """Return what the caller holds of this re-entrant lock already, if it does; count the round."""
        hold = self._current()
        if not self._reentrant or hold is None or hold.leaving or hold.owner != self._identity():
            return None
        self.ensure_held()
        hold.enter_again()
        return hold

    def _leaves(self) -> Hold | None:
        """Return what is to be released; None if the caller only leaves an inner round of a re-entrant lock."""
        hold = self._known("is not held, so it cannot be released")
        if self._reentrant and hold.owner != self._identity():
            raise LockNotHeld(self.name, "is held by another owner")
        return None if hold.leave_inner() else hold

    def _lose(self, hold: Hold) -> None:
        """Tell once that the lease is lost; one that is let go of is not."""
        if hold is not self._hold or hold.leaving or hold.over or not hold.first_to_tell():
            return
        emit(
            self._hook,
            Event("lock_lost", "", "lock", 1, LockLost(self.name, "the lease has ended")),
        )
        self._signal()
        if self._on_lost is not None:
            try:
                call_hook(self._on_lost, self)
            except Exception:
                logging.getLogger("shardcache").exception("on_lost of lock %r failed", self.name)

    def _signal(self) -> None:
        raise NotImplementedError

    def _stop(self, hold: Hold) -> None:
        """End the renewal, if there is one."""
        raise NotImplementedError

    def _kept(self, hold: Hold, error: BaseException) -> None:
        """Leave to its ttl what could not be released for certain, and tell."""
        hold.over = True
        emit(self._hook, Event("lock_kept", "", "lock", 1, error))

    def _note(self, error: BaseException) -> None:
        """Note a renewal that failed."""
        logging.getLogger("shardcache").warning(
            "a renewal of lock %r failed", self.name, exc_info=error
        )

    def _note_entered(self, hold: Hold) -> None:
        """Note what a `with` got."""
        self._entered.append((self._caller(), hold))

    def _entry(self) -> tuple[Hashable, Hold] | None:
        """Return what the `with` that ends now had noted."""
        me = self._caller()
        entered = tuple(self._entered)
        # An exit stack may be left in another task or thread than it was entered in.
        return next(
            (one for one in reversed(entered) if one[0] == me), entered[-1] if entered else None
        )

    def _left(self, entry: tuple[Hashable, Hold]) -> Hold | None:
        """Return what is to be released at the end of a `with`; None if it has ended otherwise, or an outer one goes on."""
        with suppress(ValueError):
            self._entered.remove(entry)
        hold = entry[1]
        return None if hold.over or hold.pid != os.getpid() or hold.leave_inner() else hold

    def _pause(self, hold: Hold, outcome: str) -> float:
        """Return the seconds until the next renewal; after one that failed it is soon, and never later than the end."""
        gap = self.ttl / (_RENEWALS if outcome == "extended" else _HURRY)
        return min(gap, self._left_of(hold))

    @staticmethod
    def _wait(blocking: bool, timeout: float | None, usual: float | None) -> float | None:
        """Return seconds to wait for the lock: 0 for one attempt, None if nobody gave an end, inf if none is wanted.

        ``timeout`` as `threading.Lock.acquire` reads it; ``usual`` is the handle's.
        """
        if not blocking:
            if timeout is not None and timeout != -1:
                raise InvalidArgument(
                    "a timeout cannot be given for an acquire that does not block"
                )
            return 0.0
        return usual if timeout is None else _checked_timeout(timeout)

    def _teller(self) -> Note:
        """Return what tells, once for each reason, why a caller still waits."""
        told: set[type] = set()

        def note(error: LockNotAcquired) -> None:
            if type(error) not in told:
                told.add(type(error))
                emit(self._hook, Event("lock_waiting", "", "lock", 1, error))
                level = logging.WARNING if isinstance(error, QuorumUnavailable) else logging.INFO
                about = {"shardcache_repeats": ("lock_waiting", type(error), error.name)}
                _logger.log(
                    level, "still waiting for lock %r: %s", error.name, error.reason, extra=about
                )

        return note

    def _others_first(self) -> LockConflict:
        """Return why a caller waits whose turn in this process has not come."""
        return LockConflict(self.name, "others in this process are before us")

    @staticmethod
    def _check_namespace(namespace: str | None, *, shared: bool) -> None:
        if shared and namespace is not None:
            raise InvalidOption(
                f"namespace is for a lock of its own servers; one that shares connections has theirs, got {namespace!r:.80}"
            )

    def _refused(self, error: LockNotAcquired) -> bool:
        """Return False for a lock that others hold; raise when it is the voters that are out."""
        if isinstance(error, QuorumUnavailable):
            raise error
        return False

    def __repr__(self) -> str:
        state = f"held for {self.remaining():.3g} s" if self.held else "not held"
        return f"<{type(self).__name__} {self.name!r} on {', '.join(self.voters)}: {state}>"


def _checked_timeout(timeout: Any) -> float | None:
    """Return the seconds that a caller gave for waiting: None if none, inf if there is to be no end."""
    if timeout is None:
        return None
    if isinstance(timeout, (int, float)) and not isinstance(timeout, bool):
        if timeout == -1:
            return math.inf
        if 0 <= timeout <= threading.TIMEOUT_MAX:
            return float(timeout)
    raise InvalidArgument(
        f"timeout must be a number of seconds from 0 to {threading.TIMEOUT_MAX:.0f}, -1 for no end, or None, got {timeout!r:.80}"
    )
