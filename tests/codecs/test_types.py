"""Registered types under "safe": dataclasses, Enums, NamedTuples by class, others by functions."""

import dataclasses
import enum
import functools
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from shardcache import ValueType
from shardcache.codecs import Codec, RawCodec
from shardcache.codecs.collisions import MOST_ALIKE
from shardcache.errors import DamagedPayload, InvalidArgument, InvalidOption, SerializationError

KEY = b"k"
RUN: list[str] = []  # what of the classes below was called


class Colour(enum.Enum):
    RED = "r"
    CRIMSON = "r"  # noqa: PIE796 - an alias is meant
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Kind(enum.StrEnum):
    BOOK = "book"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: Any
    y: Any = 0


@dataclass(frozen=True, slots=True)
class Leaf:
    name: str
    rank: int = field(default=0, compare=False)


@dataclass
class Derived:
    """Making one again by its constructor would double it once more."""

    value: int
    idempotent: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        RUN.append("__post_init__")
        self.value *= 2
        self.idempotent = self.value * 2

    @functools.cached_property
    def dear(self) -> int:
        return self.value + 1


class Pair(NamedTuple):
    left: Any
    right: Any = None


class Chosen:
    """Hashed as it likes, and counting how often two are compared."""

    comparisons = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        type(self).comparisons += 1
        return isinstance(other, Chosen) and self.number == other.number


MONEY = ValueType(
    "fraction", Fraction, lambda one: (one.numerator, one.denominator), lambda two: Fraction(*two)
)
CHOSEN = ValueType("chosen", Chosen, lambda one: one.number, Chosen)
TYPES = [Colour, Level, Kind, Access, Point, Leaf, Derived, Pair, MONEY, CHOSEN]
CODEC = Codec(types=TYPES)


def round_trip(value):
    return CODEC.decode(CODEC.encode(value, KEY), KEY)


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        Colour.CRIMSON,
        Level.HIGH,
        Kind.BOOK,
        Access.READ,
        Access.READ | Access.WRITE,
        Access(0),
        Point(1, "a"),
        Point(Point(None, [Leaf("a", 3)]), {Leaf("b"): Pair(Colour.BLUE)}),
        Leaf("a", 3),
        Pair(1),
        Pair((1, 2), {Level.LOW}),
        Fraction(1, 3),
        [Fraction(1, 3), {Fraction(2): frozenset({Leaf("x")}), Pair(1): frozenset()}],
        {Kind.BOOK: [1]},
        {Pair(n, f"{n}"): Point(n) for n in range(1000)},
        [Level.LOW, 1, True, Kind.BOOK, "book"],
    ],
    ids=range(17),
)
def test_comes_back(value):
    """Equal, of the same type at every depth, in and around every container."""
    back = round_trip(value)
    assert (type(back), back, repr(back)) == (type(value), value, repr(value))


def test_fields_that_are_not_compared_come_back_too():
    """Nothing of what was stored is lost, though the two would be equal without it."""
    assert round_trip(Leaf("a", 3)).rank == 3


def test_reading_calls_nothing_of_the_class():
    """Neither constructor nor ``__post_init__`` runs; a cached_property is computed anew."""
    value = Derived(2)
    assert (value.value, value.idempotent, value.dear) == (4, 8, 5)
    RUN.clear()
    back = round_trip(value)
    assert (back, RUN, vars(back)) == (value, [], {"value": 4, "idempotent": 8})


def test_top_level_members_are_not_taken_for_their_base():
    """An IntEnum is no number to INCR, and a StrEnum no text."""
    assert [CODEC.encode(one, KEY)[:1] for one in (Level.LOW, Kind.BOOK)] == [b"\xf7", b"\xf7"]


