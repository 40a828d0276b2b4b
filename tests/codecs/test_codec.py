"""The envelope: headers, numbers, foreign bytes, batches, and who may read what."""

import decimal
import pickle
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.codecs import Codec, RawCodec
from shardcache.errors import DamagedPayload, InvalidOption, SerializationError

KEY = b"shop:user:1"
SECRET, OTHER = b"0123456789abcdef", b"fedcba9876543210"
BIG = {"text": "abc" * 1000, "numbers": list(range(100))}
HEADERS = range(0xF5, 0x100)
PLAIN = Codec()


class Reversed:
    """A serializer of somebody's own."""

    def dumps(self, value):
        return repr(value)[::-1].encode()

    def loads(self, data):
        return decimal.Decimal(data.decode()[::-1])


class Broken:
    """A serializer that raises, or returns what is no bytes."""

    def dumps(self, value):
        if value == [1]:
            raise RecursionError("too deep")
        return "text"

    def loads(self, data):
        raise MemoryError


CODECS = {
    "safe": Codec(),
    "json": Codec("json"),
    "pickle": Codec("pickle"),
    "custom": Codec(Reversed()),
    "zlib": Codec(compression="zlib", compress_min=0),
    "signed": Codec(signing_key=SECRET),
    "signed and zlib": Codec(
        "json", compression="zlib", compress_min=0, signing_key=[SECRET, OTHER]
    ),
}
codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
jsonable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


# Text, bytes, numbers


@codecs
@given(
    value=st.one_of(
        st.text(st.characters(codec="utf-8")), st.binary(), st.integers(-(2**63), 2**63 - 1)
    )
)
def test_text_bytes_and_numbers_come_back_under_every_serializer(codec, value):
    """The everyday values do not depend on the serializer."""
    back = codec.decode(codec.encode(value, KEY), KEY)
    assert (type(back), back) == (type(value), value)


@codecs
@given(number=st.integers(-(2**63), 2**63 - 1))
def test_number_is_stored_as_the_digits_that_incr_counts(codec, number):
    """A server counts on it, and so can any other client."""
    assert codec.encode(number, KEY) == str(number).encode()


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
def test_number_beyond_64_bits_is_an_envelope(number):
    """INCR could not count it, so it is a value like others."""
    raw = PLAIN.encode(number, KEY)
    assert (raw[0], PLAIN.decode(raw, KEY)) == (0xF7, number)


def test_bool_is_no_number():
    """True comes back as True, not as 1."""
    assert [PLAIN.decode(PLAIN.encode(flag, KEY), KEY) for flag in (True, False)] == [True, False]
    assert PLAIN.encode(True, KEY) == b"\xf7\xc3"


@pytest.mark.parametrize(
    "raw",
    [
        *(
            b"007",
            b"+1",
            b"-0",
            b"00",
            b"-01",
            b"1_0",
            b" 1",
            b"1\n",
            b"-",
            b"",
            b"\x00",
            b"1.0",
            b"\x80\x04.",
        ),
        *(
            b"9223372036854775808",
            b"-9223372036854775809",
            b"1" * 5000,
            "é".encode(),
            b"{}",
            b"\x1f\x8b",
            b"\xc3",
        ),
    ],
)
def test_foreign_bytes_come_back_as_they_are(raw):
    """What another program wrote is not interpreted."""
    assert PLAIN.decode(raw, KEY) == raw


def test_foreign_bytes_are_refused_where_nobody_wants_them():
    """Without `read_foreign` only digits are read of what has no header."""
    codec = Codec(read_foreign=False)
    assert codec.decode(b"42", KEY) == 42
    assert codec.decode(codec.encode(b"!", KEY), KEY) == b"!"
    with pytest.raises(DamagedPayload, match="another program's"):
        codec.decode(b"!\x80\x05.", KEY)
    assert codec.decode_many([b"plain", b"7"], [KEY, KEY])[0] == [None, 7]
    with pytest.raises(InvalidOption, match="read_foreign must be left out"):
        RawCodec(read_foreign=False)


@given(st.binary().filter(lambda raw: raw[:1] < b"\xf5"))
def test_foreign_bytes_never_change(raw):
    """Bytes without a header are returned, or are the number that they spell exactly."""
    value = PLAIN.decode(raw, KEY)
    assert (value if type(value) is bytes else b"%d" % value) == raw


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_no_text_begins_with_a_header(text):
    """The header bytes are those that UTF-8 never uses."""
    assert text.encode()[0] not in HEADERS


@pytest.mark.parametrize(
    "subclass",
    [type("Text", (str,), {})("x"), type("Data", (bytes,), {})(b"x")],
    ids=["str", "bytes"],
)
def test_subclass_is_refused(subclass):
    """It would come back as its base."""
    for codec in (PLAIN, CODECS["json"]):
        with pytest.raises(SerializationError):
            codec.encode(subclass, KEY)


