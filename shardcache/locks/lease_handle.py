"""One acquisition, as its handle knows it."""

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from shardcache.flows.lock import Lease

__all__ = ("Hold",)


@dataclass(slots=True, eq=False)
class Hold:
    """All that changes while a lease is had. A handle swaps it by reference, so that threads who share the handle never mix two.

    ``gate`` lets one extension at a time to the voters: of two, it would be unknown whose ttl came last.
    """

    lease: Lease
    owner: Hashable
    pid: int
    gate: Any  # a lock of the handle's colour
    renewal: Any = None  # a thread or a task
    guard: Any = None  # a finalizer of the handle, while a `with` has it
    extending: bool = False  # by the thread that has the gate
    leaving: bool = False  # a release has begun, so that its end is no loss
    over: bool = False  # released, handed over, or left to its ttl
    _inner: list[None] = field(
        default_factory=list
    )  # a list, because append and pop are one step each
    _untold: threading.Lock = field(default_factory=threading.Lock)

    def enter_again(self) -> None:
        """Note an inner round of a re-entrant lock."""
        self._inner.append(None)

    def unguard(self) -> None:
        """Note that the `with` block has ended as it should."""
        if self.guard is not None:
            self.guard.detach()

    @property
    def is_inner(self) -> bool:
        """Whether a round of a re-entrant lock has been entered that is not the outermost."""
        return bool(self._inner)

    def leave_inner(self) -> bool:
        """Whether an inner round has been left, and not the outermost one."""
        try:
            self._inner.pop()
        except IndexError:
            return False
        return True

    def first_to_tell(self) -> bool:
        """Whether the loss has not been told yet; True once."""
        return self._untold.acquire(blocking=False)
