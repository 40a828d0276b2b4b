"""What both colours of the lock have in common: everything but waiting.

The methods whose names begin with an underscore and a verb are flows: each colour runs them by its driver.
"""

import os
import random
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

from shardcache.drivers.clock import boottime
from shardcache.errors import (
    InvalidArgument,
    InvalidOption,
    LockLost,
    LockNotAcquired,
    LockNotHeld,
    QuorumUnavailable,
)
from shardcache.events import Event, Hook, tell
from shardcache.flows.lock import Lease, acquire, extend, force_release, look, release
from shardcache.flows.lock.look import adopt
from shardcache.flows.lock.room import LockRoom, check_ttl
from shardcache.flows.steps import Flow
from shardcache.keys import Key
from shardcache.locks.holder import Holder
from shardcache.locks.token import check_label, default_label, mint

__all__ = ("LockBase",)

_RENEWALS = 3  # in one ttl: two may fail
_HURRY = 10  # after a failed one, the next comes after this part of the ttl


class LockBase:
    """A handle on one lock. At any time it has one lease at most."""

    def __init__(
        self,
        room: LockRoom,
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
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._room = room
        self._hook = hook
        self._plan = self._room.plan(name, ttl, voters, voter_timeout)
        if timeout is not None:
            _check_timeout(timeout)
        if on_lost is not None and not callable(on_lost):
            raise InvalidOption(f"on_lost must be callable or None, got {on_lost!r:.80}")
        hash(owner)
        self._timeout = timeout
        self._auto_renew = bool(auto_renew)
        self._on_lost = on_lost
        self._reentrant = bool(reentrant)
        self._fixed_owner = owner
        self._label = check_label(label)
        self._clock = clock
        self._luck = luck
        self._lease: Lease | None = None
        self._owner: Hashable = None
        self._depth = 0
        self._pid = 0
        self._told = False  # of the loss of this lease
        # What each caller's `with` got: it releases that, even if somebody has used this handle again after its loss.
        self._entered: dict[Hashable, list[Lease]] = {}

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
        return self._plan.voters.names

    @property
    def fencing_token(self) -> int:
        """An int above that of every earlier acquisition of this lock, to be checked where the work is done (docs/fencing.md).

        Raises `LockNotHeld` if this handle has no lease; it stays the same, and readable, when the lease is lost.
        """
        return self._known("has no fencing token").fence

    @property
    def token(self) -> str:
        """What this handle's lease is known by, for `adopt`. Raises `LockNotHeld` without a lease."""
        lease = self._known("has no token")
        return f"{lease.fence}:{lease.token.decode()}"

    def remaining(self) -> float:
        """Return the seconds for which nobody else can hold the lock: 0.0 if this handle does not hold it."""
        lease = self._mine()
        return 0.0 if lease is None else max(lease.valid_until - self._clock(), 0.0)

    @property
    def held(self) -> bool:
        """Whether this handle holds the lock at this moment, by its own clock."""
        return self.remaining() > 0

    def ensure_held(self) -> None:
        """Raise `LockLost` if the lease has ended, `LockNotHeld` if there is none. Costs no round trip."""
        self._known("is not held")
        if self.remaining() <= 0:
            self._lose()
            raise LockLost(self.name, "the lease has ended, and somebody else may hold the lock")

    def handover(self) -> str:
        """Let go of the lease without releasing it; return the token by which another thread, task or process can `adopt` it."""
        token = self.token
        self.ensure_held()
        self._forget()
        return token

    # What is to be asked of the voters.

    def _acquire(self, wait: float | None) -> Flow[bool]:
        """Take the lock; return False if somebody holds it for all of ``wait``. Raises `QuorumUnavailable`."""
        lease = yield from acquire(
            self._plan,
            self._room.register,
            token=mint(self._label or default_label()),
            wait=wait,
            clock=self._clock,
            luck=self._luck,
        )
        self._took(lease)
        return True

    def _adopt(self, token: str) -> Flow[None]:
        fence, _, text = token.partition(":") if isinstance(token, str) else ("", "", "")
        if not fence.isdigit() or not text:
            raise InvalidArgument(f"adopt takes the text that `handover` or `token` gave, got {token!r:.80}")
        self._took((yield from adopt(self._plan, text.encode(), int(fence), clock=self._clock)))

    def _extend(self, ttl: float | None) -> Flow[bool]:
        lease = self._known("is not held, so it cannot be extended")
        if ttl is not None:
            check_ttl(ttl)
            self._plan = replace(self._plan, ttl=float(ttl))
        outcome = yield from extend(self._plan, lease, clock=self._clock)
        if outcome == "lost":
            lease.ended = True
            self._lose()
            raise LockLost(self.name, "it could not be extended: a majority of the voters does not have it any more")
        return outcome == "extended"

    def _release(self, lease: Lease) -> Flow[None]:
        outcome = yield from release(self._plan, lease)
        if outcome == "unknown":
            left = f"its ttl of {self.ttl:g} s ends it anyway"
            raise QuorumUnavailable(self.name, f"too few voters answered to be sure that it is released; {left}")
        if self._lease is lease:
            self._forget()
        if outcome == "lost":
            raise LockLost(
                self.name, "it had ended before it was released, and somebody else may have held it meanwhile"
            )

    def _look(self) -> Flow[Holder | None]:
        state = yield from look(self._plan)
        return Holder.of(self._plan, state)

    def _break(self) -> Flow[int]:
        return (yield from force_release(self._plan))

    # The state of the handle.

    def _took(self, lease: Lease) -> None:
        self._lease = lease
        self._owner = self._identity()
        self._depth = 1
        self._pid = os.getpid()
        self._told = False

    def _forget(self) -> None:
        self._lease = None
        self._depth = 0

    def _mine(self) -> Lease | None:
        """The lease, unless it is that of the process that this one was forked from."""
        return self._lease if self._pid == os.getpid() else None

    def _known(self, complaint: str) -> Lease:
        lease = self._mine()
        if lease is None:
            raise LockNotHeld(self.name, complaint)
        return lease

    def _identity(self) -> Hashable:
        """Return who is calling, for a re-entrant lock."""
        return self._fixed_owner if self._fixed_owner is not None else self._caller()

    def _caller(self) -> Hashable:
        raise NotImplementedError

    def _enters_again(self) -> bool:
        """Whether the caller holds this re-entrant lock already; if so, count it."""
        if self._reentrant and self._mine() is not None and self._owner == self._identity():
            self.ensure_held()
            self._depth += 1
            return True
        return False

    def _leaves_inner(self) -> bool:
        """Whether the caller only leaves an inner round of a re-entrant lock; if so, count it."""
        if not self._reentrant or self._mine() is None:
            return False
        if self._owner != self._identity():
            raise LockNotHeld(self.name, "is held by another owner")
        if self._depth == 1:
            return False
        self._depth -= 1
        return True

    def _lose(self) -> bool:
        """Tell once that the lease is lost; return whether this was the time."""
        if self._told:
            return False
        self._told = True
        tell(self._hook, Event("lock_lost", "", "lock", 1, LockLost(self.name, "the lease has ended")))
        self._signal()
        if self._on_lost is not None:
            try:
                self._on_lost(self)
            except Exception as error:  # noqa: BLE001  a callback's trouble must not end the renewal
                warnings.warn(f"on_lost of lock {self.name!r} raised {error!r}", RuntimeWarning, stacklevel=2)
        return True

    def _signal(self) -> None:
        raise NotImplementedError

    def _kept(self, error: BaseException) -> None:
        """Note a release that nobody confirmed."""
        tell(self._hook, Event("lock_kept", "", "lock", 1, error))

    def _note(self, error: BaseException) -> None:
        """Note a renewal that failed."""
        warnings.warn(f"the renewal of lock {self.name!r} failed: {error!r}", RuntimeWarning, stacklevel=2)

    def _note_entered(self) -> None:
        """Note what a `with` got."""
        if self._lease is not None:
            self._entered.setdefault(self._identity(), []).append(self._lease)

    def _entered_lease(self) -> Lease | None:
        """Return what the caller's innermost `with` got, if this process got it."""
        leases = self._entered.get(self._identity())
        if not leases:
            return None
        lease = leases.pop()
        if not leases:
            del self._entered[self._identity()]
        return lease if self._pid == os.getpid() else None

    def _pause(self, outcome: str) -> float:
        """Return the seconds until the next renewal; after one that failed it is soon, and never later than the end."""
        gap = self.ttl / (_RENEWALS if outcome == "extended" else _HURRY)
        return min(gap, self.remaining())

    def _wait(self, blocking: bool, timeout: float | None) -> float | None:
        """Return seconds to wait for the lock: None for ever, 0 for one attempt. As `threading.Lock.acquire` reads them."""
        if not blocking:
            if timeout is not None and timeout != -1:
                raise InvalidArgument("a timeout cannot be given for an acquire that does not block")
            return 0.0
        if timeout is None or timeout == -1:
            return None
        _check_timeout(timeout)
        return float(timeout)

    def _refused(self, error: LockNotAcquired) -> bool:
        """Return False for a lock that others hold; raise when it is the voters that are out."""
        if isinstance(error, QuorumUnavailable):
            raise error
        return False

    def __repr__(self) -> str:
        state = f"held for {self.remaining():.3g} s" if self.held else "not held"
        return f"<{type(self).__name__} {self.name!r} on {', '.join(self.voters)}: {state}>"


def _check_timeout(timeout: Any) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout < float("inf"):
        raise InvalidArgument(f"timeout must be a number of seconds from 0, or None for no end, got {timeout!r:.80}")
