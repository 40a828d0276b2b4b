"""What `get_or_set` stores: before the value, how it was loaded and how long it may be served.

Byte by byte in ``docs/wire-format.md``::

    0xFF | flags u8 | grace u64 | delta u32 | number of tags u8 | tags | the value as stored alone

The shard's own expiry is set to ttl + grace. So of a value with p milliseconds to live, p - grace
are fresh, and the clocks of two machines are never compared.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from shardcache.errors import DamagedPayload, InvalidArgument, NegativeHit

__all__ = ("LOADED", "VERSION_SIZE", "Loaded", "Tag", "pack", "refusal_text", "unpack")

LOADED = 0xFF
VERSION_SIZE = 16  # bytes
_NEGATIVE = 1  # the one flag there is; a reader that knows no others refuses them
_FIXED = struct.Struct(">BBQIB")
_FIXED_SIZE = _FIXED.size
_MAX_U64, _MAX_U32, _MAX_U16, _MAX_U8 = 2**64 - 1, 2**32 - 1, 2**16 - 1, 2**8 - 1
_MAX_REFUSAL = 500  # characters of an error's text that are worth keeping

Tag = tuple[bytes, bytes]
"""A tag's name (1 to 65535 bytes) and its version (16 bytes) when the value was loaded."""


class Loaded(NamedTuple):  # a tuple, since one is made for every hit
    """A value and how it was loaded; times in milliseconds.

    ``grace``: how long the value may still be served once it is stale. ``delta``: how long loading
        took.
    ``tags``: what it was tagged with. ``negative``: there is no value, the loader refused, and
        ``value`` is its `refusal_text`.
    """

    value: Any
    grace: int = 0
    delta: int = 0
    tags: tuple[Tag, ...] = ()
    negative: bool = False

    def refusal(self) -> NegativeHit:
        """Return the error that stands for a negative record."""
        kind, _, text = self.value.partition("\n")
        return NegativeHit(kind, text)


def refusal_text(error: BaseException) -> str:
    """Return what is stored for a loader's refusal: type, line feed, 500 characters of text."""
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        text = str(error)
    # An application's __str__ must not make a failed load of a refusal.
    except Exception:  # noqa: BLE001
        text = ""
    # Lone surrogates (a file name, say) are no UTF-8.
    return f"{name}\n{text:.{_MAX_REFUSAL}}".encode(errors="backslashreplace").decode()


def pack(
    grace: int = 0, delta: int = 0, tags: Sequence[Tag] = (), *, negative: bool = False
) -> bytes:
    """Return what stands before the value. A ``delta`` of more than 49 days counts as 49 days.

    Raises `InvalidArgument` for what the format has no room for.
    """
    if type(grace) is not int or not 0 <= grace <= _MAX_U64:
        raise InvalidArgument(
            f"grace must be a whole number of milliseconds from 0 to 2**64 - 1, got {grace!r:.80}"
        )
    if type(delta) is not int or delta < 0:
        raise InvalidArgument(
            f"delta must be a whole number of milliseconds, 0 or more, got {delta!r:.80}"
        )
    if len(tags) > _MAX_U8:
        raise InvalidArgument(f"a value may have {_MAX_U8} tags at most, got {len(tags)}")
    fixed = _FIXED.pack(
        LOADED, _NEGATIVE if negative else 0, grace, min(delta, _MAX_U32), len(tags)
    )
    return fixed + b"".join(map(_pack_tag, tags)) if tags else fixed


def _pack_tag(tag: Tag) -> bytes:
    name, version = tag
    if not isinstance(name, bytes) or not 1 <= len(name) <= _MAX_U16:
        raise InvalidArgument(f"a tag's name must be 1 to {_MAX_U16} bytes, got {name!r:.80}")
    if not isinstance(version, bytes) or len(version) != VERSION_SIZE:
        raise InvalidArgument(f"a tag's version must be {VERSION_SIZE} bytes, got {version!r:.80}")
    return len(name).to_bytes(2) + name + version


def unpack(raw: bytes) -> tuple[int, int, int, tuple[Tag, ...], bool]:
    """Return where in ``raw`` the value begins, and grace, delta, tags and whether it is negative.

    Raises `DamagedPayload` if ``raw`` ends before that, or sets what this version does not know.
    """
    if len(raw) < _FIXED_SIZE:
        raise DamagedPayload(f"the header of a loaded value is cut off after {len(raw)} bytes")
    head, flags, grace, delta, count = _FIXED.unpack_from(raw)
    if head != LOADED or flags > _NEGATIVE:
        raise DamagedPayload(
            f"no loaded value begins with {head:#04x} {flags:#04x}, or not in this version"
        )
    if not count:
        return _FIXED_SIZE, grace, delta, (), flags == _NEGATIVE
    at = _FIXED_SIZE
    tags: list[Tag] = []
    for _ in range(count):
        begin = at + 2
        end = begin + int.from_bytes(raw[at:begin])
        at = end + VERSION_SIZE
        if end == begin or at > len(raw):
            raise DamagedPayload("a tag of a loaded value is cut off or has no name")
        tags.append((raw[begin:end], raw[end:at]))
    return at, grace, delta, tuple(tags), flags == _NEGATIVE
