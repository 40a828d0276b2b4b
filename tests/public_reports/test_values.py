"""Values, keys and lifetimes at the edge, and copies of a client."""

import copy
import dataclasses
import enum
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shardcache import MISS, AsyncShardCache, ShardCache
from shardcache.errors import InvalidArgument, InvalidKey, SerializationError


# msgpack-python #674 and #566, dask #5875
@pytest.mark.parametrize("serializer", ["safe", "json", "pickle"])
@pytest.mark.parametrize("deep", [100, 511, 512, 1100, 100_000])
def test_nested_values(make, serializer, deep) -> None:
    """What is nested too deep is refused by the write; what was stored is read."""
    cache = make(serializer=serializer, timeout=20)
    value: list[Any] = []
    for _ in range(deep):
        value = [value]
    try:
        assert cache.set("k", value)
    except SerializationError:
        assert deep > 100
        return
    found, levels = cache.get("k"), 0
    while found:
        found, levels = found[0], levels + 1
    assert (found, levels) == ([], deep)


BERLIN = ZoneInfo("Europe/Berlin")
MOMENTS = [
    datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
    datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
    datetime(2026, 10, 25, 2, 30, fold=1),  # noqa: DTZ001  naive on purpose
    datetime(1890, 1, 1, tzinfo=ZoneInfo("Europe/Amsterdam")),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30), "IST")),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=1))),
    datetime.max,  # noqa: DTZ901  naive on purpose
    datetime.min,  # noqa: DTZ901  naive on purpose
    timedelta.max,
    timedelta.min,
    time(1, 2, 3, tzinfo=UTC),
    time(1, 2, fold=1),
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("-0"),
    Decimal("1E+999999"),
    float("nan"),
    -0.0,
]


# django-redis #764 and its kind: what is nearly the same is taken for the same
@pytest.mark.parametrize("value", MOMENTS, ids=repr)
def test_moments_and_numbers(cache, value) -> None:
    """What is stored comes back the same, zone, fold, sign and all; what could not is refused."""
    try:
        cache.set("k", value)
    except SerializationError:
        assert cache.get("k", MISS) is MISS
    else:
        found = cache.get("k", MISS)
        assert (repr(found), type(found)) == (repr(value), type(value))


class Text(str):
    __slots__ = ()


class Colour(enum.StrEnum):
    RED = "red"


# redis-py #1029's kind: subclasses that lose what they are
@pytest.mark.parametrize(
    "value", [Text("a"), type("I", (int,), {})(5), type("L", (list,), {})([1]), Colour.RED]
)
def test_subclasses(cache, value) -> None:
    """A value of a subclass is refused; a key of a subclass is its text."""
    with pytest.raises(SerializationError):
        cache.set("k", value)
    cache.set(Colour.RED, 1)
    assert (cache.get("red"), cache.get_many([Text("red")])) == (1, {"red": 1})


# pymemcache #122
def test_text_that_is_no_unicode(cache) -> None:
    """A lone surrogate is refused in a key and in a lock's name; a value keeps it or is refused."""
    with pytest.raises(InvalidKey):
        cache.get("\ud800")
    with pytest.raises(InvalidKey):
        cache.lock("\ud800", 5)
    try:
        cache.set("k", "\ud800")
    except SerializationError:
        assert cache.get("k", MISS) is MISS
    else:
        assert cache.get("k") == "\ud800"


CALLS = {
    "set": lambda cache, ttl: cache.set("k", 1, ttl=ttl),
    "add": lambda cache, ttl: cache.add("k", 1, ttl=ttl),
    "touch": lambda cache, ttl: cache.touch("k", ttl=ttl),
    "set_many": lambda cache, ttl: cache.set_many({"k": 1}, ttl=ttl),
    "incr": lambda cache, ttl: cache.incr("k", initial=1, ttl=ttl),
    "get_or_set": lambda cache, ttl: cache.get_or_set("k", lambda: 1, ttl=ttl),
    "swr": lambda cache, ttl: cache.get_or_set("k", lambda: 1, ttl=ttl, policy="swr"),
}


# redis-py #4279, django-redis #483
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_long_and_short_lives(cache, call) -> None:
    """A lifetime that no server keeps is refused by name; the shortest is not taken for none."""
    for ttl in (1e15, 10**30, timedelta.max, 2**53):
        with pytest.raises(InvalidArgument, match="ttl may be 100 years"):
            call(cache, ttl)
    cache.delete("k")
    call(cache, 1e-9)
    assert (cache.ttl("k") or 0) <= 0.02


@dataclasses.dataclass
class Settings:
    """What applications keep a client in."""

    cache: Any
    name: str = "web"


# litestar #333, hiredis-py #112, django-redis #606
@pytest.mark.parametrize("kind", [ShardCache, AsyncShardCache])
def test_copies_of_a_client(shards, kind) -> None:
    """A copy of a client is the client itself, because frameworks copy their settings."""
    cache = kind(shards.urls)
    assert copy.copy(cache) is cache
    assert copy.deepcopy([cache])[0] is cache
    assert dataclasses.asdict(Settings(cache))["cache"] is cache
    lock = cache.lock("l", 5)
    with pytest.raises(TypeError, match="copied"):
        copy.copy(lock)


# frappe_docker #1621, frappe/gameplan #402 and their kind: settings as they come out of files
@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_around_a_url(quote) -> None:
    """Quotes that came out of a settings file with the URL are named as what they are."""
    with pytest.raises(InvalidArgument, match="quot"):
        ShardCache.from_url(f"{quote}redis://h1:6379{quote}")
