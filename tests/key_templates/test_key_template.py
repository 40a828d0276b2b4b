"""Key templates: checked at decoration, one key for one call, and never one key for two."""

import re
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.errors import InvalidArgument
from shardcache.key_templates import KeyTemplate
from shardcache.keys import hash_tag


def user(id, lang="de"):
    """A function as people write them."""


def everything(first, /, second, *rest, named, default=4, **more):
    """A function with every kind of parameter."""


class Shop:
    """A class with methods to be cached."""

    def __init__(self, id):
        self.id = id

    def item(self, number):
        """A method."""

    @classmethod
    def best(cls, count=10):
        """A class method."""


class Spoken:
    """An object with a text of its own."""

    def __str__(self):
        return "spoken:1"


class Mute:
    """An object that would show its address."""


# Names and arguments


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1, "en"), {}),
        ((1,), {"lang": "en"}),
        ((), {"id": 1, "lang": "en"}),
        ((), {"lang": "en", "id": 1}),
    ],
    ids=["positional", "mixed", "named", "named in another order"],
)
def test_one_call_has_one_key(args, kwargs):
    """It does not matter how an argument is passed."""
    assert KeyTemplate("user:{id}:{lang}", user)(*args, **kwargs) == "user:1:en"


def test_default_counts_as_passed():
    """A default left out and a default written out are the same call."""
    template = KeyTemplate("user:{id}:{lang}", user)
    assert template(1) == template(1, "de") == template(id=1) == "user:1:de"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        pytest.param("x:{first}", "x:1", id="positional only"),
        pytest.param("x:{second}:{named}:{default}", "x:2:n:4", id="keyword only"),
        pytest.param("x:{rest}", "x:(3,'a%3Ab')", id="args"),
        pytest.param("x:{rest[0]}", "x:3", id="one of args"),
        pytest.param("x:{more}", "x:dict('a'%3A1,'b'%3A2)", id="kwargs, sorted"),
        pytest.param("x:{more[a]}", "x:1", id="one of kwargs"),
    ],
)
def test_every_kind_of_parameter(text, key):
    """Whatever the signature, its names may be used."""
    assert KeyTemplate(text, everything)(1, 2, 3, "a:b", named="n", b=2, a=1) == key


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1, 2, 3), {}),
        ((1,), {"id": 1}),
        ((1,), {"langg": "en"}),
        ((), {"lang": "en", "idd": 1}),
    ],
)
def test_wrong_arguments_are_the_error_of_the_call(args, kwargs):
    """What the function would refuse, the key refuses in the same way."""
    with pytest.raises(TypeError):
        user(*args, **kwargs)
    with pytest.raises(TypeError):
        KeyTemplate("user:{id}", user)(*args, **kwargs)


def test_positional_only_parameter_is_not_passed_by_name():
    """The function would refuse it."""
    with pytest.raises(TypeError):
        KeyTemplate("x:{first}", everything)(first=1, second=2, named=3)


def test_methods():
    """The object is no part of the key unless the template names it, or a part of it."""
    assert KeyTemplate("item:{number}", Shop.item)(Shop(7), 3) == "item:3"
    assert KeyTemplate("item:{self.id}:{number}", Shop.item)(Shop(7), number=3) == "item:7:3"


def test_class_methods():
    """The same for the class, which is rendered by its full name."""
    best = Shop.__dict__["best"].__func__
    assert KeyTemplate("best:{count}", best)(Shop) == "best:10"
    assert KeyTemplate("best:{cls}", best)(Shop) == f"best:{__name__}.Shop"
    assert KeyTemplate("best:{cls.__name__}", best)(Shop) == "best:Shop"


def test_template_without_fields_is_one_key():
    """A function without arguments has one value, and a tag may be the same for all calls."""
    assert KeyTemplate("settings", user)(1) == "settings"