@pytest.mark.parametrize(
    "codec", [PLAIN, CODECS["json"], CODECS["signed"]], ids=["safe", "json", "signed"]
)
def test_lone_surrogate_is_refused(codec):
    """Text that UTF-8 cannot carry is an error at the write."""
    for value in ("\ud800", ["\ud800"], {"\ud800": 1}):
        with pytest.raises(SerializationError, match="surrogates not allowed"):
            codec.encode(value, KEY)


# JSON


@given(jsonable)
def test_json_comes_back_the_same(value):
    """What JSON takes, it gives back, down to the sign of zero."""
    codec = CODECS["json"]
    assert repr(codec.decode(codec.encode(value, KEY), KEY)) == repr(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param({"a": (1,)}, r"^value\['a'\]: tuple", id="tuple"),
        pytest.param({"a": {1: 2}}, r"^a key of value\['a'\]: int", id="key"),
        pytest.param([b"x"], r"^value\[0\]: bytes", id="bytes"),
        pytest.param([{"x": float("nan")}], r"^value\[0\]\['x'\]: ", id="nan"),
        pytest.param(float("-inf"), r"^value: ", id="infinity"),
        pytest.param({1, 2}, r"^value: set", id="set"),
        pytest.param([10**4300], "4300", id="digits"),
    ],
)
def test_json_refuses_what_would_come_back_changed(value, message):
    """JSON has no such thing, and nobody is given another in its stead."""
    with pytest.raises(SerializationError, match=message):
        CODECS["json"].encode(value, KEY)


def test_json_digits_do_not_depend_on_the_limit_of_this_process(monkeypatch):
    """A process without the limit writes and reads nothing beyond what a limited one can."""
    monkeypatch.setattr("sys.get_int_max_str_digits", lambda: 0)
    codec = CODECS["json"]
    assert codec.decode(codec.encode([1, "1" * 5000], KEY), KEY) == [1, "1" * 5000]
    with pytest.raises(DamagedPayload, match="4300 digits"):
        codec.decode(b"\xf8[" + b"1" * 4301 + b"]", KEY)


@pytest.mark.parametrize(
    "body", [b"NaN", b"[Infinity]", b"{", b"[1]]", b"\xff", b"[" * 100_000, b'"\\', b""]
)
def test_malformed_json_is_damaged(body):
    """Constants that JSON does not have, depth and cut-off text are all damage."""
    with pytest.raises(DamagedPayload):
        PLAIN.decode(b"\xf8" + body, KEY)


# Who reads what


def test_safe_and_json_are_read_by_everybody():
    """A fleet can change between them without losing its cache."""
    for writer in (PLAIN, CODECS["json"]):
        raw = writer.encode({"a": [1]}, KEY)
        assert [
            CODECS[name].decode(raw, KEY) for name in ("safe", "json", "pickle", "custom", "zlib")
        ] == [{"a": [1]}] * 5


def test_custom_payload_is_read_by_a_custom_serializer_only():
    """Nobody guesses at somebody's own format."""
    raw = CODECS["custom"].encode(decimal.Decimal(5).__int__() * 10**30, KEY)
    assert (raw[0], CODECS["custom"].decode(raw, KEY)) == (0xFA, decimal.Decimal(5 * 10**30))
    for name in ("safe", "json", "pickle"):
        with pytest.raises(DamagedPayload, match="custom serializer"):
            CODECS[name].decode(raw, KEY)


def test_custom_serializer_that_fails_is_reported():
    """Whatever somebody's serializer raises or returns, two errors are all that comes out."""
    codec = Codec(Broken())
    with pytest.raises(SerializationError, match="too deep"):
        codec.encode([1], KEY)
    with pytest.raises(SerializationError, match="must return bytes, got str"):
        codec.encode([2], KEY)
    with pytest.raises(DamagedPayload, match="MemoryError"):
        codec.decode(b"\xfa", KEY)


