"""The serializer "safe": msgpack with strict types, and nothing that could execute.

A tuple, set or frozenset is an array whose first element is a marker, an extension of zero
length that no caller can put there. So packing stays one pass without copies, reading needs no
recursion, and a payload without a marker is read without any Python code in between.
"""

import datetime as dt
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NoReturn
from uuid import UUID

import msgpack  # type: ignore[import-untyped]  # it ships no annotations

from shardcache.codecs.collisions import MOST_ALIKE, check_hashes, crowd
from shardcache.codecs.registry import Registry
from shardcache.codecs.scalars import pack_scalar, unpack_scalar
from shardcache.codecs.type_check import CONTAINERS, check_types, path_to
from shardcache.errors import DamagedPayload, SerializationError
from shardcache.value_type import ValueType

__all__ = ("SAFE_TYPES", "SafeSerializer")

SAFE_TYPES = CONTAINERS | {
    *(type(None), bool, int, float, str, bytes),
    *(dt.datetime, dt.date, dt.time, dt.timedelta, Decimal, UUID),
}


class Typed:
    """The first element of an array with a registered type: its name and its content follow."""


_MARKED: dict[int, type] = {0x01: tuple, 0x02: set, 0x03: frozenset, 0x04: Typed}
_MARKERS = {kind: msgpack.ExtType(code, b"") for code, kind in _MARKED.items()}
_TYPED = _MARKERS.pop(Typed)
_HASHED: frozenset[type] = frozenset({set, frozenset})
_EXT8, _ARRAY16, _ARRAY32, _MAP32 = 0xC7, 0xDC, 0xDD, 0xDF
_EXTENSIONS = (_EXT8, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8)
_LARGE_MAP16 = re.compile(rb"\xde[^\x00]")  # of 256 members or more
_LEAST_CROWD = 4 * MOST_ALIKE  # bytes that so many keys with an extension, and their values, take


class SafeSerializer:
    """Packs the types in `SAFE_TYPES` and the registered ``types``, nested up to `MAX_DEPTH`."""

    __slots__ = ("_limit", "_registry", "allowed")

    def __init__(self, limit: int, types: Iterable[type | ValueType[Any]] = ()) -> None:
        self._limit = limit  # items looked at before the check of types gives up
        self._registry = Registry(types, SAFE_TYPES)
        self.allowed = SAFE_TYPES | self._registry.kinds.keys()

    def dumps(self, value: object) -> bytes:
        """Return ``value`` as msgpack; raise `SerializationError` that names the refused part."""
        # Step 1: refuse types that would come back as other types.
        crowds = check_types(value, self.allowed, limit=self._limit)
        registered = self._registry.kinds
        left = self._limit
        culprit: object = value
        # Whether there are only msgpack's own types and sets: no hundred of those share a hash.
        narrow = True

        # Step 2: msgpack calls this for a type that it does not know.
        def default(item: object) -> object:
            nonlocal culprit, narrow, left
            narrow = narrow and type(item) is set
            marker = _MARKERS.get(type(item))
            if marker is not None:
                return [marker, *item]  # type: ignore[misc]  # a tuple, set or frozenset
            culprit = item
            known = registered.get(type(item))
            if known is not None:
                # So many bytes at least: a value that shared objects blow up ends here.
                left -= 6 + len(known.name)
                if left < 0:
                    raise SerializationError(
                        "the value holds too many registered objects for max_value"
                    )
                plain = known.plain(item)
                try:
                    crowds.extend(check_types(plain, self.allowed, limit=self._limit))
                except SerializationError as error:
                    raise SerializationError(f"in the {known.name}, {error}") from error
                return [_TYPED, known.name, plain]
            return msgpack.ExtType(*pack_scalar(item))

        # Step 3: pack; an error names the path to the part that is refused.
        try:
            packed: bytes = msgpack.packb(value, default=default, strict_types=True)
        except UnicodeEncodeError as error:
            culprit, cause = (error.object if error.encoding == "utf-8" else culprit), error
            reason = f"text that UTF-8 cannot encode ({error.reason})"
        except SerializationError as error:
            cause, reason = error, str(error)  # type: ignore[assignment]
        else:
            if crowds and not narrow:
                _refuse_crowds(value, crowds)
            return packed
        raise SerializationError(f"{path_to(value, culprit)}: {reason}") from cause

    def loads(self, data: bytes) -> object:
        """Return the value packed in ``data``; raise any error that bad bytes cause.

        The caller translates the error. At most about 100 bytes are allocated for each byte of
        ``data``, whatever ``data`` claims.
        """
        if _ARRAY16 in data or _ARRAY32 in data:
            _walk(data)
        if len(data) > _LEAST_CROWD and _may_collide(data):
            return _unpack_checked(data, self._registry)
        if _EXT8 not in data:
            return msgpack.unpackb(data, strict_map_key=False, ext_hook=unpack_scalar, timestamp=3)
        return _unpack(data, self._registry)


