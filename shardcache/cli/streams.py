"""The standard streams as others may have left them: closed, full, or with nobody at the other end."""

import errno
import os
import sys

__all__ = ("OUTPUT_ERRORS", "discard_output", "finish_output", "open_closed_streams")

# What a write to standard output may fail with; a reader that went away (EPIPE) is another matter.
OUTPUT_ERRORS = frozenset({errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC})


def open_closed_streams() -> None:
    """Give a closed standard stream a place: else the next socket or file would get its number.

    What is written to standard output is an error then; there is no place to say anything on a closed standard error.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while True:
        found = os.open(os.devnull, os.O_RDONLY)  # the lowest number that is free
        if found > 2:
            os.close(found)
            break
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  they stay open as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def finish_output() -> None:
    """Write what is still in the buffer; raise `OSError` while somebody can still answer for it."""
    sys.stdout.flush()


def discard_output() -> None:
    """Drop what cannot be written: without this, the interpreter would complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