def test_annotation_that_cannot_be_evaluated_is_no_obstacle():
    """What is imported for type checkers only is not needed for a key."""
    namespace = {}
    exec("def f(id: 'Nowhere', x: 'list[Nowhere]' = 1) -> 'Nowhere': ...", namespace)  # noqa: S102
    assert KeyTemplate("x:{id}:{x}", namespace["f"])(5) == "x:5:1"


# Checked at decoration


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "user:{idd}",
            "names 'idd', but of user(id, lang='de') the names in it are id, lang",
            id="unknown",
        ),
        pytest.param("user:{idd.name}", "names 'idd'", id="unknown object"),
        pytest.param("user:{}", "names ''", id="no name"),
        pytest.param("user:{0}", "names '0'", id="number"),
        pytest.param("user:{id", "malformed: expected '}'", id="unclosed"),
        pytest.param("user:id}", "malformed: Single '}'", id="unopened"),
        pytest.param("user:{id..x}", "malformed: 'id..x'", id="dots"),
        pytest.param("user:{id.x[}", "malformed", id="bracket"),
        pytest.param("user:{id!a}", "!r or !s, got !a", id="conversion"),
        pytest.param("user:{id:{lang}}", "a format must be fixed", id="nested"),
        pytest.param("user:{id}{lang}", "nothing keeps {id} and {lang} apart", id="no separator"),
        pytest.param("user:{id}and{lang}", "there is 'and'", id="letters"),
        pytest.param("user:{id}%{lang}", "there is '%'", id="percent"),
        pytest.param("", "a str that is not empty", id="empty"),
        pytest.param(b"user:{id}", "a str that is not empty", id="bytes"),
        pytest.param("user:\ud800", "malformed", id="surrogate"),
    ],
)
def test_wrong_template_is_refused_at_decoration(text, message):
    """The import fails, not the call; the error says what there is."""
    with pytest.raises(InvalidArgument, match=re.escape(message)):
        KeyTemplate(text, user)


@pytest.mark.parametrize(
    "function", [5, "user", Shop.__dict__["best"]], ids=["int", "str", "classmethod"]
)
def test_what_is_no_function_is_refused(function):
    """A class method object hides its function: the decorator belongs below."""
    with pytest.raises(
        InvalidArgument, match="below it" if isinstance(function, classmethod) else "cannot be read"
    ):
        KeyTemplate("x", function)


# Rendering


RENDERED = [
    ("x:{id}", 42, "x:42"),
    ("x:{id}", "42", "x:42"),
    ("x:{id!r}", "42", "x:'42'"),
    ("x:{id!r}", 42, "x:42"),
    ("x:{id!s}", 42, "x:42"),
    ("x:{id:05d}", 42, "x:00042"),
    ("x:{id!r:>6}", "a", "x:   'a'"),
    ("x:{id:.2f}", Decimal("1.005"), "x:1.00"),
    ("x:{id:%Y/%m}", date(2024, 2, 29), "x:2024/02"),
    ("x:{id.year}", date(2024, 2, 29), "x:2024"),
    ("x:{id[0].year}", [date(2024, 2, 29)], "x:2024"),
    ("x:{id[lang]}", {"lang": "de"}, "x:de"),
    ("x:{id}", -1.5, "x:-1.5"),
    ("x:{id}", None, "x:None"),
    ("x:{id}", "", "x:"),
    ("x:{id}", "a:b", "x:a%3Ab"),
    ("x:{id}", "100%", "x:100%25"),
    ("x:{id}", "é", "x:é"),
    ("x:{id}", b"a", "x:b'a'"),
    ("x:{id}", {3, 1, 2}, "x:set(1,2,3)"),
    ("x:{id}", Spoken(), "x:spoken%3A1"),
    ("{{x}}:{id}", "{y}", "{x}:%7By%7D"),
    ("{{user:{id}}}:cart", "1}", "{user:1%7D}:cart"),
    ("{id}-{lang}", "a-b", "a%2Db-de"),
    ("{id}·{lang}", "a·b", "a%C2%B7b·de"),
]


