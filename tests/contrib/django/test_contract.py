"""Django's cache API: the same tests for our backend, its asyncio methods, and two others.

These are Django's own on Redis, and django-redis.
"""

import pickle
import time
from typing import Any

import pytest
from django.core.cache.backends.base import CacheKeyWarning
from django.http import HttpResponse
from django.utils.functional import lazystr
from django.utils.safestring import SafeString
from redis.exceptions import ResponseError

SOON = 20  # seconds in which a short timeout has surely ended


def _gone(cache: Any, key: str) -> bool:
    end = time.monotonic() + SOON
    while cache.has_key(key):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_hits_and_misses(cache) -> None:
    """A stored None is a hit, whoever asks; what is absent is the default."""
    cache.set("none", None)
    assert (cache.get("none", "default"), cache.get("absent"), cache.get("absent", 7)) == (
        None,
        None,
        7,
    )
    assert cache.get_many(["none", "absent"]) == {"none": None}
    assert cache.get_or_set("none", "other") is None
    assert ("none" in cache, "absent" in cache, cache.has_key("none")) == (True, False, True)


@pytest.mark.parametrize("timeout", [0, -1, -0.5])
def test_timeout_of_no_time(cache, timeout) -> None:
    """Zero or less means: not stored, or deleted."""
    cache.set("k", 1)
    cache.set("k", 2, timeout)
    assert cache.get("k") is None
    assert (cache.add("k", 1, timeout), cache.get("k")) == (True, None)
    assert (cache.set_many({"k": 1, "l": 2}, timeout), cache.get_many(["k", "l"])) == ([], {})
    assert (cache.get_or_set("k", 5, timeout), cache.get("k")) == (5, None)
    cache.set("k", 1)
    assert (cache.touch("k", timeout), cache.touch("k", timeout), cache.get("k")) == (
        True,
        False,
        None,
    )


def test_timeouts(new_cache) -> None:
    """None never ends, and the default is that of the settings."""
    cache = new_cache(TIMEOUT=1)
    cache.set("default", 1)
    cache.set("forever", 1, None)
    cache.set_many({"default2": 1, "touched": 1})
    assert cache.touch("touched", None)
    cache.set("shortened", 1, None)
    assert cache.touch("shortened")
    assert all(_gone(cache, key) for key in ("default", "default2", "shortened"))
    assert cache.get_many(["forever", "touched"]) == {"forever": 1, "touched": 1}


def test_add(cache) -> None:
    """Only the first add stores."""
    assert (cache.add("k", 1), cache.add("k", 2), cache.get("k")) == (True, False, 1)


def test_delete(cache) -> None:
    """Delete tells whether the key was there; delete_many tells nothing."""
    cache.set_many({"a": 1, "b": 2, "c": 3})
    assert (cache.delete("a"), cache.delete("a")) == (True, False)
    assert (cache.delete_many(iter(["b", "x"])), cache.get_many("abc")) == (None, {"c": 3})


def test_incr(cache) -> None:
    """Counting needs a number, and keeps its timeout."""
    cache.set("n", 41, None)
    assert (cache.incr("n"), cache.decr("n", 10), cache.incr("n", -2), cache.get("n")) == (
        42,
        32,
        30,
        30,
    )
    cache.set("short", 1, 1)
    assert cache.incr("short") == 2
    assert _gone(cache, "short")
    for count in (cache.incr, cache.decr):
        with pytest.raises(ValueError, match="absent"):
            count("absent")
        cache.set("text", "ten")
        with pytest.raises(ResponseError):
            count("text")
    assert not cache.has_key("absent")


def test_get_or_set(cache) -> None:
    """A function is called once, and its None is kept."""
    calls: list[int] = []
    assert [cache.get_or_set("k", lambda: calls.append(1), version=3) for _ in range(3)] == [
        None
    ] * 3
    assert (len(calls), cache.has_key("k", version=3), cache.has_key("k")) == (1, True, False)
    with pytest.raises(TypeError):
        cache.get_or_set("k")