@pytest.mark.parametrize("codec", [Codec(), Codec(types=[Level])], ids=["none", "another"])
def test_a_reader_without_the_type_sees_damage(codec):
    """Never a guess, such as the dict of the fields."""
    with pytest.raises(DamagedPayload, match=r"Point.*Options\(types="):
        codec.decode(CODEC.encode([Point(1)], KEY), KEY)


def test_a_name_of_its_own_survives_a_move():
    """What is stored names the type as the reader's registry does, not by its module."""
    old, new = Codec(types=[ValueType("point", Point)]), Codec(types=[ValueType("point", Pair)])
    stored = old.encode(Point(1), KEY)
    assert b"Point" not in stored
    with pytest.raises(DamagedPayload, match=r"its fields are left, right; stored are x, y"):
        new.decode(stored, KEY)


@dataclass
class Grown:
    x: int
    y: int
    z: int = 9


@pytest.mark.parametrize(
    ("before", "after"), [(Point, Grown), (Grown, Point)], ids=["more", "fewer"]
)
def test_other_fields_are_damage(before, after):
    """A class that was changed meanwhile is a miss, and not a value with half of its fields."""
    stored = Codec(types=[ValueType("p", before)]).encode(before(1, 2), KEY)
    with pytest.raises(DamagedPayload, match="its fields are"):
        Codec(types=[ValueType("p", after)]).decode(stored, KEY)


@pytest.mark.parametrize(
    ("back", "why"),
    [
        (lambda _: 5, "makes a int"),
        (lambda plain: 1 // 0, "ZeroDivisionError"),
        (lambda a, b: None, "TypeError"),
    ],
    ids=["other type", "error", "signature"],
)
def test_what_the_function_makes_is_checked(back, why):
    """Whatever it does, the caller gets a miss and the event says what it was."""
    stored = CODEC.encode(Fraction(1, 3), KEY)
    with pytest.raises(DamagedPayload, match=why):
        Codec(types=[ValueType("fraction", Fraction, str, back)]).decode(stored, KEY)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (
            [1, Point(bytearray(b"a"))],
            r"value\[1\]: in the .*Point, value\['x'\]: bytearray is not among",
        ),
        (Point([Pair({1: object()})]), r"in the .*Pair, value\['left'\]\[1\]: object"),
        ({Leaf("a\udc80"): 1}, "text that UTF-8 cannot encode"),
    ],
    ids=["list", "nested", "surrogate"],
)
def test_what_is_inside_is_checked(value, where):
    """The rules of "safe" hold for the fields, and the message says where."""
    with pytest.raises(SerializationError, match=where):
        CODEC.encode(value, KEY)


def test_functions_that_fail_at_the_write():
    """Their error is named."""
    codec = Codec(types=[ValueType("point", Point, lambda one: one.nothing, Point)])
    with pytest.raises(
        SerializationError, match=r"a point cannot be made plain: AttributeError.*nothing"
    ):
        codec.encode([Point(1)], KEY)


def test_attributes_that_are_no_fields_are_not_lost_silently():
    """Refused at the write."""
    value = Point(1)
    value.extra = 5
    with pytest.raises(SerializationError, match="'extra', which is no field"):
        CODEC.encode(value, KEY)


def test_subclasses_are_other_types():
    """Registered is exactly the class."""

    @dataclass
    class Child(Point):
        pass

    with pytest.raises(SerializationError, match="Child is not among"):
        CODEC.encode(Child(1), KEY)


def test_cycles_and_explosions_end():
    """An object that contains itself, and few objects that contain each other often."""
    circle = Point(1)
    circle.x = [circle]
    with pytest.raises(SerializationError):
        CODEC.encode(circle, KEY)
    wide = Point(1)
    for _ in range(40):
        wide = Point(wide, wide)
    with pytest.raises(SerializationError, match="too many registered objects"):
        Codec(types=TYPES, max_value=100_000).encode(wide, KEY)


