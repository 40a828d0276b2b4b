"""Values to store, and how a client without a serializer makes bytes of them."""

import json
import pickle
import random
import sys
import zlib
from collections.abc import Callable
from typing import Any

from shardcache.bench.scenarios.case import Case

__all__ = ("RawCodec", "raw_codec", "sample")

RawCodec = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]
WORDS = ("user", "order", "basket", "street", "summer", "price", "a", "of", "the", "in", "2026")
LIST = 100


def sample(case: Case) -> Any:
    """Return the value of a case: the same in each run."""
    chance = random.Random(case.size)
    match case.value:
        case "bytes":
            return chance.randbytes(case.size)
        case "int":
            return 1_234_567_890
        case "dict":
            return _user(chance)
        case "list":
            return [chance.randrange(1_000_000) for _ in range(LIST)]
        case "str":
            return _text(chance, case.size)


def _text(chance: random.Random, size: int) -> str:
    # Words, so that it can be compressed as texts can.
    return " ".join(chance.choices(WORDS, k=size))[:size]


def _user(chance: random.Random) -> dict[str, Any]:
    return {
        "id": chance.randrange(1_000_000),
        "name": _text(chance, 20),
        "email": "someone@example.org",
        "street": _text(chance, 30),
        "city": _text(chance, 12),
        "balance": 1234.5,
        "active": True,
        "referrer": None,
        "visits": 17,
        "note": _text(chance, 60),
    }


def raw_codec(case: Case) -> RawCodec:
    """Return how a value becomes bytes and is made of them, as an application would write it."""
    encode, decode = _serializer(case)
    if case.compression is None:
        return encode, decode
    compress, decompress = _compressor(case.compression)
    return (lambda value: compress(encode(value))), (lambda raw: decode(decompress(raw)))


def _serializer(case: Case) -> RawCodec:
    kind = "int" if case.operation == "incr" else case.value
    if kind == "bytes":
        return bytes, bytes
    if kind == "str":
        return str.encode, bytes.decode
    if kind == "int":
        return (lambda value: b"%d" % value), int
    if case.serializer == "json":
        return (lambda value: json.dumps(value).encode()), json.loads
    return (lambda value: pickle.dumps(value, pickle.HIGHEST_PROTOCOL)), pickle.loads


def _compressor(name: str) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    if name == "zlib":
        return zlib.compress, zlib.decompress
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.compress, zstd.decompress
    import zstandard

    return zstandard.ZstdCompressor().compress, zstandard.ZstdDecompressor().decompress
