"""The clock of leases."""

import time
from collections.abc import Callable
from functools import partial

__all__ = ("boottime",)

# CLOCK_MONOTONIC stands still while the machine sleeps, and a lease does not.
boottime: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)