def test_members_of_one_hash_are_counted_before_they_are_compared():
    """A class may have any hash: the bound on members of one hash is on it too, at both ends."""
    few = {Chosen(n): n for n in range(MOST_ALIKE)}
    assert len(round_trip(few)) == MOST_ALIKE
    many = {Chosen(n): n for n in range(MOST_ALIKE + 1)}
    with pytest.raises(SerializationError, match="share one hash"):
        CODEC.encode(many, KEY)
    other = Codec(types=[ValueType("chosen", Fraction, int, Fraction)])
    stored = other.encode({Fraction(n): n for n in range(20 * MOST_ALIKE)}, KEY)
    Chosen.comparisons = 0
    with pytest.raises(DamagedPayload, match="share one hash"):
        CODEC.decode(stored, KEY)
    assert Chosen.comparisons == 0


@dataclass(eq=False)
class Identical:
    x: int


class Slotted:
    __slots__ = ("hidden",)


@dataclass
class OfSlots(Slotted):
    x: int


@dataclass
class OfList(list):  # type: ignore[type-arg]
    x: int


class Plain:
    pass


@pytest.mark.parametrize(
    ("types", "why"),
    [
        ([Identical], "never equal"),
        ([OfSlots], "hidden"),
        ([OfList], "not made of its fields alone"),
        (
            [Plain],
            r"no dataclass, Enum or NamedTuple.*ValueType\('plain', Plain, to_plain, from_plain\)",
        ),
        ([int], "int is kept as it is"),
        ([ValueType("d", dict, list, dict)], "dict is kept as it is"),
        ([Point, Point], "registered twice"),
        ([ValueType("a", Point), ValueType("a", Pair)], "two types have the name 'a'"),
        (["Point"], "must hold classes"),
        (Point, "must be a sequence"),
        ("Point", "must be a sequence"),
    ],
    ids=[
        "eq",
        "slots",
        "list",
        "plain",
        "int",
        "dict",
        "idempotent",
        "name",
        "text",
        "class",
        "str",
    ],
)
def test_what_cannot_be_registered(types, why):
    """Refused when the client is made, with what to do."""
    with pytest.raises(InvalidOption, match=why):
        Codec(types=types)


@pytest.mark.parametrize(
    "arguments",
    [
        ("", Point),
        ("n" * 256, Point),
        (5, Point),
        ("p", "Point"),
        ("p", Point, str),
        ("p", Point, str, 5),
    ],
    ids=["empty", "long", "number", "no class", "one function", "no function"],
)
def test_what_is_no_value_type(arguments):
    """Refused where it is made."""
    with pytest.raises(InvalidOption):
        ValueType(*arguments)


class Model:
    """As pydantic's look from outside."""

    def model_dump(self):
        return {}

    @classmethod
    def model_validate(cls, plain):
        return cls()


class Row:
    """As SQLAlchemy's look from outside."""

    _fields = ("id",)
    _mapping = None


@pytest.mark.parametrize(
    ("value", "way"),
    [
        (Point(1), r"store dataclasses.asdict\(…\), or register it: Options\(types=\[Point\]\)"),
        (Colour.RED, r"store its .value, or register it: Options\(types=\[Colour\]\)"),
        (Level.LOW, r"store its .value, or register it: Options\(types=\[Level\]\)"),
        (Kind.BOOK, r"store its .value, or register it: Options\(types=\[Kind\]\)"),
        (Pair(1), r"store tuple\(…\), or register it: Options\(types=\[Pair\]\)"),
        (
            Model(),
            (
                r"store .model_dump\(\), or register it: .*ValueType\('model', Model, "
                r"Model.model_dump, Model.model_validate"
            ),
        ),
        (Row(), r"store dict\(row._mapping\) or tuple\(row\)"),
        (
            OrderedDict(a=1),
            (
                r"store dict\(…\), or register it: Options\(types=\["
                r"ValueType\('ordereddict', OrderedDict, to_plain"
            ),
        ),
        (defaultdict(int), r"store dict\(…\)"),
        (Path("a"), r"store str\(…\)"),
        (bytearray(b"a"), r"store bytes\(…\)"),
        (
            object(),
            (
                r"register it: Options\(types=\["
                r"ValueType\('object', object, to_plain, from_plain\)\]\)"
            ),
        ),
    ],
    ids=[
        *("dataclass", "Enum", "IntEnum", "StrEnum", "namedtuple", "pydantic", "SQLAlchemy"),
        *("OrderedDict", "defaultdict", "Path", "bytearray", "object"),
    ],
)
def test_a_refusal_names_the_ways_out(value, way):
    """What to store instead, how to register it, and the other serializers."""
    for shown in (value, [value]):
        with pytest.raises(SerializationError, match=f"{way}.*serializer='pickle'") as caught:
            Codec().encode(shown, KEY)
        assert caught.value.value is shown


