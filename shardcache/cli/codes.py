"""What the exit code of the command says."""

from enum import IntEnum

__all__ = ("Exit",)


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    FINE = 0
    NO = 1  # the key is not there, the value was not stored, or the demo saw an error
    USAGE = 2  # a wrong argument, URL, key or value; nothing was sent
    UNAVAILABLE = 3  # a shard does not answer or refuses, or no local server could be started
    BUG = 70  # an error that nobody foresaw (EX_SOFTWARE)
    INTERRUPTED = 130  # Ctrl-C (128 + SIGINT)
    TERMINATED = 143  # SIGTERM (128 + 15)
