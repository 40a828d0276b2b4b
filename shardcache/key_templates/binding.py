"""The arguments of a call in the order of the parameters, however they were passed."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence

from shardcache.errors import InvalidArgument

__all__ = ("Binding",)

_SIMPLE = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Binding:
    """The parameters of ``function``: ``names`` in order, and the values that a call gives them.

    ``complete``: the number of positional arguments that make a whole call, or -1 if no number
        does.

    Raises `InvalidArgument` if ``function`` is no function.
    """

    __slots__ = (
        "_defaults",
        "_names",
        "_positional",
        "_signature",
        "_simple",
        "complete",
        "function",
        "names",
    )

    def __init__(self, function: Callable[..., object]) -> None:
        try:
            self._signature = _signature(function)
        except (TypeError, ValueError):
            hint = (
                ": put the decorator below it"
                if isinstance(function, (classmethod, staticmethod))
                else ""
            )
            raise InvalidArgument(
                f"a key is made from a function's parameters, and those of {function!r:.80} "
                f"cannot be read{hint}"
            ) from None
        parameters = self._signature.parameters.values()
        self.function = getattr(function, "__qualname__", repr(function))
        self.names = tuple(parameter.name for parameter in parameters)
        self._names = frozenset(self.names)
        self._simple = all(parameter.kind in _SIMPLE for parameter in parameters)
        self._positional = tuple(
            parameter.name for parameter in parameters if parameter.kind is _SIMPLE[0]
        )
        self._defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        self.complete = len(self.names) if self._positional == self.names else -1

    def __str__(self) -> str:
        """Return the function with its parameters, without annotations, for error messages."""
        bare = [p.replace(annotation=p.empty) for p in self._signature.parameters.values()]
        empty = self._signature.empty
        shown = self._signature.replace(parameters=bare, return_annotation=empty)
        return f"{self.function}{shown}"

    def values(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Sequence[object]:
        """Return a value for each of ``names``, defaults included; `TypeError` as a call would."""
        if self._simple and len(args) <= len(self._positional):
            given = self._positional[: len(args)]
            named = {**self._defaults, **kwargs, **dict(zip(given, args, strict=True))}
            if named.keys() == self._names and kwargs.keys().isdisjoint(given):
                return [named[name] for name in self.names]
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        found = bound.arguments
        for name in self.names:
            if name not in found:  # CPython 3.13.0 lets a positional-only parameter be left out
                raise TypeError(f"missing a required argument: {name!r}")
        return tuple(found[name] for name in self.names)


def _signature(function: Callable[..., object]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        # Annotations may name what is imported for type checkers only: they are not to be
        # evaluated.
        return inspect.signature(function, annotation_format=Format.STRING)
    return inspect.signature(function)