def test_real_numpy_pydantic_and_sqlalchemy():
    """The classes as they are, where they are installed."""
    found = []
    numpy = pytest.importorskip("numpy")
    found += [(numpy.float64(1), "item"), (numpy.int32(1), "item"), (numpy.zeros(2), "tolist")]
    pydantic = pytest.importorskip("pydantic")
    found.append(
        (pydantic.create_model("User", id=(int, 1))(), r"ValueType\('user', User, User.model_dump")
    )
    sqlalchemy = pytest.importorskip("sqlalchemy")
    with sqlalchemy.create_engine("sqlite://").connect() as connection:
        found.append((connection.execute(sqlalchemy.text("select 1 as id")).one(), "_mapping"))
    for value, way in found:
        with pytest.raises(SerializationError, match=way):
            Codec().encode(value, KEY)


def test_the_ways_out_are_ways_out():
    """What the messages recommend works."""
    kind = ValueType("model", Model, Model.model_dump, Model.model_validate)
    codec = Codec(types=[kind])
    assert type(codec.decode(codec.encode([Model()], KEY), KEY)[0]) is Model
    for value in (
        dataclasses.asdict(Point(1)),
        Level.LOW.value,
        tuple(Pair(1)),
        dict(OrderedDict(a=1)),
        str(Path("a")),
    ):
        assert Codec().decode(Codec().encode(value, KEY), KEY) == value


@pytest.mark.parametrize(
    ("value", "way"),
    [
        (
            {1: "a"},
            r"int cannot be a key under the serializer 'json': choose serializer='safe'\. Allowed",
        ),
        ([(1, 2)], r"tuple is not among .*: choose serializer='safe'\. Allowed"),
        (
            Point(1),
            (
                r"store dataclasses.asdict\(…\), or choose serializer='safe' and "
                r"Options\(types=\[…\]\), or"
            ),
        ),
        (Path("a"), r"store str\(…\), or choose serializer='safe' and Options\(types=\[…\]\), or"),
    ],
    ids=["key", "tuple", "dataclass", "Path"],
)
def test_the_ways_out_of_json_are_others(value, way):
    """To register a type helps under "safe" only."""
    with pytest.raises(SerializationError, match=way):
        Codec("json", types=[Point]).encode(value, KEY)


def test_results_that_say_that_they_are_refused():
    """By the serializer in use; what is registered is fine under "safe"."""

    def point() -> Point:
        return Point(1)

    def points(keys: list[str]) -> Mapping[str, Point]:
        return {key: Point(1) for key in keys}

    for function in (point, points):
        with pytest.raises(InvalidArgument, match=r"returns a Point.*register it"):
            Codec().check_result(function)
        with pytest.raises(InvalidArgument, match=r"returns a Point.*choose serializer='safe'"):
            Codec("json", types=TYPES).check_result(function)
        with pytest.raises(
            InvalidArgument, match="returns a Point: the serializer 'raw' keeps bytes alone"
        ):
            RawCodec().check_result(function)
        CODEC.check_result(function)
        Codec("pickle").check_result(function)
