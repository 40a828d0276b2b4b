"""The serializer "safe": msgpack with strict types, and nothing that could execute.

A tuple, set or frozenset is an array whose first element is a marker, an extension of zero
length that no caller can put there. So packing stays one pass without copies, reading needs no
recursion, and a payload without a marker is read without any Python code in between.
"""

import datetime as dt
from decimal import Decimal
from uuid import UUID

import msgpack  # type: ignore[import-untyped]  # it ships no annotations

from shardcache.codecs.census import CONTAINERS, path_to, take_census
from shardcache.codecs.scalars import pack_scalar, unpack_scalar
from shardcache.errors import DamagedPayload, SerializationError

__all__ = ("SAFE_TYPES", "SafeSerializer")

SAFE_TYPES = CONTAINERS | {
    *(type(None), bool, int, float, str, bytes),
    *(dt.datetime, dt.date, dt.time, dt.timedelta, Decimal, UUID),
}
_MARKED: dict[int, type] = {0x01: tuple, 0x02: set, 0x03: frozenset}
_MARKERS = {kind: msgpack.ExtType(code, b"") for code, kind in _MARKED.items()}
_EXT8, _ARRAY16, _ARRAY32 = 0xC7, 0xDC, 0xDD


class SafeSerializer:
    """Packs exactly the types in `SAFE_TYPES`, at any nesting up to `census.MAX_DEPTH`."""

    __slots__ = ("_limit",)

    def __init__(self, limit: int) -> None:
        self._limit = limit  # items looked at before the census gives up

    def dumps(self, value: object) -> bytes:
        """Return ``value`` as msgpack; raise `SerializationError` saying where it holds what cannot be kept."""
        take_census(value, SAFE_TYPES, limit=self._limit)
        culprit: object = value

        def default(item: object) -> object:
            nonlocal culprit
            marker = _MARKERS.get(type(item))
            if marker is not None:
                return [marker, *item]  # type: ignore[misc]  # a tuple, set or frozenset
            culprit = item
            return msgpack.ExtType(*pack_scalar(item))

        try:
            packed: bytes = msgpack.packb(value, default=default, strict_types=True)
            return packed
        except UnicodeEncodeError as error:
            culprit, cause = (error.object if error.encoding == "utf-8" else culprit), error
            reason = f"text that UTF-8 cannot encode ({error.reason})"
        except SerializationError as error:
            cause, reason = error, str(error)  # type: ignore[assignment]
        raise SerializationError(f"{path_to(value, culprit)}: {reason}") from cause

    def loads(self, data: bytes) -> object:
        """Return the value packed in ``data``; raise whatever bad bytes provoke (the caller's to translate).

        It allocates at most about 100 bytes for each byte of ``data``, whatever ``data`` claims.
        """
        if _ARRAY16 in data or _ARRAY32 in data:
            # An array's header may claim 4 billion elements, and msgpack sets aside room for them before it looks.
            # Skipping over everything first, which builds nothing, shows that all of them are there.
            walker = msgpack.Unpacker(max_buffer_size=len(data))
            walker.feed(data)
            walker.skip()
        if _EXT8 not in data:
            return msgpack.unpackb(data, strict_map_key=False, ext_hook=unpack_scalar, timestamp=3)
        builder = _Builder()
        value: object = msgpack.unpackb(
            data, strict_map_key=False, ext_hook=builder.extension, list_hook=builder.array, timestamp=3
        )
        if builder.open:
            raise DamagedPayload("a marker of a tuple or set stands where none may be")
        return value


class _Builder:
    """Turns marked arrays back into tuples and sets, and counts the markers that marked none."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open = 0

    def extension(self, code: int, data: bytes) -> object:
        kind = _MARKED.get(code)
        if kind is None:
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
        return kind(items)