def test_versions(new_cache) -> None:
    """A key has a value for each version, and may move from one to another."""
    cache, second = new_cache(), new_cache(VERSION=2)
    cache.set("k", "one")
    assert (second.get("k"), second.get("k", version=1), cache.get("k", version=2)) == (
        None,
        "one",
        None,
    )
    assert cache.incr_version("k") == 2
    assert (cache.get("k"), second.get("k")) == (None, "one")
    assert (second.decr_version("k"), cache.get("k"), second.get("k")) == (1, "one", None)
    for move in (cache.incr_version, cache.decr_version):
        with pytest.raises(ValueError, match="absent"):
            move("absent")
    assert cache.set_many({"a": 1, "b": 2}, version=2) == []
    assert (second.get_many("ab"), cache.get_many("ab")) == ({"a": 1, "b": 2}, {})
    second.delete_many("a")
    assert cache.get_many("ab", version=2) == {"b": 2}


def test_key_function(new_cache) -> None:
    """KEY_FUNCTION makes the stored key, and callers get back what they gave."""
    own = new_cache(KEY_FUNCTION=lambda key, prefix, version: f"{key}|{version}|{prefix}")
    own.set_many({"a": 1, 7: 2})
    assert (own.get_many(["a", 7]), new_cache().get("a")) == ({"a": 1, 7: 2}, None)


VALUES = [
    True,
    False,
    0,
    -(2**63),
    2**80,
    1.5,
    "",
    "ten",
    "10",
    b"\xff\x00",
    SafeString("<b>"),
    {"a": [1, (2, {3})]},
    ValueError,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values(cache, value) -> None:
    """What pickles comes back equal and of its type."""
    cache.set("k", value)
    assert (cache.get("k"), type(cache.get("k"))) == (value, type(value))
    assert (cache.get_many(["k"]), cache.get_or_set("k", 0)) == ({"k": value}, value)


def test_responses_and_lazy_texts(cache) -> None:
    """What Django's middleware and forms put into a cache comes back."""
    cache.set("page", HttpResponse("hello", headers={"X-A": "1"}))
    page = cache.get("page")
    assert (page.content, page["X-A"]) == (b"hello", "1")
    cache.set("lazy", lazystr("text"))
    assert cache.get("lazy") == "text"


class Unpicklable:
    def __getstate__(self) -> None:
        raise pickle.PicklingError("never")


@pytest.mark.parametrize("write", ["set", "add", "get_or_set"])
def test_unpicklable(cache, write) -> None:
    """A value that cannot be pickled is an error of pickle, and nothing is stored."""
    with pytest.raises(pickle.PickleError):
        getattr(cache, write)("k", Unpicklable())
    with pytest.raises(pickle.PickleError):
        cache.set_many({"k": Unpicklable()})
    assert not cache.has_key("k")


CALLS = {
    "get": (),
    "set": (1,),
    "add": (1,),
    "touch": (),
    "delete": (),
    "has_key": (),
    "get_or_set": (1,),
    "incr": (),
    "decr": (),
    "incr_version": (),
    "decr_version": (),
}


@pytest.mark.parametrize("key", ["with space", "control\x01", "x" * 251])
def test_key_warnings(cache, key) -> None:
    """Every method warns of a key that memcached would not take."""
    for name, values in CALLS.items():
        with pytest.warns(CacheKeyWarning):
            cache.set_many({key: 1})
        with pytest.warns(CacheKeyWarning):
            getattr(cache, name)(key, *values)
    for name, keys in (("get_many", [key]), ("delete_many", [key])):
        with pytest.warns(CacheKeyWarning):
            getattr(cache, name)(keys)


def test_close(cache) -> None:
    """Django closes each cache after each request; the next request goes on."""
    cache.set("k", 1)
    cache.close()
    assert cache.get("k") == 1
