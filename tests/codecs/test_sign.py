"""Signatures: what was changed, moved or not signed at all is never opened."""

import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.codecs import Codec
from shardcache.errors import DamagedPayload, InvalidOption

KEY = b"shop:user:1"
SECRET, OTHER = b"0123456789abcdef", b"fedcba9876543210"
PLAIN, SIGNED = Codec(), Codec(signing_key=SECRET)


@given(
    value=st.one_of(st.text(st.characters(codec="utf-8")), st.lists(st.integers())),
    bit=st.integers(0),
)
def test_flipped_bit_never_verifies(value, bit):
    """Any change of a signed value is noticed."""
    codec = SIGNED
    raw = bytearray(codec.encode(value, KEY))
    at = bit % (8 * len(raw))
    raw[at // 8] ^= 1 << at % 8
    with pytest.raises(DamagedPayload):
        codec.decode(bytes(raw), KEY)


def test_value_moved_to_another_key_does_not_verify():
    """The key is signed with the value."""
    codec = SIGNED
    raw = codec.encode("admin", b"user:1")
    assert codec.decode(raw, b"user:1") == "admin"
    for key in (b"user:2", b"user:", b"user:1\xf6", b""):
        with pytest.raises(DamagedPayload, match="signature"):
            codec.decode(raw, key)


def test_border_between_key_and_value_is_signed():
    """Bytes cannot wander from the key into the value."""
    codec = SIGNED
    raw = codec.encode(b"", b"k\xf5")
    with pytest.raises(DamagedPayload, match="signature"):
        codec.decode(raw[:17] + b"\xf5\xf5", b"k")


def test_keys_are_rotated_by_putting_the_new_one_first():
    """Old values stay readable until the old key is taken out."""
    old, both, new = (Codec(signing_key=keys) for keys in (SECRET, [OTHER, SECRET], OTHER))
    assert both.decode(old.encode("v", KEY), KEY) == "v"
    assert new.decode(both.encode("v", KEY), KEY) == "v"
    with pytest.raises(DamagedPayload):
        new.decode(old.encode("v", KEY), KEY)


@given(raw=st.binary())
def test_unsigned_values_are_refused_except_numbers(raw):
    """With a key nothing is taken on trust but what INCR writes."""
    codec = SIGNED
    for payload in (raw, PLAIN.encode(raw, KEY), b"\xfd" + raw):
        try:
            value = codec.decode(payload, KEY)
        except DamagedPayload:
            continue
        assert (type(value), str(value).encode()) == (int, payload)


PARTLY = Codec("pickle", signing_key=SECRET, sign_plain=False, compression="zlib")


@given(value=st.one_of(st.text(st.characters(codec="utf-8")), st.binary(), st.integers()))
def test_plain_values_without_signature(value):
    """Without `sign_plain`, str, bytes and ints are as without a key; both forms are read."""
    signed = Codec("pickle", signing_key=SECRET).encode(value, KEY)
    plain = PARTLY.encode(value, KEY)
    if -(2**63) <= value < 2**63 if type(value) is int else len(value) < 200:
        assert plain == PLAIN.encode(value, KEY)
    raws = [signed, None, plain]
    assert PARTLY.decode_many(raws, [KEY] * 3) == ([value, None, value], {})
    assert [PARTLY.decode_loaded(raw, KEY).value for raw in (signed, plain)] == [value, value]


@given(raw=st.binary())
def test_without_sign_plain_nothing_unsigned_is_decoded(raw):
    """All that comes of bytes without a signature is text, bytes or a number."""
    for payload in (raw, PLAIN.encode([1], KEY), *(bytes([head]) + raw for head in range(256))):
        (value,), damaged = PARTLY.decode_many([payload], [KEY])
        if damaged:
            continue
        assert payload in (PLAIN.encode(value, KEY), b"%d" % value if type(value) is int else b"")


def test_what_is_wrapped_is_signed_without_sign_plain():
    """A value that is compressed or loaded has to be decoded, so it is signed."""
    assert PARTLY.encode("a" * 5000, KEY)[0] == PARTLY.encode_loaded("a", KEY)[0] == 0xFD
    for raw in (PLAIN.encode_loaded("a", KEY), Codec(compression="zlib").encode("a" * 5000, KEY)):
        with pytest.raises(DamagedPayload, match="not signed"):
            PARTLY.decode(raw, KEY)


def test_nothing_is_opened_before_the_signature_is_checked(monkeypatch):
    """Neither a decompression nor a decoder sees a byte that did not verify."""
    opened = []
    monkeypatch.setattr(Codec, "_open", lambda *args: opened.append(args))
    with pytest.raises(DamagedPayload, match="signature"):
        SIGNED.decode(b"\xfd" + bytes(16) + b"\xf61", KEY)
    assert opened == []


@pytest.mark.parametrize(
    "inner",
    [
        b"",
        b"5",
        b"\xfd" + bytes(17),
        b"\xfe",
        b"\xfb" + zlib.compress(b"\xfb" + zlib.compress(b"\xf6")),
    ],
)
def test_wrappers_have_one_order(inner):
    """Signed holds compressed holds a format, and never the other way round."""
    codec = SIGNED
    signature = codec._signer.sign(KEY, inner)
    with pytest.raises(DamagedPayload):
        codec.decode(b"\xfd" + signature + inner, KEY)


def test_secret_is_never_shown():
    """Neither the repr nor an error tells the key."""
    assert repr(SIGNED) == "Codec('safe', compression=None, signed=True)"
    with pytest.raises(InvalidOption) as caught:
        Codec(signing_key="secret")
    assert "secret" not in str(caught.value)


@given(
    values=st.lists(
        st.one_of(st.none(), st.text(st.characters(codec="utf-8")), st.binary(), st.integers()),
        max_size=8,
    ),
    bit=st.integers(0),
    codec=st.sampled_from([SIGNED, Codec(signing_key=[OTHER, SECRET]), Codec("pickle")]),
)
def test_many_are_what_each_is(values, bit, codec):
    """Many at once are decoded as one by one, damaged ones too."""
    keys = [b"k%d" % at for at in range(len(values))]
    raws = [SIGNED.encode(value, key) for value, key in zip(values, keys, strict=True)]
    if raws:  # one of them has a bit that is wrong
        broken = bytearray(raws[bit % len(raws)])
        broken[bit % len(broken)] ^= 1 << bit % 8
        raws[bit % len(raws)] = bytes(broken)
    found, damaged = codec.decode_many(raws, keys)
    for at, (raw, key) in enumerate(zip(raws, keys, strict=True)):
        if at in damaged:
            with pytest.raises(DamagedPayload, match=re.escape(str(damaged[at]))):
                codec.decode(raw, key)
        else:
            assert found[at] == codec.decode(raw, key)


def test_signed_bytes_that_are_no_text():
    """Whoever has the key can sign nonsense: it is damage, among many too."""
    raw = SIGNED._signed(SIGNED._signer, b"\xf6\xff", KEY)
    with pytest.raises(DamagedPayload):
        SIGNED.decode(raw, KEY)
    assert list(SIGNED.decode_many([raw], [KEY])[1]) == [0]