def _refuse_crowds(value: object, crowds: list[Any]) -> None:
    """Refuse at the write what would be damage to a reader."""
    for item in crowds:
        alike = crowd(item)
        if alike:
            raise SerializationError(
                f"{path_to(value, item)}: {alike} members share one hash; a reader takes "
                f"{MOST_ALIKE} at most"
            )


def _walk(data: bytes) -> None:
    """Skip over everything, which builds nothing, to check that all claimed elements are there.

    A header may claim 4 billion elements, and msgpack allocates the list before it looks for them.
    """
    walker = msgpack.Unpacker(max_buffer_size=len(data))
    walker.feed(data)
    walker.skip()


def _unpack(data: bytes, registry: Registry, **how: Any) -> object:
    builder = _Builder(registry)
    value: object = msgpack.unpackb(
        data,
        strict_map_key=False,
        ext_hook=builder.extension,
        list_hook=builder.array,
        timestamp=3,
        **how,
    )
    if builder.open:
        raise DamagedPayload("a marker of a tuple or set stands where none may be")
    return value


def _unpack_checked(data: bytes, registry: Registry) -> object:
    """Unpack ``data``, the keys of large dicts checked before their dict is made.

    That takes Python code for each dict, so it is tried first whether there is anything to check:
    any extension, then any large dict.
    """
    try:
        return msgpack.unpackb(data, strict_map_key=False, ext_hook=_refuse_extension)
    except _HasExtension:
        pass
    try:
        return _unpack(data, registry, max_map_len=MOST_ALIKE)
    except DamagedPayload:
        raise
    except ValueError:  # there is a large dict indeed, or something is wrong with the data
        _walk(data)
        return _unpack(data, registry, object_pairs_hook=_dict)


class _HasExtension(Exception):
    """There is one, so hashes may have been chosen."""


def _refuse_extension(*_: object) -> NoReturn:
    raise _HasExtension


def _may_collide(data: bytes) -> bool:
    """Whether ``data`` may hold a large dict with keys of types whose hashes can be chosen.

    It takes a few searches for bytes.
    """
    return (_MAP32 in data or _LARGE_MAP16.search(data) is not None) and any(
        head in data for head in _EXTENSIONS
    )


def _dict(pairs: list[tuple[object, object]]) -> dict[object, object]:
    if len(pairs) > MOST_ALIKE:
        check_hashes([key for key, _ in pairs])
    return dict(pairs)


class _Builder:
    """Turns marked arrays back into tuples and sets, and counts the markers that marked none."""

    __slots__ = ("open", "registry", "wide")

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.open = 0
        self.wide = False  # whether there has been anything whose hash can be chosen

    def extension(self, code: int, data: bytes) -> object:
        kind = _MARKED.get(code)
        if kind is None:
            self.wide = True
            return unpack_scalar(code, data)
        if data:
            raise DamagedPayload(f"the marker {code:#04x} carries data")
        self.open += 1
        return kind

    def array(self, items: list[object]) -> object:
        # Only a marker can be a type among decoded items: nothing else decodes to one.
        if not items or type(items[0]) is not type:
            return items
        kind = items[0]
        del items[0]
        self.open -= 1
        if self.wide and kind in _HASHED:
            check_hashes(items)
        self.wide = self.wide or kind is not set
        if kind is Typed:
            if len(items) != 2:
                raise DamagedPayload(
                    f"a registered type is stored with {len(items)} elements instead of 2"
                )
            return self.registry.back(*items)
        return kind(items)
