"""Wrong arguments are refused before anything is sent.

The message says what was wrong, what is allowed and what came.
"""

import pytest
import redis

from shardcache import errors
from shardcache.embedded import LocalShards

KEY_CALLS = {
    "get": lambda cache, key: cache.get(key),
    "get_many": lambda cache, key: cache.get_many(["ok", key]),
    "fetch_many": lambda cache, key: cache.fetch_many(["ok", key]),
    "set": lambda cache, key: cache.set(key, 1),
    "add": lambda cache, key: cache.add(key, 1),
    "replace": lambda cache, key: cache.replace(key, 1),
    "set_many": lambda cache, key: cache.set_many({"ok": 1, key: 1}),
    "delete": lambda cache, key: cache.delete(key),
    "delete_many": lambda cache, key: cache.delete_many(["ok", key]),
    "incr": lambda cache, key: cache.incr(key, initial=0),
    "decr": lambda cache, key: cache.decr(key, initial=0),
    "touch": lambda cache, key: cache.touch(key),
    "ttl": lambda cache, key: cache.ttl(key),
    "contains": lambda cache, key: cache.contains(key),
    "in": lambda cache, key: key in cache,
    "explain": lambda cache, key: cache.explain(key),
    "pipeline": lambda cache, key: cache.pipeline().get(key),
}
BAD_KEYS = {
    "none": (None, "str or bytes, got NoneType"),
    "int": (5, "str or bytes, got int"),
    "tuple": ((1,), "str or bytes, got tuple"),
    "empty": ("", "must not be empty"),
    "empty-bytes": (b"", "must not be empty"),
    "too-long": ("x" * 65_536, "65536 bytes"),
    "surrogate": ("\ud800", "UTF-8"),
}
TTL_CALLS = {
    "set": lambda cache, ttl: cache.set("k", 1, ttl),
    "add": lambda cache, ttl: cache.add("k", 1, ttl),
    "replace": lambda cache, ttl: cache.replace("k", 1, ttl),
    "set_many": lambda cache, ttl: cache.set_many({"k": 1}, ttl),
    "touch": lambda cache, ttl: cache.touch("k", ttl),
    "incr": lambda cache, ttl: cache.incr("k", initial=0, ttl=ttl),
    "decr": lambda cache, ttl: cache.decr("k", initial=0, ttl=ttl),
    "pipeline": lambda cache, ttl: cache.pipeline().set("k", 1, ttl),
}
VALUE_CALLS = {
    "set": lambda cache, value: cache.set("k", value),
    "add": lambda cache, value: cache.add("k", value),
    "replace": lambda cache, value: cache.replace("k", value),
    "set_many": lambda cache, value: cache.set_many({"ok": 1, "k": value}),
    "set-dead": lambda cache, value: cache.set("k", value, 0),
    "pipeline": lambda cache, value: cache.pipeline().set("k", value),
}


@pytest.fixture
def untouched(make, mortal_quiet, command_count):
    """A client of servers that must not have heard a command when the test is over."""
    before = command_count(mortal_quiet)
    yield make(mortal_quiet.urls)
    assert command_count(mortal_quiet) == before


@pytest.fixture(scope="module")
def mortal_quiet():
    """A server that nobody else talks to."""
    with LocalShards(1) as servers:
        yield servers


@pytest.fixture
def command_count():
    """Count the commands that a fleet has heard, but for the asking."""

    def count(servers) -> int:
        total = 0
        for url in servers.urls.values():
            with redis.Redis.from_url(url) as plain:
                stats = plain.info("commandstats")
            names = ("cmdstat_info", "cmdstat_hello", "cmdstat_client|setinfo")
            total += sum(stat["calls"] for name, stat in stats.items() if name not in names)
        return total

    return count


@pytest.mark.parametrize("call", KEY_CALLS.values(), ids=KEY_CALLS)
@pytest.mark.parametrize(("key", "says"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_wrong_key(untouched, call, key, says) -> None:
    """A wrong key is refused by every method that takes one, together with good keys beside it."""
    with pytest.raises(errors.InvalidKey, match=says):
        call(untouched, key)


@pytest.mark.parametrize("call", TTL_CALLS.values(), ids=TTL_CALLS)
@pytest.mark.parametrize("ttl", ["5", True, float("nan"), float("inf"), 1e12, [1], b"1"], ids=repr)
def test_wrong_ttl(untouched, call, ttl) -> None:
    """A wrong ttl is refused by every method that takes one, and the message quotes it."""
    with pytest.raises(errors.InvalidTTL, match="ttl") as caught:
        call(untouched, ttl)
    assert repr(ttl) in str(caught.value)


@pytest.mark.parametrize("call", VALUE_CALLS.values(), ids=VALUE_CALLS)
@pytest.mark.parametrize(
    "value",
    [object(), [1, {2: lambda: 0}], "\ud800", {1: {b"": 1j}}],
    ids=["object", "nested", "surrogate", "complex"],
)
def test_wrong_value(untouched, call, value) -> None:
    """A value that could not come back the same is refused, with the good values beside it."""
    with pytest.raises(errors.SerializationError, match=r"."):
        call(untouched, value)


@pytest.mark.parametrize("method", ["incr", "decr"])
@pytest.mark.parametrize("name", ["delta", "initial"])
@pytest.mark.parametrize("number", [1.0, "1", True, 2**63, -(2**63) - 1, b"1"], ids=repr)
def test_wrong_number(untouched, method, name, number) -> None:
    """Only ints of 64 bits count; the message names the argument and quotes what came."""
    with pytest.raises(errors.InvalidArgument, match=f"{name} must be") as caught:
        getattr(untouched, method)("k", **{"initial": 0, name: number})
    assert repr(number) in str(caught.value)


@pytest.mark.parametrize("method", ["incr", "decr"])
def test_counter_that_dies_at_once(untouched, method) -> None:
    """A counter cannot start with a ttl of zero."""
    with pytest.raises(errors.InvalidArgument, match="ttl of zero"):
        getattr(untouched, method)("k", initial=0, ttl=0)


@pytest.mark.parametrize("method", ["get_many", "fetch_many", "delete_many"])
@pytest.mark.parametrize("keys", ["abc", b"abc", None, 5, [[]]], ids=repr)
def test_keys_that_are_no_keys(untouched, method, keys) -> None:
    """A lone key where several are meant is refused, not taken letter by letter."""
    with pytest.raises(errors.InvalidKey, match="iterable"):
        getattr(untouched, method)(keys)


@pytest.mark.parametrize("mapping", [None, ["a"], [("a", 1)], "a"], ids=repr)
def test_no_mapping(untouched, mapping) -> None:
    """set_many takes a mapping only."""
    with pytest.raises(errors.InvalidArgument, match="mapping of keys to values, got"):
        untouched.set_many(mapping)


def test_errors_are_value_errors() -> None:
    """Whoever catches ValueError catches every wrong argument."""
    kinds = (
        errors.InvalidKey,
        errors.InvalidTTL,
        errors.SerializationError,
        errors.InvalidArgument,
    )
    assert [issubclass(kind, ValueError) for kind in kinds] == [True] * 4


def test_decr_quotes_what_came(untouched) -> None:
    """The lowest delta has no opposite in 64 bits: decr refuses it in the caller's own terms."""
    with pytest.raises(errors.InvalidArgument) as caught:
        untouched.decr("k", -(2**63))
    assert str(-(2**63)) in str(caught.value)
