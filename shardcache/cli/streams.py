"""The standard streams, which may be closed, on a full disk, or a pipe without a reader."""

import errno
import os
import sys

__all__ = ("OUTPUT_ERRORS", "discard_output", "finish_output", "open_closed_streams")

# The errors of a write to standard output. A reader that went away (EPIPE) is handled elsewhere.
OUTPUT_ERRORS = frozenset({errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC})


def open_closed_streams() -> None:
    """Open /dev/null in place of each closed standard stream.

    Otherwise the next socket or file would get the stream's number. A write to a standard output
    that was closed stays an error. What is written to a closed standard error is lost.
    """
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    # Fill the free numbers below 3.
    while True:
        found = os.open(os.devnull, os.O_RDONLY)  # the lowest number that is free
        if found > 2:
            os.close(found)
            break
    # SIM115 wants each closed by a `with`; these stay open as long as the process.
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def finish_output() -> None:
    """Write what is still in the buffer; raise `OSError` while there is still time to report it."""
    sys.stdout.flush()


def discard_output() -> None:
    """Drop output that cannot be written: else the interpreter would complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
