"""Public names are words of the field: those that the glossary replaced do not come back."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import shardcache
from shardcache import LoadPolicy, Options

# Former words of our own: ARCHITECTURE.md has the terms in their stead.
pytestmark = pytest.mark.long  # it does not depend on the interpreter

FORBIDDEN = frozenset(
    [
        "again",
        "abandon",
        "bid",
        "board",
        "canvass",
        "census",
        "core",
        "desk",
        "ears",
        "fit",
        "fly",
        "heard",
        "home",
        "inside",
        "job",
        "kinds",
        "knock",
        "landing",
        "lane",
        "late",
        "ledger",
        "let_in",
        "line",
        "link",
        "look",
        "luck",
        "met",
        "mint",
        "obtain",
        "order",
        "overtaken",
        "parts",
        "pass",
        "patience",
        "pilot",
        "register",
        "roll",
        "roll_call",
        "room",
        "seen",
        "several",
        "sight",
        "sink",
        "slot",
        "take",
        "take_off",
        "tell",
        "turn_away",
        "turnstile",
        "twice",
        "undo",
        "vet",
        "void",
    ]
)
# Of these, the words that no name of the package has, be it public or not.
NOWHERE = frozenset(
    [
        "bid",
        "canvass",
        "census",
        "desk",
        "ears",
        "knock",
        "lane",
        "landing",
        "ledger",
        "luck",
        "mint",
        "obtain",
        "overtaken",
        "patience",
        "pilot",
        "turnstile",
    ]
)
PACKAGE = Path(shardcache.__path__[0])
# name -> why it stays.
KEPT = {
    "void_loads": "an option that users set since the first version",
    "slot": "of a Redis Cluster, whose word it is",
}


def words(name: str) -> str:
    """Return a name in lower case, its words between underscores."""
    return "_" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_") + "_"


def forbidden(name: str) -> list[str]:
    """Return the words in the name that the glossary has another one for."""
    return sorted(word for word in FORBIDDEN if f"_{word}_" in words(name))


def public_names() -> Iterator[str]:
    """Yield the names that users can write: of the package, methods, parameters and options."""
    for name in shardcache.__all__:
        yield name
        kind = getattr(shardcache, name)
        if not inspect.isclass(kind):
            continue
        for member in dir(kind):
            if member.startswith("_") and member != "__init__":
                continue
            yield member
            function = inspect.getattr_static(kind, member)
            function = getattr(function, "__func__", function)
            if inspect.isfunction(function):
                yield from inspect.signature(function).parameters


def test_public_names_are_words_of_the_field() -> None:
    """No public name has a word that the glossary replaced; exceptions are used."""
    assert {name for name in public_names() if forbidden(name)} == set(KEPT)


def names_in(source: str) -> Iterator[str]:
    """Yield the names that a module defines, assigns or uses."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Attribute():
                yield node.attr
            case ast.Name():
                yield node.id
            case ast.arg():
                yield node.arg


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=str(path.relative_to(PACKAGE)))
        for path in sorted(PACKAGE.rglob("*.py"))
    ],
)
def test_inner_names_are_words_of_the_field(path: Path) -> None:
    """The plainest of the former words are in no name at all."""
    found = set(names_in(path.read_text(encoding="utf-8")))
    assert {name for name in found if NOWHERE & set(forbidden(name))} == set()


def test_inner_names_are_looked_at() -> None:
    """The walk comes by functions, classes, parameters, variables and attributes."""
    source = "class A:\n def b(self, c):\n  self.luck = c\n  d = e"
    assert set(names_in(source)) == {"A", "b", "self", "c", "luck", "d", "e"}
    assert NOWHERE <= FORBIDDEN


def test_all_public_names_are_looked_at() -> None:
    """The walk comes by classes, methods, parameters and options."""
    expected = {"ShardCache", "get_or_set", "policy", *Options.__slots__, *LoadPolicy.__slots__}
    assert expected - set(public_names()) == set()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("LoadDesk", ["desk"]),
        ("roll_call", ["roll", "roll_call"]),
        ("take_off", ["take", "take_off"]),
        ("pipeline", []),
        ("on_lost", []),
        ("timeout", []),
    ],
)
def test_rule_looks_at_whole_words(name: str, found: list[str]) -> None:
    """A word is found in either style of names, and not inside of another word."""
    assert forbidden(name) == found
