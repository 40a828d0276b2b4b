"""The key hashes of twemproxy and libmemcached, with their quirks, from bytes to 32 bits.

Written against twemproxy's ``src/hashkit`` and checked against a running nutcracker. Where
the C code reads bytes as ``char``, those from 0x80 up are negative on x86-64 and extend
their sign (`_signed`); a proxy on ARM, where ``char`` is unsigned, places such keys elsewhere.
"""

from binascii import crc_hqx as _crc_hqx
from collections.abc import Callable, Mapping
from hashlib import md5 as _md5
from types import MappingProxyType
from zlib import crc32 as _crc32

__all__ = ("KEY_HASHES", "KeyHash")

KeyHash = Callable[[bytes], int]
_WORD = 0xFFFFFFFF


def _sign_extended(byte: int) -> int:
    return byte if byte < 0x80 else byte | 0xFFFFFF00


_signed = tuple(map(_sign_extended, range(256))).__getitem__


def _fnv1(start: int, prime: int) -> KeyHash:
    def digest(key: bytes) -> int:
        value = start
        for byte in map(_signed, key):
            value = value * prime & _WORD ^ byte
        return value

    return digest


def _fnv1a(start: int, prime: int) -> KeyHash:
    def digest(key: bytes) -> int:
        value = start
        for byte in map(_signed, key):
            value = (value ^ byte) * prime & _WORD
        return value

    return digest


def _one_at_a_time(key: bytes) -> int:
    value = 0
    for byte in map(_signed, key):
        value = value + byte & _WORD
        value = value + (value << 10) & _WORD
        value ^= value >> 6
    value = value + (value << 3) & _WORD
    value ^= value >> 11
    return value + (value << 15) & _WORD


def _murmur2(key: bytes) -> int:
    """MurmurHash2 by Austin Appleby, seeded with the length."""
    multiplier = 0x5BD1E995
    length = len(key)
    value = (0xDEADBEEF * length & _WORD) ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * multiplier & _WORD
        word = (word ^ word >> 24) * multiplier & _WORD
        value = (value * multiplier & _WORD) ^ word
    if whole < length:
        value = (value ^ int.from_bytes(key[whole:], "little")) * multiplier & _WORD
    value = (value ^ value >> 13) * multiplier & _WORD
    return value ^ value >> 15


def _crc16_of(byte: int) -> int:
    return _crc_hqx(bytes([byte]), 0)


_CRC16 = tuple(map(_crc16_of, range(256)))


def _crc16(key: bytes) -> int:
    value = 0
    for byte in key:
        value = value << 8 & _WORD ^ _CRC16[(value >> 8 ^ byte) & 0xFF]
    return value


def _crc32_15(key: bytes) -> int:
    return _crc32(key) >> 16 & 0x7FFF


def _md5_32(key: bytes) -> int:
    return int.from_bytes(_md5(key, usedforsecurity=False).digest()[:4], "little")


_LOW_64_START, _LOW_64_PRIME = 0xCBF29CE484222325 & _WORD, 0x100000001B3 & _WORD
_START_32, _PRIME_32 = 2166136261, 16777619

KEY_HASHES: Mapping[str, KeyHash] = MappingProxyType(
    {
        # Only 15 bits: all keys lie on the first 1/131072 of the circle, so mostly on one server.
        "crc32": _crc32_15,
        "crc32a": _crc32,
        # The upper half is what the CRC register pushed out, and it stays.
        "crc16": _crc16,
        "fnv1_32": _fnv1(_START_32, _PRIME_32),
        # Cut to 32 bits at the end, which is the same as counting in 32 bits throughout.
        "fnv1_64": _fnv1(_LOW_64_START, _LOW_64_PRIME),
        "fnv1a_32": _fnv1a(_START_32, _PRIME_32),
        # No FNV-1a of 64 bits: twemproxy keeps its state in 32.
        "fnv1a_64": _fnv1a(_LOW_64_START, _LOW_64_PRIME),
        "md5": _md5_32,
        "murmur": _murmur2,
        "one_at_a_time": _one_at_a_time,
    }
)
"""Every supported ``hash:`` of twemproxy by its name there; not hsieh and jenkins."""
