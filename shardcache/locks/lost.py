"""The sign that a lease was lost: a `threading.Event` that may be used at any moment.

A finalizer or a signal handler may set it, or wait for it.
"""

import threading

from shardcache.system.latch import Latch

__all__ = ("LostEvent",)


class LostEvent(threading.Event):
    """As the standard one, without its lock, for which a handler could wait in vain (`latch`)."""

    def __init__(self) -> None:
        super().__init__()
        self._latch = Latch()

    def is_set(self) -> bool:
        return self._latch.is_open

    def set(self) -> None:
        self._latch.open()

    def clear(self) -> None:
        if self._latch.is_open:
            self._latch = Latch()

    def wait(self, timeout: float | None = None) -> bool:
        return self._latch.wait(timeout)
