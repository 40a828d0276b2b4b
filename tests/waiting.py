"""Waiting for what another thread, process or server does."""

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ("until",)

LONG_TIMEOUT = 60.0  # seconds; what has not happened by then, on however busy a machine, never will
T = TypeVar("T")


def until(condition: Callable[[], T], timeout: float = LONG_TIMEOUT) -> T:
    """Wait until ``condition`` returns something true; return it."""
    end = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)
    return found
