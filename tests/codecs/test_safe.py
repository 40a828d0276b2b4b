"""The serializer "safe": a value comes out equal and of the same type, or is refused."""

import datetime as dt
import enum
import struct
import tracemalloc
from collections import Counter, OrderedDict, defaultdict
from decimal import Decimal, localcontext
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo, available_timezones

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.codecs import Codec
from shardcache.codecs.safe import SAFE_TYPES
from shardcache.codecs.type_check import MAX_DEPTH
from shardcache.errors import DamagedPayload, SerializationError

CODEC = Codec()
KEY = b"k"
ZONES = sorted(
    {"America/New_York", "Asia/Kathmandu", "Europe/Berlin", "Etc/GMT+5", "UTC"}
    & available_timezones()
)
ALLOCATED_PER_BYTE = 160  # docs/wire-format.md says about 120: what a chain of dictionaries takes


def frozen(value):
    """Return a form of a value that is equal for two values only if nothing tells them apart."""
    kind = type(value)
    match value:
        case float():
            return kind, struct.pack(">d", value)
        case list() | tuple():
            return kind, [frozen(item) for item in value]
        case set() | frozenset():
            return kind, sorted(repr(frozen(item)) for item in value)
        case dict():
            return kind, [(frozen(key), frozen(item)) for key, item in value.items()]
        case dt.datetime():
            return kind, value.replace(tzinfo=None).isoformat(), value.fold, frozen(value.tzinfo)
        case dt.time():
            return kind, value.replace(tzinfo=None).isoformat(), value.fold, frozen(value.tzinfo)
        case dt.timezone():
            return kind, value.__getinitargs__()
        case ZoneInfo():
            return kind, value.key, id(value)
        case Decimal():
            return kind, value.as_tuple()
        case UUID():
            return kind, value.int, value.is_safe
        case _:
            return kind, value


def round_trip(value):
    return CODEC.decode(CODEC.encode(value, KEY), KEY)


offsets = st.timedeltas(
    min_value=dt.timedelta(hours=-23, minutes=-59), max_value=dt.timedelta(hours=23, minutes=59)
)
zones = st.one_of(
    st.none(),
    st.just(dt.UTC),
    st.builds(dt.timezone, offsets),
    st.builds(dt.timezone, offsets, st.text(max_size=8)),
    *([st.sampled_from(ZONES).map(ZoneInfo)] if ZONES else []),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.integers(min_value=0, max_value=2000).map(lambda bits: -(1 << bits)),
    st.floats(),
    st.text(),
    st.binary(),
    st.datetimes(timezones=zones, allow_imaginary=True),
    st.builds(
        lambda moment, fold: moment.replace(fold=fold),
        st.datetimes(timezones=zones),
        st.integers(0, 1),
    ),
    st.dates(),
    st.times(timezones=zones),
    st.timedeltas(),
    st.decimals(allow_nan=True),
    st.sampled_from(
        [Decimal("sNaN"), Decimal("-NaN123"), Decimal("1E+5"), Decimal("0E-30"), Decimal("-0.00")]
    ),
    st.uuids(),
    st.builds(UUID, int=st.integers(0, 2**128 - 1), is_safe=st.sampled_from(SafeUUID)),
)
# A signalling NaN cannot be hashed, by decision of the standard library.
hashable_scalars = scalars.filter(lambda value: not (type(value) is Decimal and value.is_snan()))
hashables = st.recursive(
    hashable_scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(tuple), st.frozensets(inner, max_size=4)
    ),
    max_leaves=6,
)
values = st.recursive(
    st.one_of(scalars, hashables),
    lambda inner: st.one_of(
        st.lists(inner, max_size=20),
        st.lists(inner, max_size=4).map(tuple),
        st.sets(hashables, max_size=4),
        st.dictionaries(hashables, inner, max_size=4),
    ),
    max_leaves=12,
)


@given(values)
def test_accepted_values_come_back_the_same(value):
    """Type, value, order, sign of zero, fold and time zone survive at every depth."""
    assert frozen(round_trip(value)) == frozen(value)


