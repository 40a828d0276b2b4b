"""Serializers: what turns a value that is not plain text, bytes or a number into bytes."""

import json
import math
import re
import sys
from typing import NoReturn, Protocol, runtime_checkable

from shardcache.codecs.type_check import check_types, path_to
from shardcache.errors import SerializationError

__all__ = ("JsonSerializer", "PickleSerializer", "Serializer")

JSON_TYPES = frozenset({type(None), bool, int, float, str, list, dict})
# CPython's default limit for int(str): a reader with it must be able to read what we write
MAX_JSON_DIGITS = 4300
_TOO_LONG = re.compile(rb"\d{%d}" % (MAX_JSON_DIGITS + 1))


@runtime_checkable
class Serializer(Protocol):
    """What ``serializer=`` takes besides a name: the caller's own format.

    ``loads(dumps(value))`` must give back an equal value of the same type. Both may raise anything:
    it becomes `SerializationError` at the write and `DamagedPayload` at the read.

    With an attribute ``reads_foreign`` that is true, ``loads`` is also given the bytes of other
    programs, those without this library's header; an int in digits is read before. Without it, such
    bytes are returned as they are.
    """

    def dumps(self, value: object, /) -> bytes: ...

    def loads(self, data: bytes, /) -> object: ...


class JsonSerializer:
    """JSON that comes back as it went in; everything that would not is refused.

    Refused are tuples, bytes, keys other than str, subclasses, NaN and infinities (no other reader
    takes them) and ints of more than 4300 digits.
    """

    __slots__ = ("_limit",)

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def dumps(self, value: object) -> bytes:
        check_types(value, JSON_TYPES, limit=self._limit, keys=frozenset({str}), format="json")
        try:
            data = _ENCODER.encode(value).encode()
        except UnicodeEncodeError as error:
            raise SerializationError(
                f"the value holds text that UTF-8 cannot encode: {error.reason}"
            ) from error
        except ValueError as error:
            raise SerializationError(
                f"{_odd_number(value)}: JSON cannot carry it ({error})"
            ) from error
        _check_digits(data)
        return data

    def loads(self, data: bytes) -> object:
        _check_digits(data)
        return _DECODER.decode(data.decode())


def _check_digits(data: bytes) -> None:
    """Refuse an int too long for CPython's default limit, where this process has a laxer one."""
    if not 0 < sys.get_int_max_str_digits() <= MAX_JSON_DIGITS and _TOO_LONG.search(data):
        json.loads(data, parse_int=_bounded_int, parse_constant=_no_constant)


def _bounded_int(text: str) -> int:
    if len(text.lstrip("-")) > MAX_JSON_DIGITS:
        raise SerializationError(
            f"an int of more than {MAX_JSON_DIGITS} digits cannot be kept as JSON"
        )
    return int(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# `check_types` has found no cycle, so the encoder need not look for one.
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
)
_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _odd_number(value: object) -> str:
    """Return the path of the first number that JSON cannot carry."""
    ahead = [value]
    while ahead:
        item = ahead.pop()
        if isinstance(item, dict):
            ahead += item.values()
        elif isinstance(item, list):
            ahead += item
        elif isinstance(item, float) and not math.isfinite(item):
            return path_to(value, item)
    return "the value"


class PickleSerializer:
    """Python's pickle, protocol 5, for those who ask for it: **reading a pickle can run any code**.

    It keeps what the objects' own ``__reduce__`` keeps, so equality and types are the caller's
    affair.
    """

    __slots__ = ("_pickle",)

    def __init__(self) -> None:
        import pickle  # only for those who ask for it

        self._pickle = pickle

    def dumps(self, value: object) -> bytes:
        return self._pickle.dumps(value, protocol=5)

    def loads(self, data: bytes) -> object:
        if not data.endswith(self._pickle.STOP):
            raise ValueError("the pickle is cut off or has bytes behind its end")
        return self._pickle.loads(data)
