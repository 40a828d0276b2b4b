"""The loops over keys, replies and values: one source, run by CPython or compiled by Cython.

The types of arguments and of some variables are here for the compiler: it makes plain C of what it
knows to be a list or bytes. So an argument of another type is a `TypeError` there.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmh3 import mmh3_32_uintdigest

if TYPE_CHECKING:
    import cython

__all__ = (
    "COMPILED",
    "command_of",
    "count_absent",
    "decode_plain",
    "encode_keys",
    "encode_plain",
    "fill_tokens",
    "hash_tag",
    "pack_command",
    "pack_gets",
    "pack_sets",
    "pack_ttls",
    "positions_of",
    "put",
    "ring_owners",
)

COMPILED = False
"""Whether the compiled twin runs in this process."""

# Of a stored value, as in `codecs/codec.py`, which has all of them.
_RAW, _TEXT = 0xF5, 0xF6
_RAW_HEAD, _TEXT_HEAD = bytes([_RAW]), bytes([_TEXT])
_ZERO, _NINE = b"09"
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_DIGITS = 18  # so many fit into 64 bits, whatever they are
_BRACE, _CLOSING = b"{}"
# What stands before a word of a command, and before the key of some commands, by its length.
_LENGTHS = [b"$%d" % length for length in range(256)]
_SET_HEADS = [b"*3\r\n$3\r\nSET\r\n$%d" % length for length in range(256)]
_EXPIRING_SET_HEADS = [b"*5\r\n$3\r\nSET\r\n$%d" % length for length in range(256)]
_PTTL_HEADS = [b"*2\r\n$4\r\nPTTL\r\n$%d\r\n" % length for length in range(256)]
_GET_HEADS = [b"*2\r\n$3\r\nGET\r\n$%d\r\n" % length for length in range(256)]


def encode_keys(keys: list[Any], prefix: bytes, internal: bytes, most: int) -> list[bytes] | None:
    """Return the wire keys of ``keys``, in their order; None if one of them needs a closer look.

    ``prefix``: of the namespace.
    ``internal``: the text that no key may contain.
    ``most``: bytes that a wire key may take.
    """
    raws: list[bytes] = []
    text: str
    try:
        for key in keys:
            if type(key) is not str or not key:
                return None
            text = key
            raws.append(prefix + text.encode())
    except UnicodeEncodeError:
        return None
    # One search through all keys at once costs a tenth of asking each. What it finds across two
    # keys only costs the closer look.
    joined = b"".join(raws)
    if internal[0] in joined and internal in joined:
        return None
    if len(joined) > most and max(map(len, raws)) > most:
        return None
    return raws


def hash_tag(wire_key: bytes) -> bytes:
    """Return the part of ``wire_key`` that is hashed: its first ``{tag}``, or all of it."""
    start = wire_key.find(b"{")
    if start >= 0:
        end = wire_key.find(b"}", start + 1)
        if end > start + 1:
            return wire_key[start + 1 : end]
    return wire_key


def ring_owners(wires: list[bytes], table: Sequence[int], bits: int) -> list[int]:
    """Return for each wire key what a ring's ``table`` says of the hash of its tag.

    ``table``: the owner of each part of the circle.
    ``bits``: how many low bits of a hash lie within one part.
    """
    # One search through all keys at once, as above.
    if _BRACE in b"".join(wires):
        wires = [hash_tag(wire) for wire in wires]
    owners: list[int] = []
    shift: cython.uint = bits
    digest: cython.uint
    for wire in wires:
        digest = mmh3_32_uintdigest(wire)
        owners.append(table[digest >> shift])
    return owners


def positions_of(owners: list[int]) -> dict[int, list[int]]:
    """Return for each owner the positions at which it stands, in the order of the first."""
    groups: dict[int, list[int]] = {}
    group: list[int] | None
    position: cython.Py_ssize_t = 0
    for owner in owners:
        group = groups.get(owner)
        if group is None:
            groups[owner] = [position]
        else:
            group.append(position)
        position += 1
    return groups


def pack_gets(keys: list[bytes]) -> bytes:
    """Return the bytes of a GET for each of one key or more, as hiredis does, in half the time."""
    return _pack_each(_GET_HEADS, keys)


def pack_ttls(keys: list[bytes]) -> bytes:
    """Return the bytes of a PTTL for each of some keys."""
    return _pack_each(_PTTL_HEADS, keys) if keys else b""


def _pack_each(heads: list[bytes], keys: list[bytes]) -> bytes:
    try:
        return b"\r\n".join([heads[len(key)] + key for key in keys]) + b"\r\n"
    except IndexError:  # a long key
        start: bytes = heads[0][:-3]
        return b"".join([b"%b%d\r\n%b\r\n" % (start, len(key), key) for key in keys])


def command_of(verb: bytes, keys: list[bytes], positions: list[int]) -> tuple[bytes, ...]:
    """Return the command ``verb`` of the keys at these positions."""
    words: list[bytes] = [verb]
    position: cython.Py_ssize_t
    for position in positions:
        words.append(keys[position])
    return tuple(words)


def pack_command(words: tuple[bytes, ...]) -> bytes:
    """Return the bytes of a command, as hiredis does, in less time if there are many words."""
    parts: list[bytes] = [b"*%d" % len(words)]
    size: cython.Py_ssize_t
    for word in words:
        size = len(word)
        parts.append(_LENGTHS[size] if size < 256 else b"$%d" % size)
        parts.append(word)
    parts.append(b"")
    return b"\r\n".join(parts)


def pack_sets(
    keys: list[bytes], values: list[bytes], positions: list[int], life: bytes | None
) -> bytes:
    """Return the bytes of a SET for each of these positions.

    ``life``: the ttl in milliseconds, in digits; None: no expiry.
    """
    heads: list[bytes] = _SET_HEADS if life is None else _EXPIRING_SET_HEADS
    end: bytes = b"" if life is None else b"$2\r\nPX\r\n$%d\r\n%b" % (len(life), life)
    parts: list[bytes] = []
    key: bytes
    value: bytes
    size: cython.Py_ssize_t
    position: cython.Py_ssize_t
    for position in positions:
        key = keys[position]
        value = values[position]
        size = len(key)
        parts.append(heads[size] if size < 256 else heads[0][:-1] + b"%d" % size)
        parts.append(key)
        size = len(value)
        parts.append(_LENGTHS[size] if size < 256 else b"$%d" % size)
        parts.append(value)
        if life is not None:
            parts.append(end)
    parts.append(b"")
    return b"\r\n".join(parts)


def count_absent(replies: list[Any]) -> int:
    """Return how many replies are None; -1 if one is neither None nor bytes."""
    absent: cython.Py_ssize_t = 0
    for reply in replies:
        if reply is None:
            absent += 1
        elif type(reply) is not bytes:
            return -1
    return int(absent)


def put(into: list[Any], places: list[int], values: list[Any]) -> None:
    """Put each of ``values`` into its place of ``into``. There are as many values as places."""
    if len(places) != len(values):
        raise ValueError(f"{len(values)} values for {len(places)} places")
    position: cython.Py_ssize_t = 0
    place: cython.Py_ssize_t
    for place in places:
        into[place] = values[position]
        position += 1


def fill_tokens(wires: list[bytes], start: bytes) -> list[bytes] | None:
    """Return the keys of the fill tokens of ``wires``; None if one of them has a brace.

    ``start``: what stands before the wire key.
    """
    if _CLOSING in b"".join(wires):
        return None
    return [start + wire + b"}" for wire in wires]


def encode_plain(
    values: list[Any], wires: list[bytes], most: int, encode: Callable[[Any, bytes], bytes]
) -> list[bytes]:
    """Return what is stored for values: text, bytes and ints here, all else by ``encode``.

    ``values``: what a caller wants to store.
    ``wires``: the wire keys, as many.
    ``most``: bytes of what is stored that may be made here.

    Raises what ``encode`` raises.
    """
    if len(values) != len(wires):
        raise ValueError(f"{len(values)} values for {len(wires)} keys")
    raws: list[bytes] = []
    position: cython.Py_ssize_t = 0
    largest: cython.Py_ssize_t = most
    raw: bytes
    text: str
    for value in values:
        # The kinds that need no serializer, unless they are compressed or signed.
        if type(value) is str:
            text = value
            try:
                raw = _TEXT_HEAD + text.encode()
            except UnicodeEncodeError:
                raw = encode(value, wires[position])
            else:
                if len(raw) > largest:
                    raw = encode(value, wires[position])
        elif type(value) is bytes and len(value) < largest:
            raw = _RAW_HEAD + value
        elif type(value) is int and _LOWEST <= value <= _HIGHEST:
            raw = b"%d" % value
        else:
            # The codec has all other kinds, and the errors.
            raw = encode(value, wires[position])
        raws.append(raw)
        position += 1
    return raws


def decode_plain(
    raws: list[Any], wires: list[bytes], absent: object, decode: Callable[[bytes, bytes], Any]
) -> list[Any]:
    """Return the values of what is stored: text, bytes and ints here, all else by ``decode``.

    ``raws``: what is stored for each key, bytes or None.
    ``wires``: the wire keys, as many.
    ``absent``: stands for None.

    Raises what ``decode`` raises, and UnicodeDecodeError for damaged text.
    """
    if len(raws) != len(wires):
        raise ValueError(f"{len(raws)} stored values for {len(wires)} keys")
    values: list[Any] = []
    position: cython.Py_ssize_t = 0
    size: cython.Py_ssize_t
    head: cython.uchar
    for raw in raws:
        if raw is None:
            values.append(absent)
        else:
            stored: bytes = raw
            size = len(stored)
            head = stored[0] if size else 0
            if head == _TEXT:
                values.append(stored[1:].decode())
            elif head == _RAW:
                values.append(stored[1:])
            elif _ZERO < head <= _NINE and size <= _DIGITS and stored.isdigit():
                values.append(int(stored))
            else:
                values.append(decode(stored, wires[position]))
        position += 1
    return values


# As `heapq` of the standard library does: the compiled twin takes the place of what is above, if it
# is there. A wheel that was built without a compiler has none, nor has one of another Python.
if __name__ == "shardcache.per_key.loops" and os.environ.get("SHARDCACHE_PURE", "0") in {"", "0"}:
    with suppress(ImportError):
        _twin = import_module("shardcache.per_key._compiled")
        globals().update({name: getattr(_twin, name) for name in __all__}, COMPILED=True)
