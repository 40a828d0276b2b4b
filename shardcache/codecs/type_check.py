"""Which types a value is made of, at every depth, checked before it is written.

msgpack packs bytearray, memoryview and its own ExtType and Timestamp without a word, and json turns
tuples into lists; so the types inside are checked first, level by level: all items at one depth are
one list, and ``set(map(type, level))`` looks at them at C speed; only containers cost more. The
refused item is searched for only once it is known that there is one.
"""

from collections.abc import Iterable
from typing import Any, NoReturn

from shardcache.codecs.collisions import MOST_ALIKE
from shardcache.codecs.ways_out import list_ways_out
from shardcache.errors import SerializationError

__all__ = ("CONTAINERS", "MAX_DEPTH", "check_types", "path_to")

MAX_DEPTH = 128  # containers within containers
CONTAINERS = frozenset({list, tuple, set, frozenset, dict})
_HASHED = frozenset({set, frozenset, dict})


def check_types(
    value: object,
    allowed: frozenset[type],
    *,
    limit: int,
    keys: frozenset[type] | None = None,
    format: str = "safe",
) -> list[Any]:
    """Raise `SerializationError` unless ``value`` is made of exactly the types in ``allowed``.

    ``limit``: how many items are looked at, in at most `MAX_DEPTH` levels, so that a value that
        contains itself, or is blown up by a few shared lists, ends here too.
    ``keys``: the types of dictionary keys, if fewer than ``allowed``.

    Subclasses do not count as their base. Return the sets and dicts with so many members that their
    hashes must be checked (`collisions`).
    """
    # Level by level, without recursion: the whole value, then the items of it, and so on.
    level: list[Any] = [value]
    seen = 0
    large: list[Any] = []
    for _ in range(MAX_DEPTH + 1):
        # The types of one level are compared at once, which is fast.
        kinds = set(map(type, level))
        if not kinds <= allowed:
            _refuse(
                value, level, allowed, f"is not among what the serializer {format!r} keeps", format
            )
        if kinds.isdisjoint(CONTAINERS):
            return large
        # Collect the items of all containers of this level.
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind not in CONTAINERS:
                continue
            seen += len(item)
            if seen > limit:
                raise SerializationError(
                    f"the value has more than {limit} items: too many for max_value"
                )
            below += item  # of a dict: its keys
            if kind in _HASHED and len(item) > MOST_ALIKE:
                large.append(item)
            if kind is dict:
                if keys is not None and not keys.issuperset(map(type, item)):
                    _refuse(
                        value,
                        item,
                        keys,
                        f"cannot be a key under the serializer {format!r}",
                        format,
                    )
                below += item.values()
        level = below
    raise SerializationError(
        f"the value is nested deeper than {MAX_DEPTH} containers, or contains itself"
    )


def _refuse(
    value: object, items: Iterable[object], allowed: frozenset[type], why: str, format: str
) -> NoReturn:
    culprit = next(item for item in items if type(item) not in allowed)
    names = ", ".join(sorted(kind.__name__ for kind in allowed))
    raise SerializationError(
        f"{path_to(value, culprit)}: {type(culprit).__qualname__} {why}: "
        f"{list_ways_out(type(culprit), format)}. "
        f"Allowed are exactly {names}"
    )


def path_to(value: object, culprit: object) -> str:
    """Return where in ``value`` the object ``culprit`` sits, such as ``value['a'][3]``."""
    ahead: list[tuple[str, object]] = [("value", value)]
    visited: set[int] = set()
    while ahead:
        path, item = ahead.pop()
        if item is culprit:
            return path
        if type(item) not in CONTAINERS or id(item) in visited:
            continue
        visited.add(id(item))
        inside: list[tuple[str, object]]
        if isinstance(item, dict):
            inside = [(f"a key of {path}", key) for key in item]
            inside += [(f"{path}[{_shown(key)}]", below) for key, below in item.items()]
        elif isinstance(item, (list, tuple)):
            inside = [(f"{path}[{index}]", below) for index, below in enumerate(item)]
        elif isinstance(item, (set, frozenset)):
            inside = [(f"an element of {path}", below) for below in item]
        ahead += reversed(inside)
    return "value"


def _shown(key: object) -> str:
    """Show a key of a builtin type; calling the repr of anything else could fail in its turn."""
    return (
        f"{key!r:.40}" if type(key) in (str, bytes, int, bool, float) else f"<{type(key).__name__}>"
    )
