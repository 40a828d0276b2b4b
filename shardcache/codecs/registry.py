"""Registered types: classes of the application's own that "safe" keeps, each under a name.

A class alone is enough where its values say by themselves what they are made of. Reading calls
nothing of such a class, neither ``__init__``, ``__new__`` nor ``__post_init__``: a member is looked
up by its name, fields are put where they were. So a value comes back as it was stored even if
making a new one would change it, and a payload can at most choose fields.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum, Flag
from functools import cached_property
from typing import Any, NamedTuple

from shardcache.errors import DamagedPayload, InvalidOption, SerializationError
from shardcache.value_type import ValueType

__all__ = ("Registered", "Registry")


class Registered(NamedTuple):
    """One registered type, ready for use."""

    name: str
    kind: type
    to_plain: Callable[[Any], Any]
    from_plain: Callable[[Any], Any]

    def plain(self, value: Any) -> Any:
        """Return what is stored of ``value``; raise `SerializationError` if its function fails."""
        try:
            return self.to_plain(value)
        except Exception as error:
            raise SerializationError(
                f"a {self.name} cannot be made plain: {type(error).__name__}: {error}"
            ) from error

    def back(self, plain: Any) -> Any:
        """Return the value that was stored as ``plain``; raise `DamagedPayload` if it is none."""
        try:
            value = self.from_plain(plain)
        except Exception as error:
            raise DamagedPayload(
                f"what is stored as a {self.name} makes none: {type(error).__name__}: {error}"[:300]
            ) from error
        if type(value) is not self.kind:
            raise DamagedPayload(
                f"what is stored as a {self.name} makes a {type(value).__qualname__}"
            )
        return value


class Registry:
    """The registered types of one client, by class and by name."""

    __slots__ = ("kinds", "names")

    def __init__(self, types: Iterable["type | ValueType[Any]"], builtin: frozenset[type]) -> None:
        """Take classes and `ValueType` s; ``builtin`` types are kept anyway.

        Raises `InvalidOption` for what cannot be registered.
        """
        self.kinds: dict[type, Registered] = {}
        self.names: dict[str, Registered] = {}
        if isinstance(types, (str, bytes, type)) or not isinstance(types, Iterable):
            raise InvalidOption(
                f"types must be a sequence of classes and ValueTypes, got {types!r:.80}"
            )
        # Every class and every name may be there once, and none that is kept anyway.
        for given in types:
            kind = given.kind if isinstance(given, ValueType) else given
            if kind in builtin:
                raise InvalidOption(
                    f"types: {kind.__qualname__} is kept as it is, and cannot be registered"
                )
            one = _registered(given)
            if one.kind in self.kinds:
                raise InvalidOption(f"types: {one.kind.__qualname__} is registered twice")
            if one.name in self.names:
                raise InvalidOption(
                    f"types: two types have the name {one.name!r}: give one of them a "
                    "ValueType(name, …)"
                )
            self.kinds[one.kind] = self.names[one.name] = one

    def back(self, name: object, plain: object) -> object:
        """Return the value stored under a name; raise `DamagedPayload` if any of it is wrong."""
        known = self.names.get(name) if type(name) is str else None
        if known is None:
            raise DamagedPayload(
                f"the value holds a {name!r:.80}, which is not in this client's Options(types=…)"
            )
        return known.back(plain)


def _registered(given: object) -> Registered:
    if isinstance(given, ValueType):
        if given.to_plain is not None and given.from_plain is not None:
            return Registered(given.name, given.kind, given.to_plain, given.from_plain)
        return Registered(given.name, given.kind, *_functions(given.kind))
    if isinstance(given, type):
        return Registered(f"{given.__module__}.{given.__qualname__}", given, *_functions(given))
    raise InvalidOption(f"types must hold classes and ValueTypes, got {given!r:.80}")


def _functions(kind: type) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return how values of a class are taken apart and put together."""
    if issubclass(kind, Flag):
        return _flag(kind)
    if issubclass(kind, Enum):
        return _member(kind)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple(kind, tuple(kind._fields))
    if is_dataclass(kind):
        return _dataclass(kind)
    raise InvalidOption(
        f"types: {kind.__qualname__} is no dataclass, Enum or NamedTuple, so say how it is stored: "
        f"ValueType({kind.__name__.lower()!r}, {kind.__name__}, to_plain, from_plain)"
    )


def _member(kind: type[Enum]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    members = dict(kind.__members__)
    return lambda value: value._name_, lambda name: members[name]


def _flag(kind: type[Flag]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def back(number: object) -> Flag:
        if type(number) is not int:
            raise TypeError(f"a flag is stored as an int, got {type(number).__qualname__}")
        return kind(number)

    return lambda value: int(value._value_), back


def _named_tuple(
    kind: Any, names: tuple[str, ...]
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def plain(value: Any) -> dict[str, Any]:
        _only_fields(value, frozenset())
        return dict(zip(names, tuple.__iter__(value), strict=True))

    def back(found: Any) -> Any:
        _check_names(found, names)
        return tuple.__new__(kind, [found[name] for name in names])

    return plain, back


def _dataclass(kind: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    names = tuple(field.name for field in fields(kind))
    if kind.__eq__ is object.__eq__:
        raise InvalidOption(
            f"types: two {kind.__qualname__} are never equal (eq=False), so none could come back "
            "equal; register it as a ValueType"
        )
    # A value is made again of its fields alone. So the class may have no other state: no further
    # slots, and no base that needs arguments.
    slots = {
        slot
        for base in kind.__mro__
        for slot in (
            [base.__dict__["__slots__"]]
            if isinstance(base.__dict__.get("__slots__"), str)
            else base.__dict__.get("__slots__", ())
        )
    }
    hidden = slots - {*names, "__dict__", "__weakref__"}
    try:
        object.__new__(kind)
    except TypeError as error:
        hidden = hidden or {str(error)}
    if hidden:
        raise InvalidOption(
            f"types: {kind.__qualname__} is not made of its fields alone "
            f"({', '.join(sorted(hidden))}); register it as a ValueType"
        )
    # The two functions: neither runs the class's own __init__.
    known = frozenset(names)

    def plain(value: Any) -> dict[str, Any]:
        _only_fields(value, known)
        return {name: getattr(value, name) for name in names}

    def back(found: Any) -> Any:
        _check_names(found, names)
        value = object.__new__(kind)
        for name in names:
            object.__setattr__(value, name, found[name])
        return value

    return plain, back


def _only_fields(value: Any, known: frozenset[str]) -> None:
    """Raise if a value has attributes that would be lost; a cached_property is computed again."""
    for name in getattr(value, "__dict__", {}):
        if name not in known and not isinstance(getattr(type(value), name, None), cached_property):
            raise AttributeError(
                f"it has the attribute {name!r}, which is no field and would be lost"
            )


def _check_names(found: object, names: tuple[str, ...]) -> None:
    if type(found) is not dict or found.keys() != frozenset(names):
        stored = (
            ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__qualname__
        )
        raise ValueError(f"its fields are {', '.join(names)}; stored are {stored}")
