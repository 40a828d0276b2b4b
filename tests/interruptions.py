"""Exceptions of a signal handler, at steps that a test chooses.

CPython runs signal handlers where a Python function begins, behind a call of a C function, and in
loops. The first fault is raised by a profile function, the second by a trace function, for the
interpreter takes either away when it raises.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

__all__ = ("Calls", "Fault", "interrupted", "with_call_between")


class Fault(BaseException):
    """What the handler raises."""


class Calls:
    """Counts the calls of methods, and raises KeyboardInterrupt instead of one of them.

    ``methods``: names of methods, by their class.
    ``at``: the number of the call that is interrupted, from 1 on.
    ``made``: how many calls there were.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, methods: Mapping[type, Iterable[str]], at: int
    ) -> None:
        self.at = at
        self.made = 0
        for owner, names in methods.items():
            for name in names:
                monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def method(*args: Any, **kwargs: Any) -> Any:
            self.made += 1
            if self.made == self.at:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        return method


def interrupted(work: Callable[[], Any], first: int, second: int = 0) -> int:
    """Run ``work`` with faults at the step ``first``, and ``second`` function calls behind that.

    ``second`` 0: with one fault. Return how many faults there were.
    """
    steps = calls = raised = 0

    def profile(_: Any, event: str, __: Any) -> None:
        nonlocal steps, raised
        if event in ("call", "c_return"):
            steps += 1
            if steps == first:
                raised += 1
                raise Fault

    def trace(*_: Any) -> None:
        nonlocal calls, raised
        if raised:
            calls += 1
            if calls == second:
                raised += 1
                raise Fault

    before = sys.getprofile(), sys.gettrace()
    # What is raised in a finalizer is lost; pytest's own hook would be interrupted too.
    hook, sys.unraisablehook = sys.unraisablehook, deque[Any](maxlen=0).append
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        work()
    except Fault:
        pass
    finally:
        sys.setprofile(before[0])
        sys.settrace(before[1])
        sys.unraisablehook = hook
    return raised


def with_call_between(work: Callable[[], Any], at: int, between: Callable[[], Any]) -> bool:
    """Run ``work``, and ``between`` in the same thread at its step ``at``, as a handler would be.

    Return whether it came to that.
    """
    steps = 0

    def profile(_: Any, event: str, __: Any) -> None:
        nonlocal steps
        if event in ("call", "c_return"):
            steps += 1
            if steps == at:
                between()

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return steps >= at
