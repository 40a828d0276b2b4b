"""Ctrl-C for as long as the process lives: the first one interrupts, and nothing that comes after it breaks what the first one began."""

import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = ("CtrlC",)

AGAIN = 0.01  # seconds after which an interrupt is raised again that was lost


class CtrlC:
    """The handler of SIGINT: raises `KeyboardInterrupt` the first time, and does nothing from then on.

    Where the first one falls into a finalizer or a callback of the interpreter's own, Python prints it and goes on as if there had been
    none. Then it is raised again a moment later, by SIGALRM, and not printed.
    """

    def __init__(self) -> None:
        self._fired = False

    def begin(self) -> None:
        """Handle SIGINT from now on, unless it is ignored, as in what a shell has put into the background."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self)
            sys.unraisablehook = self._lost
            signal.signal(signal.SIGALRM, self._again)

    def end(self) -> None:
        """Let no SIGINT in any more: what is left is the interpreter's own end."""
        self._fired = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        # Blocked before it is ignored: Python complains of one that was ignored after it had come.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGALRM})
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if not self._fired:
            self._fired = True
            raise KeyboardInterrupt

    def _lost(self, args: "UnraisableHookArgs") -> None:
        if args.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
        else:
            sys.__unraisablehook__(args)

    def _again(self, _number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt
