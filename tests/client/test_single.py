"""One key at a time: values, lifetimes, conditions, counters."""

import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest

from shardcache import MISS
from shardcache.errors import InvalidArgument, KeyMissing, WrongType

VALUES = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**200,
    0.5,
    float("inf"),
    "",
    "text",
    "π\x00\r\n",
    "12",
    b"",
    b"12",
    b"\x00\xf5\xff",
    [1, [2, (3,)]],
    (),
    (1, "a", None),
    {1, 2},
    frozenset({"a"}),
    {"a": {1: (b"b", [None])}},
    datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    datetime(2026, 1, 2),  # noqa: DTZ001  naive on purpose
    date(2026, 1, 2),
    time(1, 2, 3),
    timedelta(days=-1, microseconds=5),
    Decimal("1.10"),
    uuid.UUID(int=5),
    "x" * 1_000_000,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{value!r:.45}")
def test_value_comes_back(cache, value) -> None:
    """A value comes back equal and of the same type."""
    assert cache.set("k", value) is True
    found = cache.get("k", MISS)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_compressed_value_comes_back(make, compression) -> None:
    """Compression changes nothing but the size."""
    cache = make(compression=compression)
    cache.set("k", ["a" * 5000])
    assert (cache.get("k"), make().get("k")) == (["a" * 5000], ["a" * 5000])


@pytest.mark.parametrize(
    "key", ["a", "a b", "\x00\r\n", "é", b"\xff\xfe", "*", "a:b", "{", "{}", "}{", "x" * 60_000]
)
def test_any_key(cache, key) -> None:
    """Spaces, control characters and bytes are legal in a key."""
    cache.set(key, "v")
    assert (cache.get(key), key in cache, cache.delete(key), cache.get(key)) == (
        "v",
        True,
        True,
        None,
    )


def test_str_and_bytes_are_one_key(cache) -> None:
    """A str key and its UTF-8 bytes are the same key."""
    cache.set("é", 1)
    assert cache.get("é".encode()) == 1


def test_miss_and_stored_none(cache) -> None:
    """A miss answers the default, a stored None does not."""
    cache.set("none", None)
    assert (cache.get("none", 5), cache.get("absent", 5), cache.get("absent")) == (None, 5, None)
    assert (cache.get("none", MISS), cache.get("absent", MISS)) == (None, MISS)


def test_namespaces_do_not_see_each_other(make, namespace) -> None:
    """The same key in two namespaces is two keys."""
    one, two = make(), make(namespace=namespace + "2")
    one.set("k", 1)
    assert (two.get("k"), two.delete("k"), one.get("k")) == (None, False, 1)


def test_namespace_within_a_namespace(make, namespace) -> None:
    """A namespace that goes on after a colon lies inside the shorter one."""
    outer, inner = make(), make(namespace=f"{namespace}:in")
    inner.set("k", 1)
    assert (outer.get("in:k"), list(outer.scan()), list(inner.scan())) == (1, ["in:k"], ["k"])


def test_ttl_left_out_is_the_default(make) -> None:
    """A ttl left out is the client's default_ttl, None is no expiry."""
    cache = make(default_ttl=50)
    cache.set("a", 1)
    cache.set("b", 1, None)
    assert 49 < cache.ttl("a") <= 50
    assert (cache.ttl("b"), cache.ttl("absent")) == (None, 0.0)


def test_default_ttl_none(make) -> None:
    """A default_ttl of None stores without expiry."""
    cache = make(default_ttl=None)
    cache.set("a", 1)
    assert cache.ttl("a") is None


@pytest.mark.parametrize(
    ("ttl", "low", "high"), [(10, 9, 10), (0.9, 0, 0.9), (timedelta(minutes=1), 59, 60)]
)
def test_ttl_forms(cache, ttl, low, high) -> None:
    """Seconds as int or float and timedeltas are taken by set, add, replace and touch alike."""
    cache.set("a", 1, ttl)
    cache.add("b", 1, ttl)
    cache.replace("a", 2, ttl)
    lasts = [cache.ttl("a"), cache.ttl("b")]
    cache.touch("b", ttl)
    lasts.append(cache.ttl("b"))
    assert [low < left <= high for left in lasts] == [True] * 3


def test_set_forgets_the_old_ttl(cache) -> None:
    """A set with None takes away the expiry that was there."""
    cache.set("k", 1, 10)
    cache.set("k", 2, None)
    assert cache.ttl("k") is None


@pytest.mark.parametrize("ttl", [0, -1, timedelta(0), -0.5])
def test_dead_on_arrival(cache, ttl) -> None:
    """A ttl of zero or less deletes on set, and stores nothing on add and replace."""
    cache.set("k", 1)
    assert (cache.add("k", 2, ttl), cache.get("k")) == (False, 1)
    assert (cache.set("k", 2, ttl), "k" in cache) == (True, False)
    assert (cache.add("k", 2, ttl), "k" in cache) == (True, False)
    assert (cache.replace("k", 2, ttl), "k" in cache) == (False, False)
    cache.set("k", 1)
    assert (cache.replace("k", 2, ttl), "k" in cache) == (True, False)


def test_add(cache) -> None:
    """Add stores only where nothing is."""
    assert (cache.add("k", 1), cache.add("k", 2), cache.get("k")) == (True, False, 1)


def test_replace(cache) -> None:
    """Replace stores only where something is."""
    assert (cache.replace("k", 1), cache.get("k")) == (False, None)
    cache.set("k", 1)
    assert (cache.replace("k", 2), cache.get("k")) == (True, 2)


def test_delete(cache) -> None:
    """Delete says whether the key was there."""
    cache.set("k", None)
    assert (cache.delete("k"), cache.delete("k")) == (True, False)


def test_contains(cache) -> None:
    """Contains and ``in`` agree, and a stored None is there."""
    cache.set("k", None)
    assert (cache.contains("k"), "k" in cache, cache.contains("x"), "x" in cache) == (
        True,
        True,
        False,
        False,
    )


def test_incr_and_decr(cache) -> None:
    """Counting returns the sum, and what is stored is an int."""
    cache.set("n", 5)
    assert (cache.incr("n"), cache.incr("n", 10), cache.decr("n"), cache.decr("n", 20)) == (
        6,
        16,
        15,
        -5,
    )
    assert (cache.get("n"), type(cache.get("n"))) == (-5, int)


def test_incr_keeps_the_ttl(cache) -> None:
    """The expiry of a counter that is there does not change, whatever ttl is given."""
    cache.set("n", 1, 10)
    cache.incr("n", 1, initial=0, ttl=1000)
    assert 0 < cache.ttl("n") <= 10


@pytest.mark.parametrize("method", ["incr", "decr"])
def test_count_on_an_absent_key(cache, method) -> None:
    """An absent key raises KeyMissing, a ValueError, and is not created."""
    with pytest.raises(KeyMissing, match="initial") as caught:
        getattr(cache, method)("n")
    assert (isinstance(caught.value, ValueError), "n" in cache) == (True, False)


def test_count_from_initial(make) -> None:
    """An absent key starts from ``initial``, with the ttl given or the default."""
    cache = make(default_ttl=70)
    assert (cache.incr("a", 2, initial=10), cache.decr("b", 2, initial=10, ttl=None)) == (12, 8)
    assert (cache.incr("c", initial=0, ttl=30), cache.get("c")) == (1, 1)
    assert (60 < cache.ttl("a") <= 70, cache.ttl("b"), 20 < cache.ttl("c") <= 30) == (
        True,
        None,
        True,
    )


@pytest.mark.parametrize("value", ["text", "5", 1.5, None, [1], 2**70])
def test_count_on_another_type(cache, value) -> None:
    """A value that is no 64-bit int raises WrongType, names the shard, and stays."""
    cache.set("k", value)
    with pytest.raises(WrongType) as caught:
        cache.incr("k")
    assert (caught.value.shard, cache.get("k")) == (cache.explain("k").shard, value)


def test_count_on_a_list(cache, raw, namespace) -> None:
    """Another client's list raises WrongType."""
    raw(cache, "k").rpush(f"{namespace}:k", "a")
    with pytest.raises(WrongType):
        cache.incr("k")


@pytest.mark.parametrize("big", [2**53 + 1, 2**62 + 1, 2**63 - 2, -(2**53) - 1, -(2**63) + 1])
def test_big_counts_are_exact(cache, big) -> None:
    """No digit is lost beyond what a double can hold."""
    assert (cache.incr("a", big, initial=0), cache.get("a")) == (big, big)
    cache.set("b", big)
    assert (cache.incr("b"), cache.get("b")) == (big + 1, big + 1)


def test_overflow(cache) -> None:
    """A sum beyond 64 bits is refused, and the counter stays."""
    cache.set("n", 2**63 - 1)
    with pytest.raises(WrongType, match="overflow"):
        cache.incr("n")
    assert cache.get("n") == 2**63 - 1


def test_overflow_from_initial(cache) -> None:
    """A sum beyond 64 bits is refused on an absent key as well, which stays absent."""
    with pytest.raises((InvalidArgument, WrongType)):
        cache.incr("n", 1, initial=2**63 - 1)
    assert "n" not in cache


def test_touch(cache) -> None:
    """Touch gives a new ttl, None takes it away, and says whether the key was there."""
    cache.set("k", 1, 10)
    assert (cache.touch("k", 100), 90 < cache.ttl("k") <= 100) == (True, True)
    assert (cache.touch("k", None), cache.ttl("k")) == (True, None)
    assert (cache.touch("k", None), cache.touch("k"), 200 < cache.ttl("k") <= 300) == (
        True,
        True,
        True,
    )
    assert (cache.touch("x"), cache.touch("x", None), cache.touch("x", 0)) == (False, False, False)
    assert cache.get("k") == 1


@pytest.mark.parametrize("ttl", [0, -5, timedelta(0)])
def test_touch_to_zero_deletes(cache, ttl) -> None:
    """A touch with zero or less deletes."""
    cache.set("k", 1)
    assert (cache.touch("k", ttl), "k" in cache) == (True, False)


def test_ttl_of_odd_keys(cache) -> None:
    """No expiry is None, an absent key is 0.0."""
    cache.set("k", 1, None)
    assert (cache.ttl("k"), cache.ttl("x")) == (None, 0.0)