@pytest.mark.parametrize(
    ("text", "value", "key"), [pytest.param(*case, id=f"{n}") for n, case in enumerate(RENDERED)]
)
def test_rendering(text, value, key):
    """Values look in a key as people expect, apart from the characters that keep them apart."""
    assert KeyTemplate(text, user)(value) == key


@pytest.mark.parametrize(
    ("text", "value", "message"),
    [
        pytest.param("x:{id}", Mute(), "a Mute has no text", id="object"),
        pytest.param("x:{id}", [Mute()], "a Mute has no text", id="object in a list"),
        pytest.param("x:{id}", user, "a function has no text", id="function"),
        pytest.param("x:{id!r}", Spoken(), "a Spoken has no text", id="no repr"),
        pytest.param("x:{id.name}", Mute(), "no attribute 'name'", id="attribute"),
        pytest.param("x:{id[name]}", {}, "'name'", id="item"),
        pytest.param("x:{id:d}", "a", "Unknown format code 'd'", id="format"),
        pytest.param("x:{id:d}", {1}, "unsupported format string", id="format of a set"),
        pytest.param("x:{id}", 10**5000, "digits", id="long int"),
    ],
)
def test_value_without_a_stable_text_is_refused_at_the_call(text, value, message):
    """The error names the argument, and no address ever becomes part of a key."""
    with pytest.raises(InvalidArgument, match=f"argument 'id' .*{re.escape(message)}"):
        KeyTemplate(text, user)(value)


def test_list_within_itself_is_refused():
    """It has no end."""
    endless = []
    endless.append(endless)
    with pytest.raises(InvalidArgument, match="argument 'id'"):
        KeyTemplate("x:{id}", user)(endless)


# No two calls share a key

TEMPLATES = [
    "{id}:{lang}",
    "user:{id}:{lang}",
    "{id}-{lang}",
    "{id}ab-ab{lang}",
    "{id}%3A:25{lang}x",
    "{{{id}}}:{lang}",
    "{lang}/{id}",
    "{id}%·{lang}",
    "{id!r}:{lang!r}",
]
nasty = st.text(st.sampled_from("ab:%{}-/·'\\325AC7BD"), max_size=6) | st.text(
    st.characters(codec="utf-8")
)


@pytest.mark.parametrize("text", TEMPLATES)
@given(call=st.tuples(nasty, nasty), other=st.tuples(nasty, nasty))
def test_different_values_have_different_keys(text, call, other):
    """Separators, escapes and braces in values change nothing about that."""
    template = KeyTemplate(text, user)
    assert (template(*call) == template(*other)) == (call == other)


@pytest.mark.parametrize(
    "text", [text for text in TEMPLATES if "!r" not in text and "{{" not in text]
)
@given(call=st.tuples(nasty, nasty))
def test_values_can_be_read_back_from_the_key(text, call):
    """Stronger than any sample of pairs: a key tells its values."""

    def read(part):
        return re.sub(
            "(?:%[0-9A-F]{2})+",
            lambda found: bytes.fromhex(found[0].replace("%", "")).decode(),
            part,
        )

    head, first, between, second, tail = re.fullmatch(
        r"([^{]*)\{(\w+)\}([^{]*)\{(\w+)\}([^{]*)", text
    ).groups()
    key = KeyTemplate(text, user)(*call)
    body = key[len(head) : len(key) - len(tail)]
    start, _, rest = body.partition(between)
    assert {first: read(start), second: read(rest)} == {"id": call[0], "lang": call[1]}


@given(id=nasty, call=st.tuples(nasty, nasty))
def test_templates_of_different_length_do_not_meet(id, call):
    """A value cannot pretend to be one part more."""
    assert KeyTemplate("user:{id}", user)(id) != KeyTemplate("user:{id}:{lang}", user)(*call)


@given(id=nasty, lang=nasty)
def test_value_does_not_choose_the_shard(id, lang):
    """The hash tag is where the template put it, whatever the values hold."""
    key = KeyTemplate("{{user:{id}}}:{lang}", user)(id, lang).encode()
    assert hash_tag(key) == KeyTemplate("user:{id}", user)(id).encode()
