"""A fork waits for the look-ups of host names that have just begun.

glibc's getaddrinfo holds locks of its own while it reads the system's configuration, and fork
copies them as they are. A child forked at such a moment hangs at its first look-up, for ever: of
150 processes that forked 12 times while one thread looked up ``localhost``, 8 had such a child
(glibc 2.36; POSIX lets a child of a process with threads call nothing that takes locks). The locks
are not held while a name server is waited for, so a look-up that takes longer is not waited for.
"""

import os
import time
from collections.abc import Callable
from types import TracebackType

__all__ = ("LookupGuard",)

BEGINS = 0.1  # seconds within which a look-up has read the configuration
STEP = 0.001


class LookupGuard:
    """Enter one around each look-up.

    ``clock``: the time in seconds.
    """

    __slots__ = ("_clock",)

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        _begun[self] = self._clock()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _begun.pop(self, None)


def wait_for_beginnings(
    clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
) -> None:
    """Return when each look-up under way has ended, or is older than `BEGINS`.

    Waits for 2 * `BEGINS` at most, however many begin meanwhile.
    """
    now = clock()
    end = now + 2 * BEGINS
    # A list of the times is made in one step, whatever other threads do meanwhile.
    while now < end and any(now - at < BEGINS for at in list(_begun.values())):
        sleep(STEP)
        now = clock()


_begun: dict[LookupGuard, float] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=wait_for_beginnings, after_in_child=_begun.clear)