@given(st.recursive(st.one_of(st.integers(), st.text()), st.lists))
def test_plain_values_come_back_equal(value):
    """Where == has a meaning, it holds."""
    assert round_trip(value) == value


@pytest.mark.parametrize("size", [0, 1, 14, 15, 16, 31, 32, 255, 256, 65535, 65536])
@pytest.mark.parametrize("kind", [str, bytes, list, tuple, set, frozenset, dict])
def test_lengths_at_each_border_of_the_format_come_back(kind, size):
    """Every width of a length field is read as it was written."""
    items = {str: "x" * size, bytes: b"x" * size, dict: dict.fromkeys(range(size))}.get(
        kind
    ) or kind(range(size))
    if kind in (str, bytes) and not size:
        items = kind()
    assert frozen(round_trip([items])) == frozen([items])


@pytest.mark.parametrize("bits", [7, 8, 15, 16, 31, 32, 63, 64, 65, 1000, 100_000])
def test_ints_at_each_border_of_the_format_come_back(bits):
    """Ints of any size come back, alone and inside."""
    numbers = [sign * 2**bits + step for sign in (-1, 1) for step in (-1, 0, 1)]
    assert [round_trip(number) for number in numbers] == numbers
    assert round_trip(numbers) == numbers


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    pass


class Data(bytes):
    pass


class Many(list):
    pass


class Moment(dt.datetime):
    pass


class Zone(dt.tzinfo):
    def utcoffset(self, when):
        return dt.timedelta(0)


class Named(ZoneInfo):
    pass


class Point(NamedTuple):
    x: int
    y: int


STRANGERS = [
    bytearray(b"x"),
    memoryview(b"x"),
    msgpack.ExtType(1, b""),
    msgpack.Timestamp(1),
    object(),
    object,
    1j,
    range(3),
    Fraction(1, 3),
    Colour.RED,
    Text("x"),
    Data(b"x"),
    Many(),
    Moment(2020, 1, 1),
    Point(1, 2),
    OrderedDict(a=1),
    defaultdict(int),
    Counter("a"),
    MappingProxyType({}),
    Ellipsis,
    (item for item in ()),
    dt.datetime(2020, 1, 1, tzinfo=Zone()),
    dt.time(1, tzinfo=Zone()),
    dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(0), Text("x"))),
    dt.UTC,
    "\ud800",
]
strangers = st.sampled_from(STRANGERS)
places = st.lists(
    st.sampled_from(
        [
            lambda item: [1, item],
            lambda item: (item, "x"),
            lambda item: {"a": None, "b": item},
            lambda item: [(), {"x": [item]}],
        ]
    ),
    max_size=5,
)


@given(strangers, places)
def test_everything_else_is_refused_wherever_it_sits(stranger, wraps):
    """No other type gets in, least of all a subclass of one that is kept."""
    value = stranger
    for wrap in wraps:
        value = wrap(value)
    with pytest.raises(SerializationError):
        CODEC.encode(value, KEY)


@pytest.mark.parametrize(
    "wrap",
    [lambda key: {key: 1}, lambda key: {key}, lambda key: frozenset([key])],
    ids=["dict", "set", "frozenset"],
)
def test_strangers_are_refused_as_keys_and_elements(wrap):
    """A subclass is no more welcome as a key."""
    for key in (Colour.RED, Text("x"), Data(b"x"), Point(1, 2), (1, Colour.RED), "\ud800"):
        with pytest.raises(SerializationError):
            CODEC.encode(wrap(key), KEY)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, 2, 3, bytearray()]}, "value['a'][3]: bytearray"),
        ([({b"k": {Point(1, 2)}},)], "an element of value[0][0][b'k']: Point"),
        ({(1, Colour.RED): 2}, "a key of value[1]: Colour"),
        (["fine", "\ud800"], "value[1]: text that UTF-8 cannot encode"),
        ({"t": (dt.time(1, tzinfo=Zone()),)}, "value['t'][0]: its tzinfo"),
    ],
)
def test_refusal_names_the_place_and_the_type(value, path):
    """Who caches a large object is told which part of it is in the way."""
    with pytest.raises(SerializationError) as caught:
        CODEC.encode(value, KEY)
    assert str(caught.value).startswith(path)


