"""Loaded values: what stands before the value comes back, and damage is always noticed."""

import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.codecs import Codec, Loaded
from shardcache.codecs.load_record import VERSION_SIZE, pack, refusal_text, unpack
from shardcache.errors import DamagedPayload, InvalidArgument, NegativeHit, SerializationError

KEY = b"shop:user:1"
SECRET, OTHER = b"0123456789abcdef", b"fedcba9876543210"
CODECS = {
    "safe": Codec(),
    "json": Codec("json"),
    "pickle": Codec("pickle"),
    "zlib": Codec(compression="zlib", compress_min=0),
    "signed": Codec(signing_key=SECRET),
    "signed and zlib": Codec(compression="zlib", compress_min=0, signing_key=[SECRET, OTHER]),
}
PLAIN, SIGNED = CODECS["safe"], CODECS["signed"]
codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
VERSION = bytes(range(VERSION_SIZE))

texts = st.text(st.characters(codec="utf-8"))
values = st.one_of(
    st.none(), st.booleans(), texts, st.integers(-(2**70), 2**70), st.lists(st.integers() | texts)
)
tag_lists = st.lists(
    st.tuples(st.binary(min_size=1, max_size=40), st.binary(min_size=16, max_size=16)), max_size=5
)
graces, deltas = st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)


@codecs
@given(value=values, grace=graces, delta=deltas, tags=tag_lists.map(tuple))
def test_everything_comes_back(codec, value, grace, delta, tags):
    """Value, grace, delta and tags come back; `decode` gives the bare value without tags."""
    raw = codec.encode_loaded(value, KEY, grace_ms=grace, delta_ms=delta, tags=tags)
    record = Loaded(value, grace, delta, tags)
    assert repr(codec.decode_loaded(raw, KEY)) == repr(record)
    assert repr(codec.decode(raw, KEY)) == repr(record if tags else value)


@codecs
@given(value=values)
def test_value_stored_by_set_is_a_record_too(codec, value):
    """Without a header of its own it has no grace, no delta, no tags."""
    assert repr(codec.decode_loaded(codec.encode(value, KEY), KEY)) == repr(Loaded(value))


def test_foreign_bytes_are_a_record_too():
    """What another program wrote is a value here as it is for `decode`."""
    assert PLAIN.decode_loaded(b"hello", KEY) == Loaded(b"hello")


@pytest.mark.parametrize(
    "fields", [{"tags": [(b"t", VERSION)]}, {"negative": True}], ids=["tagged", "negative"]
)
@codecs
def test_what_is_no_value_yet_is_a_record(codec, fields):
    """A plain get sees by the class alone that there is something to check."""
    decoded = codec.decode(codec.encode_loaded("x\ny", KEY, **fields), KEY)
    assert type(decoded) is Loaded


@given(
    grace=graces, delta=deltas, tags=tag_lists, negative=st.booleans(), rest=st.binary(max_size=40)
)
def test_header_unpacks_to_what_was_packed(grace, delta, tags, negative, rest):
    """Whatever follows, the header ends where it ends."""
    header = pack(grace, delta, tags, negative=negative)
    assert unpack(header + rest) == (len(header), grace, delta, tuple(tags), negative)


@given(grace=graces, delta=deltas, tags=tag_lists, negative=st.booleans(), cut=st.integers(0))
def test_header_cut_anywhere_is_damaged(grace, delta, tags, negative, cut):
    """No part of a header passes for a whole one."""
    header = pack(grace, delta, tags, negative=negative)
    with pytest.raises(DamagedPayload):
        unpack(header[: cut % len(header)])


@given(raw=st.binary(max_size=200).map(lambda body: b"\xff" + body))
def test_what_unpacks_packs_again_to_the_same_bytes(raw):
    """There is one way to write a header, so nothing in it can be read in two ways."""
    with suppress(DamagedPayload):
        at, grace, delta, tags, negative = unpack(raw)
        assert pack(grace, delta, tags, negative=negative) == raw[:at]


@codecs
@given(body=st.binary(max_size=100), plausible=st.booleans(), count=st.integers(0, 2))
def test_random_bytes_are_a_record_or_damaged(codec, body, plausible, count):
    """Only the library's own error comes out, whatever stands behind the header byte."""
    if codec is CODECS["pickle"]:
        return  # who asks for pickle has random bytes executed: that is what signing_key is for
    raw = b"\xff\x00" + bytes(12) + bytes([count]) + body if plausible else b"\xff" + body
    for decode in (codec.decode, codec.decode_loaded):
        with suppress(DamagedPayload):
            decode(raw, KEY)


@codecs
@given(at=st.integers(0), junk=st.binary(max_size=3), gone=st.integers(0, 3))
def test_mutated_records_are_records_or_damaged(codec, at, junk, gone):
    """The same for what was once a record; under a signature any change at all is noticed."""
    if codec is CODECS["pickle"]:
        codec = PLAIN
    raw = codec.encode_loaded(["abc" * 20], KEY, grace_ms=5, tags=[(b"tag", VERSION)])
    at %= len(raw)
    changed = raw[:at] + junk + raw[at + gone :]
    with suppress(DamagedPayload):
        record = codec.decode_loaded(changed, KEY)
        assert (
            codec not in (SIGNED, CODECS["signed and zlib"])
            or changed == raw
            or type(record.value) is int
        )


