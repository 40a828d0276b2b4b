"""The envelope: one header byte that says how a value is stored, and which clients may read it.

Byte by byte in ``docs/wire-format.md``. An int of 64 bits is bare ASCII digits; everything else
begins with 0xF5 to 0xFF, which neither UTF-8 text, nor a digit, nor what other caches write begins
with. Bytes without a header are another program's and come back as they are.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from copy import copy
from typing import Any, NoReturn

from shardcache.codecs.compress import Compressor, Zlib, compressor, zstd_or_damaged
from shardcache.codecs.load_record import LOADED, Loaded, Tag, pack, unpack
from shardcache.codecs.safe import SafeSerializer
from shardcache.codecs.serializers import JSON_TYPES, JsonSerializer, PickleSerializer, Serializer
from shardcache.codecs.sign import SIGNATURE_SIZE, Signer
from shardcache.codecs.ways_out import list_ways_out, refused_result
from shardcache.errors import DamagedPayload, InvalidArgument, InvalidOption, SerializationError
from shardcache.per_key import decode_plain, encode_plain
from shardcache.value_type import ValueType

__all__ = ("MAX_VALUE", "Codec")

RAW, TEXT, SAFE, JSON, PICKLE, CUSTOM, ZLIB, ZSTD, SIGNED, NEXT_VERSION = range(0xF5, LOADED)
_RAW, _TEXT, _SIGNED, _LOADED = (bytes([head]) for head in (RAW, TEXT, SIGNED, LOADED))
_SIGNED_ENVELOPE = 1 + SIGNATURE_SIZE

MAX_VALUE = 64 * 1024 * 1024  # bytes, the default
_LARGEST_MAX_VALUE = 512 * 1024 * 1024  # what a server takes (proto-max-bulk-len)
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1  # what INCR counts in
_LONGEST_NUMBER = 20  # characters of the lowest; one of 18 digits fits without a look
_ZERO = ord("0")


class Codec:
    """Turns values into the bytes that are stored, and back: equal and of the same type.

    ``serializer``: for values other than str, bytes and 64-bit ints: "safe" (the default), "json",
        "pickle" or an object with ``dumps(value) -> bytes`` and ``loads(bytes) -> value``, which
        also gets bytes without a header if it has a true attribute ``reads_foreign`` (for "raw" see
        `RawCodec`). Every client reads "safe" and "json"; a pickle is read under "pickle" only, a
        custom payload under a custom serializer only.
    ``compression``: None (the default), "zlib" or "zstd": for values that get smaller by it. Every
        client reads both.
    ``compress_min``: bytes from which a value is compressed. Default: 1024.
    ``signing_key``: at least 16 bytes, or several keys: the first signs, all verify. Every value
        but bare ints has a signature, checked before anything is decompressed or decoded; without
        the key a signed value is damaged. Default: None.
    ``sign_plain``: whether str and bytes are signed too. False: they are neither signed nor checked
        while they are stored as they are (not compressed, not loaded): such bytes are the value,
        and nothing decodes them. Default: True.
    ``max_value``: bytes before compression that are written, and to which a stored value may
        decompress, 64 to 512 MiB. Default: 64 MiB.
    ``types``: what "safe" keeps besides its own types (`ValueType`); each client that reads such a
        value needs them too. Default: none.
    ``read_foreign``: whether bytes without a header come back as they are; False: they are damaged.
        Ints in digits are read all the same. Default: True.

    Immutable, and safe to share between threads. Raises `InvalidOption` for values that cannot be.
    """

    __slots__ = (
        "_allowed",
        "_compressor",
        "_direct",
        "_direct_plain",
        "_dumps",
        "_foreign",
        "_header",
        "_max_value",
        "_min",
        "_readers",
        "_reads_plain",
        "_signer",
        "_unsigned",
        "_wrapper",
    )

    def __init__(
        self,
        serializer: str | Serializer = "safe",
        *,
        compression: str | None = None,
        compress_min: int = 1024,
        signing_key: bytes | str | Sequence[bytes | str] | None = None,
        sign_plain: bool = True,
        max_value: int = MAX_VALUE,
        types: Iterable[type | ValueType[Any]] = (),
        read_foreign: bool = True,
    ) -> None:
        self._max_value = _whole_number("max_value", max_value, 64, _LARGEST_MAX_VALUE)
        self._min = _whole_number("compress_min", compress_min, 0, _LARGEST_MAX_VALUE)
        safe, json = SafeSerializer(max_value, types), JsonSerializer(max_value)
        self._readers: dict[int, Callable[[bytes], object]] = {
            RAW: bytes,
            TEXT: bytes.decode,
            SAFE: safe.loads,
            JSON: json.loads,
            PICKLE: _refusal(
                "the value is a pickle, which can execute code: only serializer='pickle' reads it"
            ),
            CUSTOM: _refusal(
                "the value was written by a custom serializer, and this client has none"
            ),
        }
        header, chosen = _choose(serializer, safe, json)
        self._readers[header] = chosen.loads
        self._foreign = (
            _reader_of_foreign(chosen.loads)
            if getattr(serializer, "reads_foreign", False)
            else _foreign
            if read_foreign
            else _reader_of_foreign(_refusal("the value is another program's, and has no header"))
        )
        self._header, self._dumps = bytes([header]), chosen.dumps
        self._allowed = {SAFE: safe.allowed, JSON: JSON_TYPES | {bytes}}.get(header, frozenset())
        self._compressor: Compressor | None = (
            None if compression is None else compressor(compression)
        )
        self._wrapper = bytes([ZSTD if compression == "zstd" else ZLIB])
        self._signer = None if signing_key is None else Signer(signing_key)
        # Whether text and bytes without a signature are read.
        self._reads_plain = self._signer is None or not sign_plain
        # Up to this many bytes an envelope is stored as it is: the one comparison that most values
        # need. Of text and bytes (plain), and of all else.
        self._direct = self._direct_plain = (
            min(self._max_value, self._min) if self._compressor else self._max_value
        )
        self._unsigned = self  # what encodes the value inside of a loaded one
        if self._signer:
            self._unsigned = copy(self)
            self._unsigned._signer = None
            self._unsigned._reads_plain = True
            self._direct = -1
            if sign_plain:
                self._direct_plain = -1

    def __repr__(self) -> str:
        """Show that values are signed, never with what (G7)."""
        names = {ZLIB: "zlib", ZSTD: "zstd"}
        kinds = {SAFE: "safe", JSON: "json", PICKLE: "pickle", CUSTOM: "custom"}
        compression = names[self._wrapper[0]] if self._compressor else None
        kind, signed = kinds[self._header[0]], self._signer is not None
        return f"Codec({kind!r}, compression={compression!r}, signed={signed})"

    def encode(self, value: object, wire_key: bytes) -> bytes:
        """Return what is stored for ``value``.

        Raises `SerializationError` if it would not come back the same. ``wire_key`` is used only
        for a signature.
        """
        kind = type(value)
        try:
            if kind is str:
                raw = _TEXT + value.encode()  # type: ignore[attr-defined]
            elif kind is bytes:
                raw = _RAW + value  # type: ignore[operator]
            elif kind is int and _LOWEST <= value <= _HIGHEST:  # type: ignore[operator]
                return b"%d" % value  # type: ignore[str-format]
            else:
                raw = self._header + self._dumps(value)
                return raw if len(raw) <= self._direct else self._wrap(raw, wire_key)
            return raw if len(raw) <= self._direct_plain else self._wrap(raw, wire_key)
        except SerializationError as error:
            error.value = value
            raise
        except Exception as error:
            refused = SerializationError(f"a {kind.__qualname__} cannot be stored: {_named(error)}")
            refused.value = value
            raise refused from error

    def encode_many(self, values: list[Any], wire_keys: list[bytes]) -> list[bytes]:
        """Return `encode` of each value, in order, at a fraction of the cost."""
        return encode_plain(values, wire_keys, self._direct_plain, self.encode)

    def check_record(self, *, stale: bool, tags: bool, negative: bool) -> None:
        """Raise `InvalidArgument` if the format cannot hold this beside a value: here it can."""

    def check_result(self, function: object) -> None:
        """Raise `InvalidArgument` if the result type of ``function`` can surely not be stored."""
        kind = refused_result(function, self._allowed) if self._allowed else None
        if kind is not None:
            name = getattr(function, "__qualname__", repr(function))
            how = "safe" if self._header[0] == SAFE else "json"
            raise InvalidArgument(
                f"{name} returns a {kind.__qualname__}, which cannot be stored: "
                f"{list_ways_out(kind, how)}"
            )

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
        """Return what is stored for a ``value`` that was loaded; for other arguments see `Loaded`.

        Raises `SerializationError` as `encode` does, and `InvalidArgument` for what the format
        cannot hold.
        """
        if negative and type(value) is not str:
            raise InvalidArgument(
                f"a refusal is stored as its text, got a {type(value).__qualname__}"
            )
        raw = pack(grace_ms, delta_ms, tags, negative=negative) + self._unsigned.encode(
            value, wire_key
        )
        return self._signed(self._signer, raw, wire_key) if self._signer else raw

    def decode(self, raw: bytes, wire_key: bytes) -> object:
        """Return the value stored as ``raw``; raise `DamagedPayload` if it cannot be decoded.

        No other error is raised. A loaded value that has tags, or is a refusal, is returned as
        `Loaded`; nothing else is.
        """
        # What needs no signature: text, bytes and digits. Here nothing but bad UTF-8 can go wrong,
        # so what a signal handler raises meanwhile is not taken for it.
        head = raw[:1]
        if self._reads_plain:
            if head == _TEXT:
                try:
                    return raw[1:].decode()
                except UnicodeDecodeError as error:
                    raise _undecodable(raw, error) from error
            if head == _RAW:
                return raw[1:]
            if head < _RAW and self._foreign is _foreign and self._signer is None:
                return _foreign(raw)
        return self._decode_other(raw, wire_key, head)

    def _decode_other(self, raw: bytes, wire_key: bytes, head: bytes) -> object:
        """Do as `decode`, where a serializer, a signature or another program has a part in it."""
        try:
            # Without a key nothing needs a signature.
            if self._signer is None:
                if head < _RAW:
                    return self._foreign(raw)
                if head != _LOADED:
                    return self._open(raw)
            if (
                self._signer is not None
                and raw[:1] == _SIGNED
                and raw[_SIGNED_ENVELOPE : _SIGNED_ENVELOPE + 1] == _TEXT
            ):
                # Signed text: as below, with less around it.
                inner = raw[_SIGNED_ENVELOPE:]
                if self._signer.verify(wire_key, inner, raw[1:_SIGNED_ENVELOPE]):
                    return inner[1:].decode()
            record = self._record(raw, wire_key)
            return record if record.tags or record.negative else record.value
        except DamagedPayload:
            raise
        except Exception as error:
            raise _undecodable(raw, error) from error

    def decode_loaded(self, raw: bytes, wire_key: bytes) -> Loaded:
        """Return the value stored as ``raw`` with how it was loaded.

        A value stored by `encode` has grace and delta 0. Raises `DamagedPayload`, and nothing else.
        """
        try:
            return self._record(raw, wire_key)
        except DamagedPayload:
            raise
        except Exception as error:
            raise _undecodable(raw, error) from error

    def decode_many(
        self, raws: Sequence[bytes | None], wire_keys: Iterable[bytes], absent: object = None
    ) -> tuple[list[object], dict[int, DamagedPayload]]:
        """Decode the replies to many keys; one bad payload does not spoil the others.

        Return the values in order, with ``absent`` where the reply is None or damaged, and the
        errors of the damaged ones by position. It costs half as much per value as `decode`.
        """
        found, keys = list(raws), list(wire_keys)
        # Usually all are good: one loop, in which text, bytes and ints, the most frequent kinds,
        # have no call.
        if self._reads_plain:
            with suppress(DamagedPayload, UnicodeDecodeError):
                return decode_plain(found, keys, absent, self.decode), {}
        # With a signature, or after an error: one by one.
        values: list[object] = []
        damaged: dict[int, DamagedPayload] = {}
        for position, (raw, key) in enumerate(zip(found, keys, strict=True)):
            value = absent
            if raw is not None:
                try:
                    value = self.decode(raw, key)
                except DamagedPayload as error:
                    damaged[position] = error
            values.append(value)
        return values, damaged

    def _wrap(self, raw: bytes, wire_key: bytes) -> bytes:
        if len(raw) > self._max_value:
            raise SerializationError(
                f"the value takes {len(raw)} bytes; max_value allows {self._max_value}"
            )
        if self._compressor and len(raw) > self._min:
            packed = self._wrapper + self._compressor.compress(raw)
            if len(packed) < len(raw):
                raw = packed
        return self._signed(self._signer, raw, wire_key) if self._signer else raw

    @staticmethod
    def _signed(signer: Signer, raw: bytes, wire_key: bytes) -> bytes:
        return _SIGNED + signer.sign(wire_key, raw) + raw

    def _record(self, raw: bytes, wire_key: bytes) -> Loaded:
        """Decode anything, the signature checked first."""
        if self._signer is not None:
            if raw[:1] != _SIGNED:
                if self._reads_plain and raw[:1] in (_TEXT, _RAW):
                    return Loaded(self._open(raw))
                number = _foreign(raw)
                if type(number) is int:  # INCR writes it: a server cannot sign
                    return Loaded(number)
                raise DamagedPayload("the value is not signed, and signing_key is set")
            signature, raw = raw[1:_SIGNED_ENVELOPE], raw[_SIGNED_ENVELOPE:]
            if not self._signer.verify(wire_key, raw, signature):
                raise DamagedPayload("the signature does not match the key and the value")
            if raw[:1] != _LOADED:
                return Loaded(self._open(raw))
        elif raw[:1] != _LOADED:
            return Loaded(self.decode(raw, wire_key))
        at, grace, delta, tags, negative = unpack(raw)
        inner = raw[at:]
        value = self._open(inner) if inner[:1] >= _RAW else _foreign(inner)
        if type(value) is bytes and inner[:1] < _RAW:
            raise DamagedPayload("a loaded value holds neither a number nor an envelope")
        if negative and type(value) is not str:
            raise DamagedPayload("a remembered refusal is not text")
        return Loaded(value, grace, delta, tags, negative)

    def _open(self, raw: bytes) -> object:
        """Decode an envelope: a format, or one compressed; never a wrapper in a wrapper."""
        if raw and raw[0] in (ZLIB, ZSTD):
            unpack = Zlib() if raw[0] == ZLIB else zstd_or_damaged()
            raw = unpack.decompress(raw[1:], self._max_value)
        elif len(raw) > self._max_value:
            raise DamagedPayload(f"it has {len(raw)} bytes; max_value allows {self._max_value}")
        read = self._readers.get(raw[0]) if raw else None
        if read is None:
            _refuse_header(raw)
        return read(raw[1:])


def _choose(serializer: object, safe: Serializer, json: Serializer) -> tuple[int, Serializer]:
    if isinstance(serializer, str):
        if serializer == "safe":
            return SAFE, safe
        if serializer == "json":
            return JSON, json
        if serializer == "pickle":
            return PICKLE, PickleSerializer()
    elif isinstance(serializer, PickleSerializer):
        return PICKLE, serializer
    elif isinstance(serializer, Serializer) and not isinstance(serializer, type):
        return CUSTOM, _Custom(serializer)
    raise InvalidOption(
        "serializer must be 'safe', 'json', 'pickle', 'raw' or an object with dumps(value) and "
        "loads(bytes), got "
        + (
            f"{serializer!r:.80}"
            if isinstance(serializer, str)
            else f"a {type(serializer).__qualname__}"
        )
    )


class _Custom:
    """A caller's serializer, held to returning bytes."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Serializer) -> None:
        self._inner = inner

    def loads(self, data: bytes) -> object:
        return self._inner.loads(data)

    def dumps(self, value: object) -> bytes:
        data = self._inner.dumps(value)
        if type(data) is not bytes:
            raise SerializationError(
                f"the serializer's dumps must return bytes, got {type(data).__qualname__}"
            )
        return data


