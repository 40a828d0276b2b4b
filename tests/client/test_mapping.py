"""The client as a mutable mapping, and behind the decorators of cachetools."""

from collections.abc import Callable, Iterator
from datetime import date
from enum import Enum
from uuid import UUID

import cachetools
import pytest
from cachetools.keys import typedkey
from hypothesis import given
from hypothesis import strategies as st

from shardcache import ShardCache
from shardcache.embedded import LocalShards
from shardcache.errors import InvalidArgument, InvalidOption, InvalidTTL
from shardcache.mapping import CacheMapping


class Colour(Enum):
    RED = 1


@pytest.fixture
def cache(shards: LocalShards, namespace: str) -> Iterator[ShardCache]:
    """A client whose calls are not about time."""
    with ShardCache(shards.urls, namespace=namespace, timeout=20) as made:
        yield made


def test_decorator_of_cachetools(cache: ShardCache) -> None:
    """A function is called once for each set of arguments, None is a hit, and clear forgets."""
    calls = []

    @cachetools.cached(cache=cache.mapping(ttl=60, prefix="load:"), key=typedkey)
    def load(*args: object, **kwargs: object) -> object:
        calls.append((args, kwargs))

    @cachetools.cached(cache=cache.mapping(ttl=60, prefix="other:"))
    def other(*args: object) -> object:
        return "other"

    for _ in range(2):
        load(1, "a")
        load(1, a="a")
        load(True, "a")
        assert other(1, "a") == "other"
    assert calls == [((1, "a"), {}), ((1,), {"a": "a"}), ((True, "a"), {})]
    load.cache_clear()
    load(1, "a")
    assert len(calls) == 4
    assert len(other.cache) == 1


def test_all_methods(cache: ShardCache) -> None:
    """It does what a dict does."""
    here = cache.mapping()
    there = {"a": 1, "b": None, (1, "x"): [2]}
    here.update(there)
    here.update([("c", 3)], d=4)
    there |= {"c": 3, "d": 4}
    assert {key: here[key] for key in there} == there
    assert (len(here), "b" in here, "z" in here, here.get("z", 0)) == (5, True, False, 0)
    assert (here.setdefault("a", 9), here.setdefault("e", 5), here["e"]) == (1, 5, 5)
    assert (here.pop("e"), here.pop("e", None)) == (5, None)
    del here["d"]
    for missing in (lambda: here["d"], lambda: here.__delitem__("d"), lambda: here.pop("d")):
        with pytest.raises(KeyError, match="d"):
            missing()
    assert sorted(here, key=str) == ["=(1,'x')", "a", "b", "c"]
    assert [here[key] for key in sorted(here, key=str)] == [[2], 1, None, 3]
    assert dict(here.items()) == {"a": 1, "b": None, "c": 3, "=(1,'x')": [2]}
    assert sorted(map(str, here.values())) == ["1", "3", "None", "[2]"]
    here.clear()
    assert list(here) == []


def test_keys_are_the_clients(cache: ShardCache) -> None:
    """A text is the client's key behind the prefix; nothing else is touched by `clear`."""
    here = cache.mapping(ttl=1000, prefix="a*:")
    here["k"] = 1
    assert cache.get("a*:k") == 1
    assert 900 < (cache.ttl("a*:k") or 0) <= 1000
    cache.set_many({"k": 2, "ab:k": 3})
    assert list(here) == ["k"]
    here.clear()
    assert cache.get_many(["a*:k", "k", "ab:k"]) == {"k": 2, "ab:k": 3}


KEYS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
    | st.dates()
    | st.uuids(),
    lambda inner: st.lists(inner).map(tuple) | st.frozensets(inner),
)


@given(KEYS, KEYS)
def test_no_two_keys_are_one(one: object, other: object) -> None:
    """Different keys have different texts, whatever their types."""
    mapping = CacheMapping(None, None, "")
    assert (mapping._text(one) == mapping._text(other)) == (repr(one) == repr(other))


@given(KEYS)
def test_a_walk_yields_what_reads(key: object) -> None:
    """What a walk yields for a key is read at the same place; texts come back as they were."""
    mapping = CacheMapping(None, None, "prefix:")
    text = mapping._text(key)
    walked = mapping._key(text)
    assert mapping._text(walked) == text
    assert not isinstance(key, str) or walked == key


@pytest.mark.parametrize("key", [date(2026, 1, 1), UUID(int=1), Colour.RED, ("k" * 70_000,)])
def test_keys_of_many_types(cache: ShardCache, key: object) -> None:
    """Whatever has a stable text may be a key, also a long one."""
    here = cache.mapping()
    here[key] = "value"
    assert (here[key], [here[one] for one in here]) == ("value", ["value"])


def test_dead_shard(mortal: LocalShards) -> None:
    """Keys of a shard that is out are absent, and the function is called."""
    with ShardCache(mortal.urls, timeout=20) as cache:
        here = cache.mapping()
        here.update({str(n): n for n in range(20)})
        for server in mortal.servers:
            server.kill()
        here["1"] = 1
        assert ("1" in here, list(here), here.get("1")) == (False, [], None)
        assert here.setdefault("1", 7) == 7
        here.clear()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        pytest.param(lambda cache: cache.mapping(ttl="1"), InvalidTTL, id="ttl"),
        pytest.param(lambda cache: cache.mapping(prefix=b"x"), InvalidOption, id="prefix"),
        pytest.param(lambda cache: cache.mapping()[object()], InvalidArgument, id="key"),
    ],
)
def test_what_cannot_be(
    cache: ShardCache, wrong: Callable[[ShardCache], object], error: type[Exception]
) -> None:
    """What is wrong is an error at once; a key without a stable text is no KeyError."""
    with pytest.raises(error):
        wrong(cache)