def test_order_of_the_wrappers():
    """Signed stands around loaded, loaded around compressed."""
    raw = CODECS["signed and zlib"].encode_loaded("a" * 100, KEY, grace_ms=1)
    loaded = raw[17:]
    assert (raw[0], loaded[0], loaded[15]) == (0xFD, 0xFF, 0xFB)
    assert zlib.decompress(loaded[16:]) == b"\xf6" + b"a" * 100


def test_signature_covers_header_and_key():
    """Neither a longer grace nor another key passes, and an unsigned record does not either."""
    raw = SIGNED.encode_loaded("a", KEY, grace_ms=1)
    longer = SIGNED.encode_loaded("a", KEY, grace_ms=2)
    forged = raw[:17] + longer[17:]
    for payload, key in (
        (forged, KEY),
        (raw, b"shop:user:2"),
        (PLAIN.encode_loaded("a", KEY), KEY),
    ):
        for decode in (SIGNED.decode, SIGNED.decode_loaded):
            with pytest.raises(DamagedPayload):
                decode(payload, key)
    with pytest.raises(DamagedPayload, match="signing_key"):
        PLAIN.decode(raw, KEY)


def test_number_that_a_server_counted_is_read_by_a_client_that_signs():
    """INCR cannot sign, so bare digits pass; digits inside of a record need a signature."""
    assert SIGNED.decode_loaded(b"42", KEY) == Loaded(42)
    with pytest.raises(DamagedPayload):
        SIGNED.decode_loaded(PLAIN.encode_loaded(42, KEY), KEY)


def test_bound_is_that_of_the_value():
    """What may be set may be loaded: the header does not count."""
    for codec in (Codec(max_value=100), Codec(max_value=100, signing_key=SECRET)):
        value = "x" * 99
        raw = codec.encode_loaded(value, KEY, tags=[(b"t" * 200, VERSION)])
        assert codec.decode_loaded(raw, KEY).value == value
        with pytest.raises(SerializationError, match="101 bytes; max_value allows 100"):
            codec.encode_loaded(value + "x", KEY)
    with pytest.raises(DamagedPayload, match="max_value allows 100"):
        Codec(max_value=100).decode(PLAIN.encode_loaded("x" * 100, KEY), KEY)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"grace_ms": bad} for bad in (-1, 2**64, 1.0, True, None)),
        *({"delta_ms": bad} for bad in (-1, 1.0, False, None)),
        *(
            {"tags": [bad]}
            for bad in ((b"", VERSION), ("t", VERSION), (b"t", b"short"), (b"t" * 65536, VERSION))
        ),
        {"tags": [(b"t", VERSION)] * 256},
    ],
    ids=lambda wrong: f"{wrong!r:.40}",
)
def test_field_without_room_is_refused(wrong):
    """What the format cannot hold is refused before it is sent."""
    with pytest.raises(InvalidArgument):
        PLAIN.encode_loaded("x", KEY, **wrong)


def test_refusal_must_be_text():
    """Every reader can read it then, whatever serializer it has."""
    with pytest.raises(InvalidArgument, match="got a dict"):
        PLAIN.encode_loaded({}, KEY, negative=True)


def test_long_delta_is_cut():
    """A loader that took years has taken 49 days."""
    assert (
        PLAIN.decode_loaded(PLAIN.encode_loaded("x", KEY, delta_ms=2**40), KEY).delta == 2**32 - 1
    )


def test_largest_tags_come_back():
    """255 tags, and a name of 65535 bytes."""
    tags = ((b"t" * 65535, VERSION), *((b"%d" % n, VERSION) for n in range(254)))
    assert PLAIN.decode_loaded(PLAIN.encode_loaded("x", KEY, tags=tags), KEY).tags == tags


class Unspeakable(Exception):
    """An error that cannot say what it is."""

    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(LookupError("no\nsuch user"), ("LookupError", "no\nsuch user"), id="builtin"),
        pytest.param(
            SerializationError("x"), ("shardcache.errors.SerializationError", "x"), id="of a module"
        ),
        pytest.param(ValueError("\ud800"), ("ValueError", "\\ud800"), id="surrogate"),
        pytest.param(ValueError("x" * 10_000), ("ValueError", "x" * 500), id="long"),
        pytest.param(Unspeakable(), (f"{__name__}.Unspeakable", ""), id="unspeakable"),
    ],
)
@codecs
def test_refusal_comes_back_as_an_error(codec, error, expected):
    """Who meets the remembered refusal learns which error it was, and what it said."""
    raw = codec.encode_loaded(refusal_text(error), KEY, negative=True)
    hit = codec.decode(raw, KEY).refusal()
    assert (type(hit), hit.error_type, hit.error_text) == (NegativeHit, *expected)


def test_batch_gives_records_where_decode_does():
    """The fast form for many keys does not differ."""
    raws = [
        PLAIN.encode_loaded("a", KEY),
        PLAIN.encode_loaded("b", KEY, tags=[(b"t", VERSION)]),
        b"\xff",
        PLAIN.encode("c", KEY),
    ]
    values, damaged = PLAIN.decode_many(raws, [KEY] * 4)
    assert values == ["a", Loaded("b", tags=((b"t", VERSION),)), None, "c"]
    assert list(damaged) == [2]
