"""Registered types through both clients, and values that are refused after a load."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import pytest

from shardcache import LoadResult, Options, errors


class Colour(Enum):
    RED = "r"


class Pair(NamedTuple):
    left: int
    right: int


@dataclass
class User:
    id: int
    colour: Colour


@dataclass
class Stranger:
    id: int


OPTIONS = Options(types=[Colour, Pair, User])
VALUE = {"a": [User(1, Colour.RED)], Pair(1, 2): (Colour.RED,)}


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_every_way_in_and_out(make, compression):
    """`set`, `add`, `set_many`, `get_or_set`, a pipeline; compressed and signed too."""
    cache = make(
        options=Options(types=[Colour, Pair, User], compress_min=0, signing_key="k" * 16),
        compression=compression,
    )
    assert cache.set("set", VALUE) is True
    assert cache.add("add", Colour.RED) is True
    assert cache.set_many({"many": User(2, Colour.RED), "pair": Pair(3, 4)}) == []
    assert cache.get_or_set("loaded", lambda: User(3, Colour.RED)) == User(3, Colour.RED)
    assert cache.get_or_set("loaded", lambda: None) == User(3, Colour.RED)
    assert cache.get_many(["set", "add", "many", "pair", "loaded"]) == {
        "set": VALUE,
        "add": Colour.RED,
        "many": User(2, Colour.RED),
        "pair": Pair(3, 4),
        "loaded": User(3, Colour.RED),
    }
    assert type(cache.get("pair")) is Pair


def test_a_client_without_the_types_misses(make, events):
    """Counted and reported, as any damaged value."""
    make(options=OPTIONS).set("k", User(1, Colour.RED))
    other = make(options=Options(on_event=events.append))
    assert other.get("k", "default") == "default"
    assert [(event.kind, "Options(types=" in str(event.error)) for event in events] == [
        ("damaged", True)
    ]


@pytest.mark.parametrize(
    "result", [Stranger(1), LoadResult(Stranger(1), ttl=5)], ids=["value", "result"]
)
def test_what_was_loaded_is_not_lost(make, result):
    """The error says what was refused and what to do, and has the value."""
    cache = make()
    with pytest.raises(errors.SerializationError, match=r"Options\(types=\[Stranger\]\)") as caught:
        cache.get_or_set("k", lambda: result)
    assert (caught.value.value, cache.get("k")) == (Stranger(1), None)


def test_what_says_that_it_cannot_be_stored_is_not_run(make):
    """A loader whose annotation names a refused class is an error before it has run."""
    cache, calls = make(), []

    def load() -> Stranger:
        calls.append(1)
        return Stranger(1)

    with pytest.raises(
        errors.InvalidArgument, match=r"load returns a Stranger, .*Options\(types=\[Stranger\]\)"
    ):
        cache.get_or_set("k", load)
    assert calls == []
    other = make(options=Options(types=[Stranger]))
    assert (other.get_or_set("k", load), calls) == (Stranger(1), [1])


def test_at_decoration(make):
    """`cached` says so when the module is imported."""
    client = make()
    target = getattr(client, "_target", client)

    def one(id: int) -> Stranger | None:
        return Stranger(id)

    def rows(id: int) -> list[Stranger]:
        return [Stranger(id)]

    def text(id: int) -> "dict[str, Stranger]":
        return {"a": Stranger(id)}

    def anything(id: int) -> object:
        return Stranger(id)

    def unknown(id: int) -> "Nobody":  # type: ignore[name-defined]  # noqa: F821
        return Stranger(id)

    for function in (one, rows, text):
        with pytest.raises(errors.InvalidArgument, match=f"{function.__name__} returns a Stranger"):
            target.cached(key="{id}")(function)
    for function in (anything, unknown):  # may return something else
        target.cached(key="{id}")(function)
    for settings in ({"serializer": "pickle"}, {"options": Options(types=[Stranger])}):
        other = make(**settings)
        getattr(other, "_target", other).cached(key="{id}")(rows)