def nested(depth, wrap):
    value = 1
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda inner: [inner], id="list"),
        pytest.param(lambda inner: (inner,), id="tuple"),
        pytest.param(lambda inner: {1: inner}, id="dict"),
        pytest.param(lambda inner: frozenset([inner]), id="frozenset"),
    ],
)
def test_depth_is_kept_up_to_the_limit_and_refused_beyond(wrap):
    """The documented depth works for every container, one more is an error at the write."""
    assert round_trip(nested(MAX_DEPTH, wrap)) == nested(MAX_DEPTH, wrap)
    with pytest.raises(SerializationError, match="deeper than 128"):
        CODEC.encode(nested(MAX_DEPTH + 1, wrap), KEY)


def test_value_that_contains_itself_is_refused():
    """A cycle ends with an error, not with the stack."""
    cycle = []
    cycle.append({"again": cycle})
    with pytest.raises(SerializationError, match="contains itself"):
        CODEC.encode(cycle, KEY)


def test_value_that_shared_parts_blow_up_is_refused_before_it_is_built():
    """Forty lists that hold each other twice are 2**40 items: that is noticed in time."""
    value = []
    for _ in range(40):
        value = [value, value]
    with pytest.raises(SerializationError, match="more than 100000 items"):
        Codec(max_value=100_000).encode(value, KEY)


@pytest.mark.skipif(not ZONES, reason="no time zone database here")
def test_zone_outside_the_cache_is_refused():
    """Such a zone would come back as another object, and zones are compared by identity."""
    for zone in (ZoneInfo.no_cache("UTC"), Named("UTC")):
        with pytest.raises(SerializationError):
            CODEC.encode([dt.datetime(2020, 1, 1, tzinfo=zone)], KEY)


def test_stored_form_does_not_depend_on_the_decimal_context():
    """A thread with a context of its own writes the same bytes."""
    expected = CODEC.encode([Decimal("1E+5")], KEY)
    with localcontext() as context:
        context.capitals, context.prec = 0, 1
        assert CODEC.encode([Decimal("1E+5")], KEY) == expected
        context.traps = dict.fromkeys(context.traps, False)
        with pytest.raises(DamagedPayload):
            CODEC.decode(b"\xf7\xc7\x07\x15garbage", KEY)


def test_decoding_gives_only_listed_types_for_an_extension_of_others():
    """The timestamp of msgpack, which we never write, is read as a datetime in UTC."""
    foreign = b"\xf7" + msgpack.packb(msgpack.Timestamp(1, 5000))
    assert frozen(CODEC.decode(foreign, KEY)) == frozen(dt.datetime(1970, 1, 1, 0, 0, 1, 5, dt.UTC))
    assert dt.datetime in SAFE_TYPES


MARK = b"\xc7\x00\x01"
LONG_KEY = b"\xd9\x20" + b"A" * 32


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xc1", id="the byte that msgpack never uses"),
        pytest.param(b"\x01\x01", id="bytes behind the value"),
        pytest.param(b"\x92\x01", id="an array cut off"),
        pytest.param(b"\xa2\xff\xff", id="text that is not UTF-8"),
        pytest.param(b"\x81\x90\x01", id="a list as a key"),
        pytest.param(b"\x92\xc7\x00\x02\x90", id="a list in a set"),
        pytest.param(MARK, id="a marker alone"),
        pytest.param(b"\x92\x01" + MARK, id="a marker behind another element"),
        pytest.param(b"\x92" + MARK + MARK, id="two markers in one array"),
        pytest.param(b"\x81" + MARK + b"\x01", id="a marker as a key"),
        pytest.param(b"\x81\x01" + MARK, id="a marker as an item"),
        pytest.param(b"\x91\xd4\x01\x00", id="a marker with data"),
        pytest.param(b"\xd4\x7f\x00", id="an unknown extension"),
        pytest.param(b"\xd6\x12\x00\x00\x01\x01", id="the year 0"),
        pytest.param(b"\xc7\x0c\x14\x7f\xff\xff\xff" + bytes(8), id="a duration out of range"),
        pytest.param(b"\xc7\x05\x15hello", id="a Decimal that is none"),
        pytest.param(b"\xd8\x16" + bytes(15), id="a UUID cut off"),
        pytest.param(
            b"\xc7\x15\x11\x07\xe4\x01\x01" + bytes(8) + b"F" + b"\x7f" * 8, id="an offset of years"
        ),
        pytest.param(
            b"\xc7\x16\x11\x07\xe4\x01\x01" + bytes(8) + b"Z../../etc",
            id="a zone outside the database",
        ),
        pytest.param(
            b"\xc7\x14\x11\x07\xe4\x01\x01" + bytes(8) + b"ZNowhere", id="a zone that is nowhere"
        ),
        pytest.param(b"\x91" * 5000 + b"\xc0", id="too deep"),
        pytest.param(b"\xc7\x0c\xff" + bytes(4) + b"\x7f" * 8, id="a timestamp out of range"),
    ],
)
def test_malformed_body_is_damaged(body):
    """Whatever is wrong inside has one name."""
    with pytest.raises(DamagedPayload):
        CODEC.decode(b"\xf7" + body, KEY)


