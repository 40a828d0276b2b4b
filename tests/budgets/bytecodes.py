"""Counts the bytecodes of the package that a call runs: a figure that no busy machine changes."""

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import shardcache

__all__ = ("least_bytecodes", "least_bytecodes_async")

PACKAGE = str(Path(shardcache.__path__[0]))
# A reply that comes in two pieces, or a little later, costs some more: the least counts.
CALLS = 15
# From 3.12 on, code is counted only from the second time on that it is traced.
WARM = 5


class Counter:
    """How many bytecodes of the package have been run; those of other packages do not count."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            if not frame.f_code.co_filename.startswith(PACKAGE):
                return None
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        elif event == "opcode":
            self.count += 1
        return self


@contextmanager
def counted() -> Iterator[Counter]:
    """Count in this thread, in the place of what else may trace it."""
    counter, before = Counter(), sys.gettrace()
    sys.settrace(counter)
    try:
        yield counter
    finally:
        sys.settrace(before)


def least_bytecodes(call: Callable[[], object]) -> int:
    """Return the least that a call runs, out of some."""
    return min([_of_one(call) for _ in range(CALLS)][WARM:])


def _of_one(call: Callable[[], object]) -> int:
    with counted() as counter:
        call()
    return counter.count


async def least_bytecodes_async(call: Callable[[], Awaitable[object]]) -> int:
    """Return what `least_bytecodes` does for a call that is awaited, all callbacks included."""
    found = []
    for _ in range(CALLS):
        with counted() as counter:
            await call()
        found.append(counter.count)
    return min(found[WARM:])
