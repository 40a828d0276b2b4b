"""Public names are words of the field: those that the glossary replaced do not come back."""

import inspect
import re
from collections.abc import Iterator

import pytest

import shardcache
from shardcache import LoadPolicy, Options

# Former words of our own: ARCHITECTURE.md has the terms in their stead.
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
# name -> why it stays.
KEPT = {"void_loads": "an option that users set since the first version"}


def words(name: str) -> str:
    """Return a name in lower case, its words between underscores."""
    return "_" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_") + "_"


def forbidden(name: str) -> list[str]:
    """Return the words in the name that the glossary has another one for."""
    return sorted(word for word in FORBIDDEN if f"_{word}_" in words(name))


def public_names() -> Iterator[str]:
    """Yield what users can write: names of the package, methods and parameters of its classes, fields of the options."""
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
