"""Ctrl-C and SIGTERM as exceptions that come at most once, and not inside protected blocks."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from shardcache.cli.exit_codes import Exit

__all__ = ("Interrupts",)


class Interrupts:
    """While entered, SIGINT raises `KeyboardInterrupt`, and SIGTERM raises `SystemExit` (143).

    Inside `shield` the exception waits until the end of the block: a start or an end of servers
    that is cut in two leaves processes and files behind. After the first signal further ones are
    ignored, since the program cleans up then. Entered in another thread than the main thread, it
    does not touch the signals.
    """

    def __init__(self) -> None:
        self._shields = 0
        self._waiting: int | None = None
        self._fired = False
        self._before: list[tuple[int, Callable[[int, FrameType | None], Any] | int | None]] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = [
                (number, signal.signal(number, self._on))
                for number in (signal.SIGINT, signal.SIGTERM)
            ]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Keep signals waiting until the end of the block."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        if not self._shields and self._waiting is not None:
            self._raise(self._waiting)

    def _on(self, number: int, _frame: FrameType | None) -> None:
        if self._fired:
            return
        if self._shields:
            self._waiting = number
            return
        self._raise(number)

    def _raise(self, number: int) -> None:
        self._fired = True
        self._waiting = None
        if number == signal.SIGINT:
            # The handler from before (`CtrlC`) raises, and must know that Ctrl-C came once.
            for before, handler in self._before:
                if before == number and callable(handler):
                    handler(number, None)
            raise KeyboardInterrupt
        raise SystemExit(Exit.TERMINATED)