class Touch:
    """Unpickled, it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def wrapped(raw):
    """Every way in which a pickle could arrive."""
    signed = Codec(signing_key=SECRET)
    packed = b"\xfb" + zlib.compress(raw)
    return [
        raw,
        packed,
        b"\xfd" + bytes(16) + raw,
        b"\xfd" + bytes(16) + packed,
        raw[1:],
        signed.encode(raw, KEY),
    ]


def test_pickle_is_never_run_unless_asked_for(tmp_path):
    """No serializer but pickle unpickles; with a signing key pickle needs a signature."""
    target = tmp_path / "executed"
    raw = b"\xf9" + pickle.dumps(Touch(target))
    readers = [
        Codec(),
        Codec("json"),
        Codec(Reversed()),
        Codec(signing_key=SECRET),
        Codec("pickle", signing_key=OTHER),
    ]
    for reader in readers:
        for payload in wrapped(raw):
            try:
                value = reader.decode(payload, KEY)
            except DamagedPayload:
                continue
            assert type(value) is bytes
    assert not target.exists()
    Codec("pickle").decode(raw, KEY)
    assert target.exists()  # or the test above proves nothing


def test_pickle_header_is_named_in_the_error():
    """Who turned the serializer off again learns why the values are gone."""
    with pytest.raises(DamagedPayload, match="only serializer='pickle' reads it"):
        PLAIN.decode(CODECS["pickle"].encode({1j}, KEY), KEY)


def test_pickle_errors_are_the_librarys_own():
    """What cannot be pickled or unpickled has the same two names."""
    codec = CODECS["pickle"]
    assert codec.decode(codec.encode([1j, (1,)], KEY), KEY) == [1j, (1,)]
    with pytest.raises(SerializationError):
        codec.encode(lambda: None, KEY)
    for body in (b"", b"\x80\x05", b"\x80\x05.", codec.encode([1], KEY)[1:] + b"junk"):
        with pytest.raises(DamagedPayload):
            codec.decode(b"\xf9" + body, KEY)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(b"\xfe1", "later version"), (b"\xff1", "cut off"), (b"\xfd" + bytes(20), "signing_key")],
)
def test_reserved_and_unreadable_headers_are_damaged(raw, reason):
    """A value of a later version is never mistaken for bytes."""
    with pytest.raises(DamagedPayload, match=reason):
        PLAIN.decode(raw, KEY)


@codecs
@given(
    raw=st.one_of(
        st.binary(),
        st.builds(lambda head, body: bytes([head]) + body, st.sampled_from(HEADERS), st.binary()),
    )
)
def test_random_bytes_decode_or_are_damaged(codec, raw):
    """Only the library's own error comes out, whatever stands in the server."""
    if codec is CODECS["pickle"] and b"\xf9" in raw:
        return  # who asks for pickle has random bytes executed: that is what signing_key is for
    with suppress(DamagedPayload):
        codec.decode(raw, KEY)


@codecs
@given(at=st.integers(0), junk=st.binary(max_size=3), gone=st.integers(0, 3))
def test_mutated_values_decode_or_are_damaged(codec, at, junk, gone):
    """The same for what was once a value."""
    if codec in (CODECS["pickle"], CODECS["custom"]):
        codec = PLAIN
    raw = codec.encode(BIG, KEY)
    at %= len(raw)
    with suppress(DamagedPayload):
        codec.decode(raw[:at] + junk + raw[at + gone :], KEY)


# Sizes, options, batches


def test_value_over_the_bound_is_refused():
    """The bound counts before compression, so that every reader can read what was written."""
    for codec in (
        Codec(max_value=100),
        Codec(max_value=100, compression="zlib"),
        Codec(max_value=100, signing_key=SECRET),
    ):
        assert codec.decode(codec.encode("x" * 99, KEY), KEY) == "x" * 99
        with pytest.raises(SerializationError, match="101 bytes; max_value allows 100"):
            codec.encode("x" * 100, KEY)
    with pytest.raises(DamagedPayload, match="max_value allows 100"):
        Codec(max_value=100).decode(PLAIN.encode(["x" * 100], KEY), KEY)


@pytest.mark.parametrize(
    "options",
    [
        *({"serializer": bad} for bad in ("yaml", None, 5, object, Reversed, b"safe")),
        *({"compression": bad} for bad in ("gzip", True, 5)),
        *({"compress_min": bad} for bad in (-1, 1.5, True, "1")),
        *({"max_value": bad} for bad in (0, 63, 2**30, 1e6, None, False)),
        *(
            {"signing_key": bad}
            for bad in ("", b"short", 5, [], (), [b"short"], [5], "\ud800" * 20, {SECRET})
        ),
    ],
    ids=repr,
)
def test_wrong_option_is_refused(options):
    """What cannot be is said at construction, with what is allowed."""
    with pytest.raises(InvalidOption):
        Codec(**options)


MIXED = ["text", b"bytes", 5, None, [1, (2,)], "x" * 2000, {"a": 1}]


@codecs
def test_batches_are_what_single_calls_are(codec):
    """The fast form for many keys gives the same values, in order."""
    values = [v for v in MIXED if codec is not CODECS["custom"] or type(v) in (str, bytes, int)]
    if codec is CODECS["signed and zlib"]:
        values.remove([1, (2,)])
    values = [value for value in values if codec is not CODECS["json"] or value != [1, (2,)]]
    keys = [b"k%d" % n for n in range(len(values))]
    raws = [codec.encode(value, key) for value, key in zip(values, keys, strict=True)]
    assert codec.decode_many([None, *raws], [b"absent", *keys], absent=...) == ([..., *values], {})


def test_damaged_value_spoils_no_other_in_a_batch():
    """The others are returned, and the damaged one is named by its place."""
    raws = [PLAIN.encode("a", KEY), b"\xf6\xff", None, b"\xfe", PLAIN.encode("b", KEY), b""]
    values, damaged = PLAIN.decode_many(raws, [KEY] * 6, absent=...)
    assert values == ["a", ..., ..., ..., "b", b""]
    assert {at: type(error) for at, error in damaged.items()} == {
        1: DamagedPayload,
        3: DamagedPayload,
    }


def test_batch_of_nothing_is_nothing():
    """Empty in, empty out."""
    assert PLAIN.decode_many([], []) == ([], {})
