"""Members of a set, or keys of a dict, whose hashes collide: bounded, so decoding is linear."""

import datetime as dt
import tracemalloc
from decimal import Decimal
from uuid import UUID

import msgpack
import pytest

from shardcache.codecs import Codec
from shardcache.codecs.collisions import MOST_ALIKE, check_hashes
from shardcache.codecs.scalars import pack_scalar
from shardcache.errors import DamagedPayload, SerializationError

KEY = b"k"
CODEC = Codec()
PRIME = 2**61 - 1  # ints, and what is hashed like them, collide modulo this one
SET, FROZENSET, TUPLE = (msgpack.ExtType(code, b"") for code in (2, 3, 1))


class Counted:
    """A member with a chosen hash, whose comparisons are counted."""

    comparisons = 0

    def __init__(self, hashed: int) -> None:
        self.hashed = hashed

    def __hash__(self) -> int:
        return self.hashed

    def __eq__(self, other: object) -> bool:
        type(self).comparisons += 1
        return self is other


def extended(value):
    return msgpack.ExtType(*pack_scalar(value))


ALIKE = {
    "int": lambda n: extended(n * PRIME),
    "UUID": lambda n: extended(UUID(int=n * PRIME)),
    "Decimal": lambda n: extended(Decimal(n * PRIME)),
    "tuple": lambda n: [TUPLE, extended(n * PRIME)],
    "frozenset": lambda n: [FROZENSET, extended(n * PRIME)],
    "nested": lambda n: [TUPLE, [TUPLE, [FROZENSET, extended(n * PRIME)]], "a"],
    "fixed": lambda n: msgpack.ExtType(0x10, (n * PRIME).to_bytes(16, "big")),
}


def hostile(kind, member, count):
    """Return the stored form of a container with this many members of one hash.

    It is what another program could write.
    """
    members = [member(n) for n in range(1, count + 1)]
    if kind == "dict":
        head = b"\xdf" + len(members).to_bytes(4, "big")
        return b"\xf7" + head + b"".join(msgpack.packb(one) + b"\xc0" for one in members)
    return b"\xf7" + msgpack.packb([SET if kind == "set" else FROZENSET, *members])


@pytest.mark.parametrize("kind", ["set", "frozenset", "dict"])
@pytest.mark.parametrize("member", ALIKE.values(), ids=ALIKE)
def test_too_many_members_of_one_hash_are_damage(kind, member):
    """207 kB of them took seconds; now they are refused before the first two are compared."""
    with pytest.raises(DamagedPayload, match="share one hash"):
        CODEC.decode(hostile(kind, member, MOST_ALIKE + 1), KEY)
    assert len(CODEC.decode(hostile(kind, member, MOST_ALIKE), KEY)) == MOST_ALIKE


@pytest.mark.parametrize(
    "around", [lambda raw: b"\x91" + raw, lambda raw: b"\x81\xa1a" + raw], ids=["list", "dict"]
)
def test_however_deep(around):
    """In a list, in a dict; with many others in front that are fine."""
    raw = hostile("dict", ALIKE["int"], MOST_ALIKE + 1)[1:]
    with pytest.raises(DamagedPayload):
        CODEC.decode(b"\xf7" + around(raw), KEY)


def test_nothing_is_compared():
    """The check looks at hashes alone."""
    Counted.comparisons = 0
    with pytest.raises(DamagedPayload):
        check_hashes([Counted(7) for _ in range(20_000)])
    check_hashes([Counted(n // MOST_ALIKE) for n in range(20_000)])
    assert Counted.comparisons == 0


def test_what_passes_takes_comparisons_in_proportion():
    """Building what has been checked compares each member with those of its own hash at most."""
    members = [Counted(n // MOST_ALIKE) for n in range(16 * MOST_ALIKE)]
    check_hashes(members)
    Counted.comparisons = 0
    assert len(set(members)) == len(members)
    assert Counted.comparisons <= len(members) * MOST_ALIKE


@pytest.mark.parametrize(
    "value",
    [
        {n: n for n in range(5000)},
        {float(n) for n in range(-2500, 2500)},
        {(n, f"{n}") for n in range(5000)},
        {UUID(int=n): dt.timedelta(n) for n in range(5000)},
        {Decimal(n) / 8: None for n in range(5000)},
        {2.0**n for n in range(-1000, 1000)},
        {f"{n}": dt.date.fromordinal(n + 1) for n in range(5000)},
        frozenset(frozenset({n}) for n in range(2000)),
        {n * PRIME for n in range(MOST_ALIKE)},
        [{"a": dt.timedelta(n), "b": [n]} for n in range(500)],
    ],
    ids=[
        "int",
        "float",
        "tuple",
        "UUID",
        "Decimal",
        "powers of two",
        "str",
        "frozenset",
        "as many as may be",
        "small",
    ],
)
def test_honest_members_come_back(value):
    """Large sets and dicts of every type of member."""
    back = CODEC.decode(CODEC.encode(value, KEY), KEY)
    assert (type(back), back) == (type(value), value)


@pytest.mark.parametrize(
    "value",
    [
        {n * PRIME for n in range(MOST_ALIKE + 1)},
        {"a": [{(n * PRIME,): n for n in range(MOST_ALIKE + 1)}]},
        (frozenset(Decimal(n * PRIME) for n in range(MOST_ALIKE + 1)),),
    ],
    ids=["set", "dict", "frozenset"],
)
def test_what_could_not_be_read_is_not_written(value):
    """Refused at the write, where somebody can do something about it."""
    with pytest.raises(SerializationError, match="share one hash"):
        CODEC.encode(value, KEY)


def test_what_a_large_dict_claims_is_not_set_aside():
    """Members are counted before memory is taken for them, whatever the headers claim."""
    header = b"\xdf" + (4000).to_bytes(4, "big") + b"\xd4\x10\x01"
    raw = b"\xf7" + header * 1000 + b"\xc0" * 100
    tracemalloc.start()
    with pytest.raises(DamagedPayload):
        CODEC.decode(raw, KEY)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 160 * len(raw)
