"""`ValueType`: a type of the application's own, and how its values become plain ones and back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from shardcache.errors import InvalidOption

__all__ = ("ValueType",)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ValueType(Generic[T]):
    """A type that the serializer "safe" is to keep, for ``Options(types=[…])``.

    ``name``: what is stored for the type, 1 to 255 bytes of UTF-8; choose another name when what is
        stored changes its meaning.
    ``kind``: the class; values of exactly this class count, not those of its subclasses.
    ``to_plain``: makes of a value what "safe" keeps: plain types, or other registered ones.
    ``from_plain``: makes of that an equal value of exactly this class. It is called with whatever
        stands in the cache under this name, so it must not trust it: if it raises, the stored value
        is damaged.

    Both functions are left out for a dataclass, an Enum or a NamedTuple: its fields, or its
    member's name, are stored, and nothing of the class is called to read them back. Raises
    `InvalidOption` for a name, class or function that cannot be.
    """

    name: str
    kind: type[T]
    to_plain: Callable[[T], Any] | None = None
    from_plain: Callable[[Any], T] | None = None

    def __post_init__(self) -> None:
        if (
            not isinstance(self.name, str)
            or not 1 <= len(self.name.encode(errors="replace")) <= 255
        ):
            raise InvalidOption(
                f"a ValueType's name must be a str of 1 to 255 bytes, got {self.name!r:.80}"
            )
        if not isinstance(self.kind, type):
            raise InvalidOption(f"a ValueType's kind must be a class, got {self.kind!r:.80}")
        if (self.to_plain is None) != (self.from_plain is None):
            raise InvalidOption(
                f"the ValueType {self.name!r} needs both to_plain and from_plain, or neither"
            )
        for name in ("to_plain", "from_plain"):
            function = getattr(self, name)
            if function is not None and not callable(function):
                raise InvalidOption(
                    f"{name} of the ValueType {self.name!r} must be callable, got {function!r:.80}"
                )
