"""The serializer "raw": bytes as they are, without a header, for programs without this library.

Without a header there is no place for types other than bytes, for compression or a signature, or
for what `get_or_set` stores beside a value (grace, tags, refusals). Nothing that is read is taken
for more than bytes, so that bytes that begin with a header byte by chance come back too.
"""

# ruff: noqa: ARG002 - the parameters are those of `Codec`, and some tell a plain value nothing

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from shardcache.codecs.codec import MAX_VALUE, Codec
from shardcache.codecs.load_record import Loaded, Tag
from shardcache.codecs.ways_out import refused_result
from shardcache.errors import DamagedPayload, InvalidArgument, InvalidOption, SerializationError
from shardcache.value_type import ValueType

__all__ = ("RawCodec",)


class RawCodec(Codec):
    """A `Codec` that stores bytes as they are. Raises `InvalidOption` for what has no room."""

    __slots__ = ()

    def __init__(
        self,
        *,
        compression: str | None = None,
        compress_min: int = 1024,
        signing_key: bytes | str | Sequence[bytes | str] | None = None,
        sign_plain: bool = True,
        max_value: int = MAX_VALUE,
        types: Collection[type | ValueType[Any]] = (),
        read_foreign: bool = True,
    ) -> None:
        for name, given in (
            ("compression", compression),
            ("signing_key", signing_key),
            ("sign_plain", None if sign_plain else False),
            ("types", types or None),
            ("read_foreign", None if read_foreign else False),
        ):
            if given is not None:
                raise InvalidOption(
                    f"the serializer 'raw' stores plain bytes, so {name} must be left out"
                )
        super().__init__(compress_min=compress_min, max_value=max_value)

    def __repr__(self) -> str:
        return "RawCodec()"

    def check_result(self, function: object) -> None:
        """Raise `InvalidArgument` if the result type of ``function`` is certainly not bytes."""
        kind = refused_result(function, [bytes])
        if kind is not None:
            name = getattr(function, "__qualname__", repr(function))
            raise InvalidArgument(
                f"{name} returns a {kind.__qualname__}: the serializer 'raw' keeps bytes alone"
            )

    def encode(self, value: object, wire_key: bytes) -> bytes:
        """Return ``value``; raise `SerializationError` if it is not bytes, or too long."""
        if type(value) is bytes and len(value) <= self._max_value:
            return value
        if type(value) is bytes:
            error = SerializationError(
                f"the value takes {len(value)} bytes; max_value allows {self._max_value}"
            )
        else:
            error = SerializationError(
                f"the serializer 'raw' keeps bytes alone, got a {type(value).__qualname__}: "
                "encode it yourself (a str by "
                ".encode(), others by json.dumps(…).encode()), or choose another serializer"
            )
        error.value = value
        raise error

    def encode_many(self, values: list[Any], wire_keys: list[bytes]) -> list[bytes]:
        """Return `encode` of each value, in order."""
        return list(map(self.encode, values, wire_keys))

    def encode_loaded(
        self,
        value: object,
        wire_key: bytes,
        *,
        grace_ms: int = 0,
        delta_ms: int = 0,
        tags: Sequence[Tag] = (),
        negative: bool = False,
    ) -> bytes:
        """Return ``value``; how long its load took is not kept.

        Raises `InvalidArgument` for what has no place.
        """
        self.check_record(stale=bool(grace_ms), tags=bool(tags), negative=negative)
        return self.encode(value, wire_key)

    def check_record(self, *, stale: bool, tags: bool, negative: bool) -> None:
        """Raise `InvalidArgument` if anything has to be stored beside a value."""
        for name, wanted in (("stale_ttl", stale), ("tags", tags), ("negative_on", negative)):
            if wanted:
                raise InvalidArgument(
                    f"{name} cannot be had with the serializer 'raw', which stores plain bytes "
                    "alone"
                )

    def decode(self, raw: bytes, wire_key: bytes) -> object:
        """Return what is stored."""
        return raw

    def decode_loaded(self, raw: bytes, wire_key: bytes) -> Loaded:
        """Return what is stored, of which nothing is known."""
        return Loaded(raw)

    def decode_many(
        self, raws: Sequence[bytes | None], wire_keys: Iterable[bytes], absent: object = None
    ) -> tuple[list[object], dict[int, DamagedPayload]]:
        """Return what is stored, with ``absent`` where there is nothing."""
        return [absent if raw is None else raw for raw in raws], {}
