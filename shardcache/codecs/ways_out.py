"""What to do about a value that is refused: by its type, without importing what defines it."""

from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from enum import Enum
from inspect import isabstract
from pathlib import PurePath
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

__all__ = ("list_ways_out", "refused_result")

_BASES = (str, bytes, int, float, list, tuple, set, frozenset, dict)
# The modules of types that the other serializers refuse.
_KEPT_BY_SAFE = ("builtins", "datetime", "decimal", "uuid")
_CONTAINERS = (Mapping, list, tuple, set, frozenset, dict)


def list_ways_out(kind: type, format: str = "safe") -> str:
    """Return what to do about a value of this class: store another, register it, or else."""
    name = kind.__name__
    instead, registered = _instead(kind)
    ways = [instead] if instead else []
    if format == "safe":
        ways.append(
            _by_functions(name)
            if registered is None
            else f"register it: Options(types=[{registered or name}])"
        )
    elif kind.__module__ in _KEPT_BY_SAFE:
        return "choose serializer='safe'"
    else:
        ways.append("choose serializer='safe' and Options(types=[…])")
    return f"{', or '.join(ways)}, or choose serializer='pickle' or an object with dumps and loads"


def _by_functions(name: str) -> str:
    return (
        f"register it: Options(types=[ValueType({name.lower()!r}, {name}, to_plain, from_plain)])"
    )


def _instead(kind: type) -> tuple[str, str | None]:
    """Return what to store instead, and what to register if that is short ("": the class)."""
    name = kind.__name__
    if kind.__module__.partition(".")[0] == "numpy":
        return "store .tolist() (or .item() of a scalar)", None
    if issubclass(kind, Enum):
        return "store its .value", ""
    if hasattr(kind, "model_dump") and hasattr(kind, "model_validate"):
        how = f"ValueType({name.lower()!r}, {name}, {name}.model_dump, {name}.model_validate)"
        return "store .model_dump()", how
    if is_dataclass(kind):
        return "store dataclasses.asdict(…)", ""
    if hasattr(kind, "_mapping") and hasattr(kind, "_fields"):  # a row of SQLAlchemy
        return "store dict(row._mapping) or tuple(row)", None
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return "store tuple(…)", ""
    if hasattr(kind, "__attrs_attrs__"):
        return "store attrs.asdict(…)", None
    if issubclass(kind, PurePath):
        return "store str(…)", None
    if issubclass(kind, (bytearray, memoryview)):
        return "store bytes(…)", None
    base = next((base for base in _BASES if issubclass(kind, base)), None)
    return (f"store {base.__name__}(…)" if base else ""), None


def refused_result(function: Any, allowed: Iterable[type]) -> type | None:
    """Return a class in a function's result type that is certainly refused; None if there is none.

    Certain are classes whose values are made of exactly themselves: dataclasses, Enums, named
    tuples, models.
    """
    try:
        result = get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001 - names that are imported for type checkers only, say
        return None
    return _refused(result, tuple(allowed))


def _refused(hint: Any, allowed: tuple[type, ...]) -> type | None:
    origin = get_origin(hint)
    if origin in (Union, UnionType) or origin in _CONTAINERS:
        return next((found for part in get_args(hint) if (found := _refused(part, allowed))), None)
    if (
        not isinstance(hint, type)
        or isabstract(hint)
        or any(issubclass(one, hint) for one in allowed)
    ):
        return None
    return hint if _certain(hint) else None


def _certain(kind: type) -> bool:
    if issubclass(kind, Enum):
        return bool(kind.__members__)
    return (
        is_dataclass(kind)
        or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
        or bool(getattr(kind, "model_fields", None) and hasattr(kind, "model_validate"))
        or issubclass(kind, (bytearray, PurePath))
    )
