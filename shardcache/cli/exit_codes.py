"""What the exit code of the command says."""

from enum import IntEnum

__all__ = ("Exit",)


class Exit(IntEnum):
    """Exit codes, the same for every command.

    ``lock run`` ends with the exit code of the command that it ran, if it ran one.
    """

    FINE = 0
    NO = 1  # the key or lock is not there, the value was not stored, or the demo saw an error
    USAGE = 2  # a wrong argument, URL, key or value; nothing was sent
    UNAVAILABLE = 3  # a shard does not answer or refuses, or no local server could be started
    # The codes of locks are high, since few programs end with such a code. The names in brackets
    # are those of sysexits.h.
    NO_QUORUM = 69  # too few of a lock's voters answer (EX_UNAVAILABLE)
    BUG = 70  # an error that nobody foresaw (EX_SOFTWARE)
    NO_OUTPUT = 74  # the output could not be written: a full disk, a closed stream (EX_IOERR)
    HELD = 75  # somebody else holds the lock (EX_TEMPFAIL)
    LOST = 76  # the lock was lost while the command ran
    CANNOT_RUN = 126  # the command is there, but cannot be run; as shells say it
    NOT_FOUND = 127  # there is no such command; as shells say it
    # 128 plus the number of a signal, as shells say it.
    INTERRUPTED = 130  # Ctrl-C (128 + SIGINT)
    TERMINATED = 143  # SIGTERM (128 + 15)
