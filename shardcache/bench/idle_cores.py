"""Cores that stay awake: on each, a process that runs only when nothing else would.

A virtual core that falls asleep takes tens of microseconds to wake, in both directions of every
round trip. Where it does, a bare socket takes 110 µs instead of 27, all clients look alike, and the
figures say more of the machine's sleep than of the code. The kernel's idle priority (Linux) gives
way at once, so nobody is slowed down.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ("awake",)

SPIN = """
import os, sys
parent, core = map(int, sys.argv[1:])
os.sched_setaffinity(0, {core})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
while os.getppid() == parent:  # nobody is left behind, however the benchmark ends
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def awake() -> Iterator[bool]:
    """Keep this process' cores awake on Linux; yield whether they are."""
    if not hasattr(os, "SCHED_IDLE"):
        yield False
        return
    spinners = [
        subprocess.Popen([sys.executable, "-c", SPIN, str(os.getpid()), str(core)])
        for core in os.sched_getaffinity(0)
    ]
    try:
        yield True
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
