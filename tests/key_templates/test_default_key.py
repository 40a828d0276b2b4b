"""Default keys: the function's full name and all its arguments, or a refusal."""

import datetime as dt
import functools
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, Flag
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.errors import InvalidArgument
from shardcache.key_templates import DefaultKey
from shardcache.key_templates.stable_text import to_stable_text


def load(id, lang="de", *rest, deep=False, **more):
    """A function as people write them."""


class Colour(Enum):
    """Members have names."""

    RED = 1
    BLUE = 2


class Right(Flag):
    """Members can be put together."""

    READ = 1
    WRITE = 2


@dataclass
class Query:
    """A record of plain values."""

    text: str
    page: int = 1
    note: object = field(default=None, compare=False)


class Shop:
    """A class with methods."""

    def item(self, number):
        """A method."""

    def parent(cls, number):  # noqa: N805 - as a class method's function is
        """A class method's function."""
        return super()


class Mute:
    """An object without a text."""


@pytest.mark.parametrize(
    ("args", "kwargs", "inside"),
    [
        ((1,), {}, "id=1,lang='de',rest=(),deep=False,more=dict()"),
        ((), {"id": 1, "lang": "de"}, "id=1,lang='de',rest=(),deep=False,more=dict()"),
        (
            ("1", "en", 3),
            {"b": 1, "a": 2},
            "id='1',lang='en',rest=(3),deep=False,more=dict('a':2,'b':1)",
        ),
        (("{x}",), {"deep": True}, r"id='\x7bx\x7d',lang='de',rest=(),deep=True,more=dict()"),
    ],
)
def test_key_shows_the_call(args, kwargs, inside):
    """It reads like the call, defaults included, and has no braces that could make a hash tag."""
    assert DefaultKey(load)(*args, **kwargs) == f"{__name__}.load({inside})"


def test_class_counts_by_its_name():
    """A class method's values belong to the class that it is called on; super() is no closure."""
    assert (
        DefaultKey(Shop.parent)(Shop, 1) == f"{__name__}.Shop.parent(cls={__name__}.Shop,number=1)"
    )


def test_wrapped_function_keeps_its_name():
    """A decorator that uses functools.wraps does not make functions alike."""

    def idempotent(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    assert DefaultKey(idempotent(load))(1) == DefaultKey(load)(1)


def closure(number):
    """Make a function that differs from call to call, under one name."""

    def inner(x):
        return x + number

    return inner


@pytest.mark.parametrize(
    ("function", "message"),
    [
        pytest.param(lambda x: x, "has no name", id="lambda"),
        pytest.param(functools.partial(load, 1), "has no name", id="partial"),
        pytest.param(closure(1), "depends on number", id="closure"),
        pytest.param(Shop.item, "the same for all objects", id="method"),
        pytest.param(5, "cannot be read", id="int"),
    ],
)
def test_function_that_its_name_does_not_tell_is_refused(function, message):
    """Two functions under one key would get each other's values, so a template names one."""
    with pytest.raises(InvalidArgument, match=message):
        DefaultKey(function)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (True, "True"),
        (1, "1"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        ("1", "'1'"),
        (b"{", r"b'\x7b'"),
        ("\\x7b", r"'\\x7b'"),
        ([1, (2,), []], "[1,(2),[]]"),
        ({"b", "a"}, "set('a','b')"),
        (frozenset({2, 1}), "frozenset(1,2)"),
        ({"b": {2: 1}, "a": None}, "dict('a':None,'b':dict(2:1))"),
        (Decimal("1.50"), "Decimal('1.50')"),
        (UUID(int=1), "UUID('00000000-0000-0000-0000-000000000001')"),
        (dt.date(2024, 2, 29), "datetime.date(2024, 2, 29)"),
        (
            dt.datetime(2024, 2, 29, tzinfo=dt.UTC),
            "datetime.datetime(2024, 2, 29, 0, 0, tzinfo=datetime.timezone.utc)",
        ),
        (Colour.RED, f"{__name__}.Colour['RED']"),
        (Right.READ | Right.WRITE, f"{__name__}.Right['READ|WRITE']"),
        (Right(0), f"{__name__}.Right[0]"),
        (int, "builtins.int"),
        (Query("a", note=Mute()), f"{__name__}.Query(text='a',page=1)"),
    ],
    ids=lambda value: ascii(value)[:60] if type(value) is str else "",
)
def test_stable_text(value, text):
    """Every type that is taken has one text."""
    assert to_stable_text(value) == text


class Zone(dt.tzinfo):
    """A time zone without a text."""


@pytest.mark.parametrize(
    "value",
    [
        Mute(),
        [Mute()],
        {1: Mute()},
        Query("a", Mute()),
        load,
        iter([]),
        range(3),
        type("Text", (str,), {})("a"),
    ],
    ids=[
        "object",
        "in a list",
        "in a dict",
        "in a dataclass",
        "function",
        "iterator",
        "range",
        "subclass",
    ],
)
def test_argument_without_a_stable_text_is_refused(value):
    """A key with an address in it would never be hit again, or by another object."""
    with pytest.raises(
        InvalidArgument, match="argument 'lang' of load cannot be part of a default key"
    ):
        DefaultKey(load)(1, value)


def test_time_zone_without_a_text_is_refused():
    """A datetime shows its zone, and that one shows its address."""
    with pytest.raises(InvalidArgument, match="a Zone has no text"):
        to_stable_text(dt.datetime(2024, 2, 29, tzinfo=Zone()))


hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.sampled_from("a,:'\"(){}[]\\=x7b"))
    | st.binary(max_size=3),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
stable = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.sets(hashable, max_size=3)
    ),
    max_leaves=6,
)


def typed(value):
    """Return a form that is equal exactly for values equal and of the same types throughout."""
    if isinstance(value, dict):
        return dict, frozenset((typed(key), typed(item)) for key, item in value.items())
    if isinstance(value, (set, frozenset)):
        return type(value), frozenset(map(typed, value))
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(typed, value))
    return type(value), value


@given(stable, stable)
def test_text_tells_the_value(one, other):
    """Two values have one text exactly if they are equal, types included."""
    assert (to_stable_text(one) == to_stable_text(other)) == (typed(one) == typed(other))


@given(
    st.lists(st.tuples(hashable, st.integers()), unique_by=lambda pair: pair[0], max_size=5),
    st.randoms(),
)
def test_order_does_not_matter(pairs, chance):
    """Sets and dicts that are equal have one text, in whatever order they were made."""
    shuffled = chance.sample(pairs, len(pairs))
    assert to_stable_text(dict(pairs)) == to_stable_text(dict(shuffled))
    assert to_stable_text({key for key, _ in pairs}) == to_stable_text({key for key, _ in shuffled})


@given(stable)
def test_text_has_no_braces(value):
    """No argument decides by a hash tag where its value lives."""
    assert not set("{}") & set(to_stable_text(value))
