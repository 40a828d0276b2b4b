"""One acquisition, as its handle knows it."""

import os
import threading
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from shardcache.drivers.undo_log import Entry
from shardcache.flows.lock import Lease
from shardcache.flows.lock.undo import LockUndo
from shardcache.system.queue import Place

__all__ = ("Entered", "Hold", "Taking")


class Taking(LockUndo):
    """What one call has done to a handle and to the voters so far, to undo it if it is broken off.

    ``call``: refers to the call's entry in the undo log; None: it has none. Not for ever: the entry
        would keep the handle alive.
    ``hold``: what the call has taken, or what it is to release.
    ``place``: where its thread stands in line with others of this process.
    ``inner``: the mark of the round of a re-entrant lock that it leaves.
    ``entered``: what the `with` had that it ends.
    ``pid``: the process in which the call began.
    ``settled``: there is nothing to be undone any more.
    """

    __slots__ = ("call", "entered", "hold", "inner", "pid", "place", "settled")

    def __init__(self, call: weakref.ref[Entry] | None = None) -> None:
        super().__init__()
        self.call = call
        self.hold: Hold | None = None
        self.inner: object = None
        self.place: Place | None = None
        self.entered: Entered | None = None
        self.pid = os.getpid()
        self.settled = False

    def drop(self) -> None:
        """Mark the lease as ended before it is given back; a second call does nothing more."""
        hold = self.hold
        if hold is not None:
            hold.end_renewal()
            hold.over = hold.lease.ended = True


class Entered:
    """What a `with` has got, and whose it is."""

    __slots__ = ("caller", "hold")

    def __init__(self, caller: Hashable, hold: "Hold") -> None:
        self.caller = caller
        self.hold = hold


@dataclass(slots=True, eq=False)
class Hold:
    """One lease as its handle has it, with all that changes meanwhile.

    A handle swaps it by reference, so that threads that share the handle never mix two leases.

    ``lease``: the lease.
    ``owner``: the owner, for a re-entrant lock.
    ``pid``: the process that acquired it.
    ``gate``: a lock of threads or tasks that lets one extension at a time to the voters. Of two, it
        would be unknown whose ttl came last.
    ``call``: as in `Taking`, of the call that took it.
    ``renewal``: what renews it, a `Renewal` or `AsyncRenewal`.
    ``guard``: calls off what would be done when the handle is gone.
    ``extending``: the call of the thread that has the gate.
    ``leaving``: whether a release has begun, so that the end of the lease is no loss.
    ``over``: whether it was released, handed over, or left to its ttl.
    """

    lease: Lease
    owner: Hashable
    pid: int
    gate: Any
    call: weakref.ref[Entry] | None = None
    renewal: Any = None
    guard: Callable[[], None] | None = None
    extending: Any = None
    leaving: bool = False
    over: bool = False
    # A mark for each inner round; a list, because append and remove are one step each.
    _inner: list[object] = field(default_factory=list)
    _untold: threading.Lock = field(default_factory=threading.Lock)

    def counts(self) -> bool:
        """Whether the call that took it has ended well.

        It has from the very step in which its entry leaves the undo log. Before that, the call may
        be broken off, and what it has taken is given back.
        """
        call = None if self.call is None else self.call()
        return call is None or not call.is_in_log()

    def end_renewal(self) -> None:
        """Tell the renewal to end, if there is one. What it is at is not waited for."""
        if self.renewal is not None:
            self.renewal.end()

    def enter_again(self, mark: object) -> None:
        """Note an inner round of a re-entrant lock."""
        self._inner.append(mark)

    def forget_inner(self, mark: object) -> None:
        """Take an inner round back, if it was entered."""
        with suppress(ValueError):
            self._inner.remove(mark)

    def unguard(self) -> None:
        """Note that the `with` block has ended as it should."""
        call_off, self.guard = self.guard, None
        if call_off is not None:
            call_off()

    def leave_inner(self, taking: Taking) -> bool:
        """Leave a round; return whether it was an inner one. A call leaves one round at most."""
        if taking.inner is not None:
            self.forget_inner(taking.inner)
            return True
        while True:
            try:
                taking.inner = self._inner[-1]
                self._inner.remove(taking.inner)
            except IndexError:  # there is none
                return False
            except ValueError:  # another thread has left that round
                continue
            return True

    def first_to_tell(self) -> bool:
        """Return True the first time: the loss is to be told once."""
        return self._untold.acquire(blocking=False)
