"""The key of a function that was given no template: its full name and all its arguments."""

import inspect
from collections.abc import Callable

from shardcache.errors import InvalidArgument
from shardcache.key_templates.binding import Binding
from shardcache.key_templates.stable_text import to_stable_text

__all__ = ("DefaultKey",)


class DefaultKey:
    """Makes keys like ``shop.users.load(id=42,lang='de')``: the full name and all arguments.

    Arguments are written by `to_stable_text`. However an argument is passed, the key is the same; 1
    and "1" make different keys. A class (``cls``) counts by its full name.

    Raises `InvalidArgument`: here if the name does not tell the function from other functions (a
    lambda, a function that depends on variables of one around it, a method, whose object has no
    text of its own); at the call for an argument of a type that `to_stable_text` does not take.
    """

    __slots__ = ("_binding", "_name")

    def __init__(self, function: Callable[..., object]) -> None:
        self._binding = Binding(function)
        self._name = _full_name(function)
        if self._binding.names[:1] == ("self",):
            raise InvalidArgument(
                f"the default key of {self._binding.function} would be the same for all objects: "
                "give a template that says which one it is, such as "
                f"key='{self._binding.function}:{{self.id}}'"
            )

    def __repr__(self) -> str:
        return f"DefaultKey({self._binding})"

    def __call__(self, /, *args: object, **kwargs: object) -> str:
        """Return the key of the call with these arguments."""
        values = self._binding.values(args, kwargs)
        parts = []
        for name, value in zip(self._binding.names, values, strict=True):
            try:
                parts.append(f"{name}={to_stable_text(value)}")
            except (AttributeError, ValueError, RecursionError) as error:
                raise InvalidArgument(
                    f"argument {name!r} of {self._binding.function} cannot be part of a default "
                    f"key: {error}"
                ) from error
        return f"{self._name}({','.join(parts)})"


def _full_name(function: Callable[..., object]) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not module or not name or "<lambda>" in name:
        raise InvalidArgument(
            f"{function!r:.80} has no name to make a default key of: give a template as key="
        )
    code = getattr(inspect.unwrap(function), "__code__", None)
    # That one is what super() needs.
    around = set(code.co_freevars) - {"__class__"} if code else set()
    if around:
        raise InvalidArgument(
            f"{name} depends on {', '.join(sorted(around))} of the function around it, "
            "which a default key does not show: give a template as key="
        )
    return f"{module}.{name}"
