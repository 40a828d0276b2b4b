"""The loops over keys, interpreted and compiled: each does what its simple model does."""

import os
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from types import FunctionType, ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmh3 import mmh3_32_uintdigest

from shardcache import per_key
from shardcache.codecs import Codec
from shardcache.errors import DamagedPayload
from shardcache.keys import INTERNAL, MAX_KEY
from shardcache.per_key import loops
from shardcache.wire import pack, pack_all


def interpreted() -> ModuleType:
    """Return the source as a module that no compiled twin takes the place of."""
    spec = spec_from_file_location("interpreted_loops", loops.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PURE = interpreted()
try:
    COMPILED: ModuleType | None = import_module("shardcache.per_key._compiled")
except ImportError:
    COMPILED = None

each = pytest.mark.parametrize(
    "code",
    [
        pytest.param(PURE, id="pure"),
        pytest.param(
            COMPILED,
            id="compiled",
            marks=pytest.mark.skipif(COMPILED is None, reason="built without a compiler"),
        ),
    ],
)
codec = Codec()
# Short ones, braces, what marks the library's own keys, no UTF-8, long ones.
texts = st.one_of(
    st.text(max_size=12),
    st.text("{}@:ab\0", max_size=12),
    st.sampled_from([INTERNAL.decode(), "shardcache:", "@", "\ud800", "k" * 300, "k" * MAX_KEY]),
)
wires = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=12),
        st.text("{}ab", min_size=1, max_size=6).map(str.encode),
        st.sampled_from([b"k" * 255, b"k" * 256, b"k" * 70_000]),
    ),
    min_size=1,
    max_size=8,
)


def test_the_twin_that_was_asked_for_runs() -> None:
    """Under tox: the compiled one in the environment of that name, else the pure one."""
    wanted = os.environ.get("SHARDCACHE_EXPECT_COMPILED")
    pure = os.environ.get("SHARDCACHE_PURE", "0") not in {"", "0"}
    if wanted is not None:
        assert per_key.COMPILED is (wanted == "1")
    assert per_key.COMPILED is (COMPILED is not None and not pure)
    assert per_key.put is (COMPILED.put if per_key.COMPILED and COMPILED else loops.put)
    assert type(PURE.put) is FunctionType


@each
@given(keys=st.lists(st.one_of(texts, st.binary(max_size=3), st.none()), max_size=5))
def test_encode_keys(code: ModuleType, keys: list[Any]) -> None:
    """The encoded keys behind the prefix; None as soon as one is no plain text, or is refused."""
    found = code.encode_keys(keys, b"ns:", INTERNAL, MAX_KEY)
    odd = [
        key
        for key in keys
        if type(key) is not str
        or not key
        or "\ud800" in key
        or INTERNAL.decode() in key
        or len(key.encode()) > MAX_KEY - 3
    ]
    if found is None:
        # What lies across two keys may be taken for the text that no key may contain.
        assert odd or INTERNAL in b"ns:" + b"ns:".join(key.encode() for key in keys)
    else:
        assert not odd
        assert found == [b"ns:" + key.encode() for key in keys]


class Text(str):
    """A subclass is no plain text: its methods may do anything."""


@each
def test_a_subclass_gets_a_closer_look(code: ModuleType) -> None:
    """Only exact texts are encoded here."""
    assert code.encode_keys([Text("a")], b"", INTERNAL, MAX_KEY) is None


@each
@given(keys=wires)
def test_owners_and_positions(code: ModuleType, keys: list[bytes]) -> None:
    """The table's entry for the hash of the tag; each position under its owner, in order."""
    table = bytes(range(256))
    owners = code.ring_owners(keys, table, 24)
    assert owners == [table[mmh3_32_uintdigest(PURE.hash_tag(key)) >> 24] for key in keys]
    groups = code.positions_of(owners)
    assert list(groups) == list(dict.fromkeys(owners))
    assert {at: owner for owner, ats in groups.items() for at in ats} == dict(enumerate(owners))
    assert all(ats == sorted(ats) for ats in groups.values())


@each
@given(key=st.text("{}ab", max_size=8).map(str.encode))
def test_hash_tag(code: ModuleType, key: bytes) -> None:
    """As Redis' rule has it: the first brace, up to the next closing one, if that is not empty."""
    _, opened, rest = key.partition(b"{")
    tag, closed, _ = rest.partition(b"}")
    assert code.hash_tag(key) == (tag if opened and closed and tag else key)


@each
@given(keys=wires)
def test_many_gets(code: ModuleType, keys: list[bytes]) -> None:
    """A GET or PTTL for each key, short or long, as hiredis makes it."""
    assert code.pack_gets(keys) == pack_all([(b"GET", key) for key in keys])
    assert code.pack_ttls(keys) == pack_all([(b"PTTL", key) for key in keys])
    assert code.pack_ttls([]) == b""


