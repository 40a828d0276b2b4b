"""How long a caller waits for a lock, and how it tells that it still waits."""

import logging
import math
import threading
from typing import Any

from shardcache.errors import InvalidArgument, LockConflict, LockNotAcquired, QuorumUnavailable
from shardcache.events import Event, Hook, emit, repeats
from shardcache.flows.lock.wait_limit import Note

__all__ = ("checked_timeout", "not_acquired", "teller", "wait_time")

_logger = logging.getLogger("shardcache.locks")
_logger.addFilter(repeats)


def checked_timeout(timeout: Any) -> float | None:
    """Return the seconds that a caller may wait: None if it said nothing, inf for -1."""
    if timeout is None:
        return None
    if isinstance(timeout, (int, float)) and not isinstance(timeout, bool):
        if timeout == -1:
            return math.inf
        if 0 <= timeout <= threading.TIMEOUT_MAX:
            return float(timeout)
    raise InvalidArgument(
        f"timeout must be a number of seconds from 0 to {threading.TIMEOUT_MAX:.0f}, -1 for no "
        f"end, or None, got {timeout!r:.80}"
    )


def wait_time(blocking: bool, timeout: float | None, usual: float | None) -> float | None:
    """Return the seconds to wait for the lock.

    ``blocking``, ``timeout``: as in `threading.Lock.acquire`.
    ``usual``: the timeout of the handle.

    It is 0 for one attempt, None if no timeout was given, and inf for -1.
    """
    if not blocking:
        if timeout is not None and timeout != -1:
            raise InvalidArgument("a timeout cannot be given for an acquire that does not block")
        return 0.0
    return usual if timeout is None else checked_timeout(timeout)


def not_acquired(error: LockNotAcquired) -> bool:
    """Return False for a lock that others hold; raise any other reason."""
    if not isinstance(error, LockConflict):
        raise error
    return False


def teller(hook: Hook | None) -> Note:
    """Return a function that tells why a caller still waits, once for each reason."""
    told: set[type] = set()

    def note(error: LockNotAcquired) -> None:
        if type(error) not in told:
            told.add(type(error))
            emit(hook, Event("lock_waiting", "", "lock", 1, error))
            level = logging.WARNING if isinstance(error, QuorumUnavailable) else logging.INFO
            about = {"shardcache_repeats": ("lock_waiting", type(error), error.name)}
            _logger.log(
                level, "still waiting for lock %r: %s", error.name, error.reason, extra=about
            )

    return note
