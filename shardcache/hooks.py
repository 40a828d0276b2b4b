"""Functions of the application that the library calls: what they may be, how they are called."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from shardcache.errors import InvalidOption

__all__ = ("call_hook", "check_hook")

T = TypeVar("T")


def check_hook(name: str, hook: object) -> None:
    """Raise `InvalidOption` if ``hook`` is neither None nor a plain function.

    A coroutine function is refused, since no code would await its result.
    """
    if hook is None:
        return
    if not callable(hook):
        raise InvalidOption(f"{name} must be callable or None, got {hook!r:.80}")
    call = getattr(type(hook), "__call__", None)  # noqa: B004  its kind is what matters
    if inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(call):
        raise InvalidOption(
            f"{name} must be a plain function, which may start a task (asyncio.create_task), got "
            f"the coroutine function {hook!r:.80}"
        )


def call_hook(hook: Callable[[T], Any], about: T) -> None:
    """Call ``hook``; raise what it raises, and TypeError if it has only made a coroutine."""
    result = hook(about)
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("it returned a coroutine, which nobody awaits: let it start a task instead")
