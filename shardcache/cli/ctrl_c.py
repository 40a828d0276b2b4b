"""Ctrl-C for the life of the process: the first one interrupts, further ones do nothing.

So the cleaning up that the first one began is never broken off.
"""

import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = ("CtrlC",)

AGAIN = 0.01  # seconds after which a lost interrupt is raised again


class CtrlC:
    """The handler of SIGINT: raises `KeyboardInterrupt` the first time, then does nothing.

    If the first one is raised inside a finalizer or a callback of the interpreter, Python prints it
    and goes on: the interrupt is lost. Then this class does not print it, and raises it again a
    moment later, by SIGALRM.
    """

    def __init__(self) -> None:
        self._fired = False

    def begin(self) -> None:
        """Handle SIGINT from now on, unless it is ignored, as it is in a background job."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self)
            sys.unraisablehook = self._lost
            signal.signal(signal.SIGALRM, self._again)

    def end(self) -> None:
        """Let no SIGINT in any more: only the interpreter's own end is left."""
        self._fired = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        # Block first, then ignore: Python complains of a signal that came and is ignored since.
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