def _foreign(raw: bytes) -> object:
    """Return the int of canonical digits (what INCR leaves behind), or the bytes as they are."""
    if len(raw) <= _LONGEST_NUMBER:
        if raw.isdigit() and raw[0] != _ZERO and len(raw) < _LONGEST_NUMBER - 1:
            return int(raw)
        try:
            number = int(raw)
        except ValueError:
            return raw
        # int() also takes "007", "+1", "1_0" and blanks: another program's bytes, which must not
        # change.
        if b"%d" % number == raw and _LOWEST <= number <= _HIGHEST:
            return number
    return raw


def _reader_of_foreign(loads: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """Return what reads bytes without a header: digits as a number, the rest by the serializer."""

    def read(raw: bytes) -> object:
        found = _foreign(raw)
        return found if type(found) is int else loads(raw)

    return read


def _undecodable(raw: bytes, error: Exception) -> DamagedPayload:
    return DamagedPayload(f"a payload of {len(raw)} bytes does not decode: {_named(error)}")


def _refusal(reason: str) -> Callable[[bytes], NoReturn]:
    def read(_: bytes) -> NoReturn:
        raise DamagedPayload(reason)

    return read


def _refuse_header(raw: bytes) -> NoReturn:
    head = raw[0] if raw else None
    if head == SIGNED:
        raise DamagedPayload("the value is signed; without signing_key it cannot be checked")
    if head == LOADED:
        raise DamagedPayload("a loaded value stands inside of another wrapper than a signature")
    if head == NEXT_VERSION:
        raise DamagedPayload("the value is in a later version of the format")
    raise DamagedPayload(
        f"no format has the header {head:#04x}" if head is not None else "the envelope is empty"
    )


def _whole_number(name: str, value: object, lowest: int, highest: int) -> int:
    if type(value) is not int or not lowest <= value <= highest:
        raise InvalidOption(
            f"{name} must be a whole number of bytes from {lowest} to {highest}, got {value!r:.80}"
        )
    return value


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