def filled(head, filler, size=65536):
    body = head + filler * ((size - len(head)) // len(filler))
    return b"\xf7" + body


def array(count):
    return b"\xdd" + count.to_bytes(4, "big")


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(
            filled(array(65_000) * 1000, b"\xc0"), id="arrays that claim more than there is, nested"
        ),
        pytest.param(filled(b"\xdc\xff\xff" * 1000, b"\xc0"), id="the same with short headers"),
        pytest.param(filled(array(2**32 - 1), b"\xc0"), id="an array of four billion"),
        pytest.param(
            filled(b"\xdf\xff\xff\xff\xff" * 1000, b"\xc0"), id="maps of four billion, nested"
        ),
        pytest.param(filled(b"\xc6\xff\xff\xff\xff", b"x"), id="bytes of four gigabytes"),
        pytest.param(filled(b"\xc9\xff\xff\xff\xff\x10", b"x"), id="an int of four gigabytes"),
        pytest.param(filled(array(65_531), b"\x80"), id="empty maps"),
        pytest.param(filled(array(65_531), b"\x90"), id="empty arrays"),
        pytest.param(filled(array(65_531 // 4), b"\x91\xc7\x00\x02"), id="empty sets"),
        pytest.param(filled(array(65_531 // 3), b"\x81\xc0\x80"), id="maps in maps"),
        pytest.param(filled(array(31), b"\x81\xc0" * 1000 + b"\xc0"), id="chains of maps"),
        pytest.param(
            filled(array(4369), b"\xc7\x0c\x11\x07\xe4\x01\x01" + bytes(8)), id="datetimes"
        ),
    ],
)
def test_hostile_payload_cannot_make_it_allocate_without_bound(payload):
    """What decoding allocates is bounded by the payload's length, whatever lengths it claims."""
    # What is imported once is not its doing.
    CODEC.decode(CODEC.encode([dt.date(2020, 1, 1), (1,)], KEY), KEY)
    tracemalloc.start()
    try:
        value = CODEC.decode(payload, KEY)
    except DamagedPayload:
        value = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert value is None or type(value) is list
    assert peak < ALLOCATED_PER_BYTE * len(payload)


payloads = st.one_of(
    st.binary(),
    st.binary().map(lambda body: b"\xf7" + body),
    values.map(lambda value: CODEC.encode(value, KEY)),
    st.builds(
        lambda value, cut, junk, end: (
            (raw := CODEC.encode(value, KEY))[: (at := cut % len(raw))] + junk + raw[at + end :]
        ),
        values,
        st.integers(0, 10_000),
        st.binary(max_size=3),
        st.integers(0, 3),
    ),
)


@given(payloads)
def test_random_and_mutated_bytes_decode_or_are_damaged(raw):
    """Nothing but the library's own error ever comes out."""
    try:
        value = CODEC.decode(raw, KEY)
    except DamagedPayload:
        return
    assert type(value) in SAFE_TYPES