@each
@given(keys=wires, data=st.data())
def test_commands(code: ModuleType, keys: list[bytes], data: st.DataObject) -> None:
    """One command of some keys, and its bytes as hiredis makes them."""
    positions = data.draw(st.lists(st.integers(0, len(keys) - 1), min_size=1))
    command = code.command_of(b"MGET", keys, positions)
    assert command == (b"MGET", *[keys[at] for at in positions])
    assert code.pack_command(command) == pack(command)


@each
@given(keys=wires, life=st.sampled_from([None, b"1", b"300000"]), data=st.data())
def test_many_sets(
    code: ModuleType, keys: list[bytes], life: bytes | None, data: st.DataObject
) -> None:
    """A SET for each position, with its ttl if there is one, as hiredis makes it."""
    sizes = st.sampled_from([0, 1, 9, 255, 256, 70_000])
    values = [bytes(data.draw(sizes)) for _ in keys]
    positions = data.draw(st.permutations(range(len(keys))))
    end = () if life is None else (b"PX", life)
    expected = pack_all([(b"SET", keys[at], values[at], *end) for at in positions])
    assert code.pack_sets(keys, values, positions, life) == expected


@each
@given(keys=wires)
def test_fill_tokens(code: ModuleType, keys: list[bytes]) -> None:
    """The wire key as a hash tag; None as soon as there is a brace in one."""
    found = code.fill_tokens(keys, b"start{")
    braces = any(b"}" in key for key in keys)
    assert found == (None if braces else [b"start{" + key + b"}" for key in keys])


@each
@given(replies=st.lists(st.sampled_from([None, b"", b"x", 1, "x", []])))
def test_count_absent(code: ModuleType, replies: list[Any]) -> None:
    """How many are None; -1 if one is neither None nor bytes."""
    plain = all(reply is None or type(reply) is bytes for reply in replies)
    assert code.count_absent(replies) == (replies.count(None) if plain else -1)


@each
@given(values=st.lists(st.integers()), data=st.data())
def test_put(code: ModuleType, values: list[int], data: st.DataObject) -> None:
    """Each value stands in its place; another number of places is refused."""
    places = data.draw(st.permutations(range(len(values))))
    into: list[Any] = [None] * len(values)
    code.put(into, places, values)
    assert [into[place] for place in places] == values
    with pytest.raises(ValueError, match="places"):
        code.put(into, [*places, 0], values)


stored = st.one_of(
    st.none(),
    st.binary(max_size=24),
    st.integers(-(10**20), 10**20).map(lambda number: b"%d" % number),
    st.sampled_from([b"", b"0", b"00", b"007", b"-1", b"1" * 18, b"1" * 19, b"\xf6\xff", b"\xf5"]),
    st.text(max_size=8).map(lambda text: b"\xf6" + text.encode()),
    st.binary(max_size=8).map(lambda data: b"\xf5" + data),
    st.lists(st.integers()).map(lambda value: codec.encode(value, b"k")),
)


@each
@given(raws=st.lists(stored, max_size=6))
def test_decode_plain(code: ModuleType, raws: list[bytes | None]) -> None:
    """What the codec makes of each; damaged bytes of any kind are one of two errors."""
    keys = [b"k"] * len(raws)
    try:
        expected = [... if raw is None else codec.decode(raw, b"k") for raw in raws]
    except DamagedPayload:
        with pytest.raises((DamagedPayload, UnicodeDecodeError)):
            code.decode_plain(raws, keys, ..., codec.decode)
    else:
        found = code.decode_plain(raws, keys, ..., codec.decode)
        assert found == expected
        assert list(map(type, found)) == list(map(type, expected))


@each
@given(
    values=st.lists(
        st.one_of(
            st.text(max_size=9),
            st.binary(max_size=9),
            st.integers(-(2**65), 2**65),
            st.booleans(),
            st.sampled_from([2**63, 2**63 - 1, -(2**63), -(2**63) - 1, Text("x"), None, 1.5]),
        ),
        max_size=5,
    ),
    most=st.sampled_from([-1, 0, 5, 100]),
)
def test_encode_plain(code: ModuleType, values: list[Any], most: int) -> None:
    """What the codec makes of each value, which is asked for what is longer or of another type."""
    asked: list[Any] = []

    def encode(value: Any, _: bytes) -> bytes:
        asked.append(value)
        return b"asked"

    found = code.encode_plain(values, [b"k"] * len(values), most, encode)
    for value, raw in zip(values, found, strict=True):
        if raw != b"asked":
            assert raw == codec.encode(value, b"k")
            assert type(value) is int or len(raw) <= most
    others = [value for value in values if type(value) not in {str, bytes, int}]
    assert [value for value in asked if type(value) not in {str, bytes, int}] == others
    with pytest.raises(ValueError, match="keys"):
        code.encode_plain(values, [b"k"] * (len(values) + 1), most, encode)


@each
def test_lone_surrogates_go_to_the_codec(code: ModuleType) -> None:
    """It names the error, and the caller gets that one."""
    with pytest.raises(ZeroDivisionError):
        code.encode_plain(["\ud800"], [b"k"], 100, lambda _value, _key: b"%d" % (1 // 0))
