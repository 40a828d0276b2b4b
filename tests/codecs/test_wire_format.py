"""The wire format's document and vectors say what the code does."""

import ast
import datetime as dt
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo, available_timezones

import pytest

from shardcache import ValueType
from shardcache.codecs import Codec, Loaded, scalars
from shardcache.codecs import codec as envelope
from shardcache.codecs.compress import find_zstd
from shardcache.codecs.safe import _MARKED
from shardcache.errors import DamagedPayload
from shardcache.flows.lock import LockKeys
from shardcache.flows.lock.lock_plan import load_register_key, register_key
from shardcache.keys import KeySpace

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "wire-format.md").read_text(encoding="utf-8")
VECTORS = json.loads((TESTS / "vectors" / "values.json").read_text(encoding="utf-8"))
KEY = VECTORS["wire_key"].encode()


class Colour(Enum):
    RED = "r"


class Access(Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: Any
    y: Any


class Pair(NamedTuple):
    left: Any
    right: Any


TYPES = [
    *(ValueType(kind.__name__.lower(), kind) for kind in (Colour, Access, Point, Pair)),
    ValueType(
        "fraction",
        Fraction,
        lambda one: (one.numerator, one.denominator),
        lambda two: Fraction(*two),
    ),
]
NAMES = {
    **{one.kind.__name__: one.kind for one in TYPES},
    **{name: getattr(dt, name) for name in ("date", "datetime", "time", "timedelta", "timezone")},
    "Decimal": Decimal,
    "UUID": UUID,
    "SafeUUID": SafeUUID,
    "ZoneInfo": ZoneInfo,
}
EXAMPLES = re.findall(r"^\| `(.+)` \| `((?:[0-9a-f]{2} ?)+)` \|$", PAGE, re.MULTILINE)
HEADERS = re.findall(r"^\| `0x(F[0-9A-F])` \| ([A-Z_]+) \|", PAGE, re.MULTILINE)
OWN_KEYS = json.loads((TESTS / "vectors" / "keys.json").read_text(encoding="utf-8"))
KEY_EXAMPLES = re.findall(
    r"^\| (?:`(.+?)` )?\| `(.+)` \| `([a-z-]+)` \| `(.*@shardcache:.+)` \|$", PAGE, re.MULTILINE
)
FAMILIES = re.findall(r"^\| `([a-z-]+)` \| [^`|]", PAGE, re.MULTILINE)
EXTENSIONS = re.findall(r"^\| `0x([0-9a-f]{2})` \| (\w+) \|", PAGE, re.MULTILINE)


def evaluated(expression):
    """Evaluate a vector's Python expression, or skip where the system lacks what it needs."""
    if "ZoneInfo" in expression and "Europe/Berlin" not in available_timezones():
        pytest.skip("no time zone database here")
    return eval(compile(ast.parse(expression, mode="eval"), "vector", "eval"), dict(NAMES))  # noqa: S307


@pytest.mark.parametrize(
    "vector", [pytest.param(vector, id=f"{n}") for n, vector in enumerate(VECTORS["values"])]
)
def test_vector_decodes_and_encodes(vector):
    """Stored bytes mean the same in every version; the canonical form is written the same."""
    value, raw, codec = (
        evaluated(vector["python"]),
        bytes.fromhex(vector["hex"]),
        Codec(**vector.get("options", {}), types=TYPES),
    )
    if raw[:1] == b"\xfc" and find_zstd() is None:
        pytest.skip("no zstd here")
    back = codec.decode(raw, KEY)
    assert (type(back), repr(back)) == (type(value), repr(value))
    if vector.get("canonical", True):
        assert codec.encode(value, KEY).hex() == vector["hex"]


@pytest.mark.parametrize(
    "vector", [pytest.param(vector, id=f"{n}") for n, vector in enumerate(VECTORS["loaded"])]
)
def test_loaded_vector_decodes_and_encodes(vector):
    """The same for what `get_or_set` stores: the value, and all that stands before it."""
    value, raw, codec = (
        evaluated(vector["python"]),
        bytes.fromhex(vector["hex"]),
        Codec(**vector.get("options", {}), types=TYPES),
    )
    grace, delta, negative = (
        vector.get("grace", 0),
        vector.get("delta", 0),
        vector.get("negative", False),
    )
    tags = tuple(
        (bytes.fromhex(name), bytes.fromhex(version)) for name, version in vector.get("tags", [])
    )
    assert repr(codec.decode_loaded(raw, KEY)) == repr(Loaded(value, grace, delta, tags, negative))
    if vector.get("canonical", True):
        again = codec.encode_loaded(
            value, KEY, grace_ms=grace, delta_ms=delta, tags=tags, negative=negative
        )
        assert again.hex() == vector["hex"]


@pytest.mark.parametrize("vector", VECTORS["damaged"], ids=lambda vector: vector["why"])
def test_damaged_vector_is_damaged(vector):
    """What the format rules out is refused."""
    with pytest.raises(DamagedPayload):
        Codec(**vector.get("options", {}), types=TYPES).decode(bytes.fromhex(vector["hex"]), KEY)


@pytest.mark.parametrize(
    ("expression", "stored"), EXAMPLES, ids=[stored[:40] for _, stored in EXAMPLES]
)
def test_example_of_the_page_is_what_is_stored(expression, stored):
    """The page's examples are real."""
    value = evaluated(expression)
    assert Codec().encode(value, KEY).hex(" ") == stored
    assert repr(Codec().decode(bytes.fromhex(stored), KEY)) == repr(value)


def test_page_lists_the_headers_of_the_code():
    """Every header byte from 0xF5 to 0xFF is on the page, under its name in the code."""
    assert [(int(code, 16), getattr(envelope, name)) for code, name in HEADERS] == [
        (n, n) for n in range(0xF5, 0x100)
    ]


def test_page_lists_the_extensions_of_the_code():
    """Every extension code is on the page, with its type."""
    in_code = {**_MARKED, **{code: kind for kind, (code, _) in scalars._PACK.items()}}
    assert {int(code, 16): name for code, name in EXTENSIONS} == {
        code: kind.__name__ for code, kind in in_code.items()
    }
    assert in_code.keys() == _MARKED.keys() | scalars._UNPACK.keys()


@pytest.mark.parametrize("vector", OWN_KEYS["keys"], ids=lambda vector: vector["own"])
def test_own_key_vector(vector):
    """The keys of the library's own are called the same in every version."""
    space = KeySpace(vector["namespace"])
    own = space.internal(vector["family"].encode(), space.wire(vector["key"]))
    assert own == vector["own"].encode()


@pytest.mark.parametrize(("namespace", "key", "family", "own"), KEY_EXAMPLES)
def test_own_key_of_the_page(namespace, key, family, own):
    """The page's examples of keys are real."""
    space = KeySpace(namespace)
    assert space.internal(family.encode(), space.wire(key)) == own.encode()


def test_page_lists_the_families_of_the_code():
    """Every kind of key that the code makes is on the page."""
    space = KeySpace("n")
    made = [*LockKeys.of(b"n:k", space), *LockKeys.of_load(b"n:k", space)]
    made += [register_key(space), load_register_key(space)]
    families = [key.removeprefix(space.internals).partition(b":")[0].decode() for key in made]
    assert [*families, "tag"] == FAMILIES


def test_page_has_its_examples():
    """A table that no longer parses is noticed."""
    assert (len(EXAMPLES) >= 20, len(KEY_EXAMPLES) >= 5) == (True, True)
