"""What a forked child does with the objects that it has from its parent."""

import os
import weakref
from typing import Protocol

__all__ = ("ForkedObjects",)


class _Forked(Protocol):
    def after_fork(self) -> None:
        """Give up what is the parent's: its threads, its connections, its processes."""


class ForkedObjects:
    """Objects of one kind, held weakly, whose ``after_fork`` a forked child calls, in any order.

    It is called before anything else goes on there.
    """

    def __init__(self) -> None:
        self._objects: weakref.WeakSet[_Forked] = weakref.WeakSet()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def add(self, one: _Forked) -> None:
        """Have ``one`` called, for as long as it lives."""
        self._objects.add(one)

    def _after_fork(self) -> None:
        for one in list(self._objects):
            one.after_fork()
