"""Scalars that msgpack has no type for, as extension codes: big ints, times, Decimal, UUID.

The bytes of each code are laid down in ``docs/wire-format.md``; numbers are big-endian.
"""

import datetime as dt
import re
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID, SafeUUID

from shardcache.errors import SerializationError

__all__ = ("pack_scalar", "unpack_scalar")

BIG_INT, DATETIME, DATE, TIME, TIMEDELTA, DECIMAL, UUID_ = range(0x10, 0x17)

_DATETIME = struct.Struct(">HBBBBBIB")  # year, month, day, hour, minute, second, microsecond, fold
_DATE = struct.Struct(">HBB")
_TIME = struct.Struct(">BBBIB")
_TIMEDELTA = struct.Struct(">iii")  # days, seconds, microseconds, normalised as Python does
_OFFSET = struct.Struct(">q")  # microseconds east of UTC
_MICROSECOND = dt.timedelta(microseconds=1)
_ZONE_KEY = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,3}")
_MAX_ZONE_KEY = 64
_SAFETY = {SafeUUID.unknown: b"", SafeUUID.safe: b"\x00", SafeUUID.unsafe: b"\x01"}
_SAFETY_BACK = {code: safety for safety, code in _SAFETY.items()}


def _pack_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _unpack_int(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _pack_datetime(value: dt.datetime) -> bytes:
    packed = _DATETIME.pack(
        value.year,
        value.month,
        value.day,
        value.hour,
        value.minute,
        value.second,
        value.microsecond,
        value.fold,
    )
    return packed if value.tzinfo is None else packed + _pack_zone(value.tzinfo)


def _unpack_datetime(data: bytes) -> dt.datetime:
    year, month, day, hour, minute, second, microsecond, fold = _DATETIME.unpack_from(data)
    zone = _unpack_zone(data[_DATETIME.size :])
    return dt.datetime(year, month, day, hour, minute, second, microsecond, zone, fold=fold)


def _pack_date(value: dt.date) -> bytes:
    return _DATE.pack(value.year, value.month, value.day)


def _unpack_date(data: bytes) -> dt.date:
    return dt.date(*_DATE.unpack(data))


def _pack_time(value: dt.time) -> bytes:
    packed = _TIME.pack(value.hour, value.minute, value.second, value.microsecond, value.fold)
    return packed if value.tzinfo is None else packed + _pack_zone(value.tzinfo)


def _unpack_time(data: bytes) -> dt.time:
    hour, minute, second, microsecond, fold = _TIME.unpack_from(data)
    return dt.time(hour, minute, second, microsecond, _unpack_zone(data[_TIME.size :]), fold=fold)


def _pack_timedelta(value: dt.timedelta) -> bytes:
    return _TIMEDELTA.pack(value.days, value.seconds, value.microseconds)


def _unpack_timedelta(data: bytes) -> dt.timedelta:
    return dt.timedelta(*_TIMEDELTA.unpack(data))


def _pack_decimal(value: Decimal) -> bytes:
    # A context with capitals=0 writes 1e+5; the stored form must not depend on the thread that
    # wrote it.
    return str(value).replace("e", "E").encode()


def _unpack_decimal(data: bytes) -> Decimal:
    value = Decimal(data.decode("ascii"))
    # In a context that does not trap InvalidOperation, garbage becomes a NaN.
    if value.is_nan() and b"NaN" not in data:
        raise ValueError("not a decimal number")
    return value


def _pack_uuid(value: UUID) -> bytes:
    return value.bytes + _SAFETY[value.is_safe]


def _unpack_uuid(data: bytes) -> UUID:
    return UUID(bytes=data[:16], is_safe=_SAFETY_BACK[data[16:]])


def _pack_zone(zone: dt.tzinfo) -> bytes:
    """Return ``F`` offset, ``N`` offset name, or ``Z`` key; refuse a zone that would change."""
    kind = type(zone)
    if kind is dt.timezone:
        # As pickle and copy do it.
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        packed = _OFFSET.pack(offset // _MICROSECOND)
        if not name:
            return b"F" + packed
        if type(name[0]) is str:
            return b"N" + packed + str(name[0]).encode()
        raise SerializationError("its timezone's name is a subclass of str")
    from zoneinfo import ZoneInfo  # slow to import, and few values need it

    if kind is not ZoneInfo:
        raise SerializationError(
            f"its tzinfo is a {kind.__module__}.{kind.__qualname__}; "
            "allowed are None, datetime.timezone and zoneinfo.ZoneInfo"
        )
    key = zone.key  # type: ignore[attr-defined]
    # Two datetimes whose zones are not one object may compare unequal though all else is the same
    # (PEP 495), so a zone outside the cache of ZoneInfo (from_file, no_cache) would come back
    # changed.
    if not _is_zone_key(key) or ZoneInfo(key) is not zone:
        raise SerializationError(
            f"its ZoneInfo (key {key!r:.80}) is not the one that ZoneInfo(key) gives"
        )
    return b"Z" + str(key).encode()


def _unpack_zone(data: bytes) -> dt.tzinfo | None:
    kind, rest = data[:1], data[1:]
    if not kind:
        return None
    if kind == b"F":
        return dt.timezone(_OFFSET.unpack(rest)[0] * _MICROSECOND)
    if kind == b"N":
        return dt.timezone(_OFFSET.unpack(rest[:8])[0] * _MICROSECOND, rest[8:].decode())
    if kind == b"Z":
        from zoneinfo import ZoneInfo

        key = rest.decode("ascii")
        # A key is a path below the zone files; no other path may reach the file system.
        if _is_zone_key(key):
            return ZoneInfo(key)
    raise ValueError("no such kind of time zone")


def _is_zone_key(key: object) -> bool:
    return type(key) is str and len(key) <= _MAX_ZONE_KEY and _ZONE_KEY.fullmatch(key) is not None


_PACK: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    int: (BIG_INT, _pack_int),
    dt.datetime: (DATETIME, _pack_datetime),
    dt.date: (DATE, _pack_date),
    dt.time: (TIME, _pack_time),
    dt.timedelta: (TIMEDELTA, _pack_timedelta),
    Decimal: (DECIMAL, _pack_decimal),
    UUID: (UUID_, _pack_uuid),
}
_UNPACK: dict[int, Callable[[bytes], object]] = {
    BIG_INT: _unpack_int,
    DATETIME: _unpack_datetime,
    DATE: _unpack_date,
    TIME: _unpack_time,
    TIMEDELTA: _unpack_timedelta,
    DECIMAL: _unpack_decimal,
    UUID_: _unpack_uuid,
}


def pack_scalar(value: object) -> tuple[int, bytes]:
    """Return the extension code and bytes of ``value``, whose type is one of those packed here.

    Raise `SerializationError` for a time zone that would not come back the same, `KeyError` for
    another type.
    """
    code, pack = _PACK[type(value)]
    return code, pack(value)


def unpack_scalar(code: int, data: bytes) -> object:
    """Return the value behind an extension code; raise any error that bad bytes cause."""
    unpack = _UNPACK.get(code)
    if unpack is None:
        raise ValueError(f"unknown extension code {code:#04x}")
    return unpack(data)
