"""What other programs left under our keys, and what does not decode."""

import pytest

from shardcache import MISS, Failed, Options
from shardcache.errors import DamagedPayload, WrongType

DAMAGED = [
    b"\xf7",
    b"\xf7\xc1",
    b"\xf7\x92\x01",
    b"\xfb\x00\x00\x00\x01",
    b"\xfd\x00",
    b"\xff",
    b"\xf6\xff\xfe",
]


@pytest.mark.parametrize(
    ("stored", "value"),
    [
        (b"12", 12),
        (b"-5", -5),
        (b"plain", b"plain"),
        (b"", b""),
        (b'{"a": 1}', b'{"a": 1}'),
        ("é".encode(), "é".encode()),
    ],
    ids=["digits", "negative", "text", "empty", "json", "utf-8"],
)
def test_values_without_a_header(cache, raw, namespace, stored, value) -> None:
    """Digits are an int, anything else without a header is bytes."""
    raw(cache, "k").set(f"{namespace}:k", stored)
    assert (cache.get("k"), cache.get_many(["k"])) == (value, {"k": value})


def test_our_ints_are_plain_digits(cache, raw, namespace) -> None:
    """Others can read and count our ints."""
    cache.set("n", 41)
    assert raw(cache, "n").incr(f"{namespace}:n") == 42
    assert cache.get("n") == 42


def test_namespace_and_key_make_the_wire_key(cache, raw, namespace) -> None:
    """A value lies under namespace, colon, key, with its ttl."""
    cache.set("k", 1, 10)
    assert 0 < raw(cache, "k").pttl(f"{namespace}:k") <= 10_000


def test_list_is_a_miss(cache, raw, namespace) -> None:
    """Another type of value is as unreadable as a damaged one."""
    raw(cache, "k").rpush(f"{namespace}:k", "a")
    assert (cache.get("k", MISS), cache.stats().damaged) == (MISS, 1)


def test_list_raises(make, raw, namespace) -> None:
    """Under "raise" another type of value is an error that names the shard."""
    cache = make(on_unavailable="raise")
    raw(cache, "k").rpush(f"{namespace}:k", "a")
    with pytest.raises(WrongType) as caught:
        cache.get("k")
    assert caught.value.shard == cache.explain("k").shard


@pytest.mark.parametrize("stored", DAMAGED, ids=repr)
def test_damaged_is_a_miss(make, raw, namespace, events, stored) -> None:
    """A damaged payload is a miss, counted, and told with the shard's name."""
    cache = make(options=Options(on_event=events.append))
    raw(cache, "k").set(f"{namespace}:k", stored)
    assert cache.get("k", MISS) is MISS
    [event] = events
    assert (event.kind, event.operation, event.keys, type(event.error)) == (
        "damaged",
        "get",
        1,
        DamagedPayload,
    )
    assert (event.shard, cache.stats().damaged) == (cache.explain("k").shard, 1)


def test_damaged_among_many(make, raw, namespace, events) -> None:
    """One damaged payload spoils nobody else's value, in get_many, fetch_many and a pipeline."""
    cache = make(options=Options(on_event=events.append))
    cache.set_many({"a": 1, "b": 2})
    raw(cache, "k").set(f"{namespace}:k", b"\xf7\xc1")
    assert cache.get_many(["a", "k", "b"]) == {"a": 1, "b": 2}
    found = cache.fetch_many(["a", "k", "b"])
    assert (found.hits, type(found.failures["k"])) == ({"a": 1, "b": 2}, DamagedPayload)
    with cache.pipeline() as pipe:
        pipe.get("a")
        pipe.get("k", "gone")
    assert pipe.results == [1, "gone"]
    assert ([event.operation for event in events], cache.stats().damaged) == (
        ["get_many", "fetch_many", "get"],
        3,
    )
    assert {event.kind for event in events} == {"damaged"}


def test_damaged_among_many_names_its_shard(make, raw, namespace, events) -> None:
    """The event of a damaged payload names the shard in the batch methods as well."""
    cache = make(options=Options(on_event=events.append))
    raw(cache, "k").set(f"{namespace}:k", b"\xf7\xc1")
    cache.get_many(["k"])
    cache.fetch_many(["k"])
    assert [event.shard for event in events] == [cache.explain("k").shard] * 2


@pytest.mark.parametrize("stored", DAMAGED, ids=repr)
def test_damaged_raises(make, raw, namespace, events, stored) -> None:
    """Under "raise" a damaged payload raises from get, get_many and a pipeline, not fetch_many."""
    cache = make(on_unavailable="raise", options=Options(on_event=events.append))
    raw(cache, "k").set(f"{namespace}:k", stored)
    with pytest.raises(DamagedPayload):
        cache.get("k")
    with pytest.raises(DamagedPayload):
        cache.get_many(["k"])
    with pytest.raises(DamagedPayload), cache.pipeline() as pipe:
        pipe.get("k")
    assert isinstance(cache.fetch_many(["k"])["k"], Failed)
    assert (cache.stats().damaged, cache.stats().errors) == (4, 3)
    assert [event.kind for event in events] == ["damaged"] * 4


def test_damaged_can_be_overwritten(cache, raw, namespace) -> None:
    """A damaged value is there for contains, and set puts it right."""
    raw(cache, "k").set(f"{namespace}:k", b"\xf7\xc1")
    assert ("k" in cache, cache.set("k", 1), cache.get("k")) == (True, True, 1)


def test_signed_values(make, raw, namespace) -> None:
    """A signed value moved to another key does not pass, nor does one signed with another key."""
    cache = make(options=Options(signing_key=b"k" * 32))
    cache.set("a", "secret")
    stolen = raw(cache, "a").get(f"{namespace}:a")
    raw(cache, "b").set(f"{namespace}:b", stolen)
    other = make(options=Options(signing_key=b"x" * 32))
    assert (cache.get("a"), cache.get("b"), other.get("a"), make().get("a")) == (
        "secret",
        None,
        None,
        None,
    )
