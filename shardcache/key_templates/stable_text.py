"""Texts of values that are the same in every process, and different for different values.

`repr` and `str` alone will not do: the order of a set depends on the process, an object without a
text of its own shows its address, and braces would make a hash tag.
"""

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from shardcache.errors import InvalidArgument

__all__ = ("plain_text", "to_stable_text")

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{4,}")
_TEXT_METHODS = ("__str__", "__repr__", "__format__")


def to_stable_text(value: object) -> str:
    """Return a text that tells the value, its type included: ``'1'`` and ``1`` differ.

    For None, bool, numbers, str, bytes, Decimal, UUID, dates and times, list, tuple, set,
    frozenset, dict (these exactly, in any nesting), members of an Enum, classes, and dataclasses of
    such. Equal sets, and equal dicts, have the same text whatever their order. There are no braces
    in it. Raises `InvalidArgument` for other types.
    """
    write = _WRITERS.get(type(value))
    if write is not None:
        return write(value)
    if isinstance(value, Enum):
        return f"{_qualified(type(value))}[{to_stable_text(value.name or value.value)}]"
    if isinstance(value, type):
        return _qualified(value)
    if is_dataclass(value):
        inside = (
            f"{field.name}={to_stable_text(getattr(value, field.name))}"
            for field in fields(value)
            if field.compare
        )
        return f"{_qualified(type(value))}({','.join(inside)})"
    raise _refusal(value)


def plain_text(value: object) -> str:
    """Return the text that a reader expects in a key: ``1`` for 1 and for "1".

    Texts, numbers and dates are as `str` shows them, bytes and containers as `to_stable_text` does,
    classes by their full name, and objects by their own ``__format__`` or ``__str__``. Raises
    `InvalidArgument` for objects that have none, or show an address.
    """
    kind = type(value)
    if kind is str or kind in _SPOKEN:
        return str(value)
    if kind in _WRITERS or isinstance(value, type):
        return to_stable_text(value)
    if all(getattr(kind, name) is getattr(object, name) for name in _TEXT_METHODS):
        raise _refusal(value)
    text = format(value)
    if _ADDRESS.search(text):
        raise _refusal(value)
    return text


def _refusal(value: object) -> InvalidArgument:
    return InvalidArgument(
        f"a {type(value).__qualname__} has no text that is the same in every process: "
        "name what identifies it in a key template, such as {user.id}"
    )


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _braceless(value: object) -> str:
    # Still the literal of the same text: a backslash of its own would be doubled.
    return repr(value).replace("{", "\\x7b").replace("}", "\\x7d")


def _timed(value: Any) -> str:
    text = _braceless(value)
    if _ADDRESS.search(text):
        raise _refusal(value.tzinfo)
    return text


def _sequence(opening: str, closing: str) -> Callable[[Any], str]:
    return lambda value: f"{opening}{','.join(map(to_stable_text, value))}{closing}"


def _set(name: str) -> Callable[[Any], str]:
    return lambda value: f"{name}({','.join(sorted(map(to_stable_text, value)))})"


def _dict(value: dict[object, object]) -> str:
    items = sorted(f"{to_stable_text(key)}:{to_stable_text(item)}" for key, item in value.items())
    return f"dict({','.join(items)})"


_SPOKEN = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        complex,
        Decimal,
        UUID,
        dt.date,
        dt.datetime,
        dt.time,
        dt.timedelta,
    }
)
_WRITERS: dict[type, Callable[[Any], str]] = {
    **dict.fromkeys(_SPOKEN, repr),
    **dict.fromkeys((str, bytes), _braceless),
    **dict.fromkeys((dt.datetime, dt.time), _timed),
    list: _sequence("[", "]"),
    tuple: _sequence("(", ")"),
    set: _set("set"),
    frozenset: _set("frozenset"),
    dict: _dict,
}
