"""Values of other programs, read by a serializer that says that it reads them.

They are written so that other programs can read them.
"""

import json
import pickle
import zlib

import pytest
from redis import Redis

from shardcache import LoadPolicy, Options, errors


class Django:
    """Reads what django-redis writes: a pickle, compressed or not; ints are bare digits in both."""

    reads_foreign = True

    def dumps(self, value):
        return pickle.dumps(value)

    def loads(self, data):
        return pickle.loads(zlib.decompress(data) if data[:1] == b"x" else data)


class Flask:
    """Reads what Flask-Caching writes: a pickle behind a "!", or digits."""

    reads_foreign = True

    def dumps(self, value):
        return b"!" + pickle.dumps(value)

    def loads(self, data):
        return pickle.loads(data.removeprefix(b"!")) if data.startswith(b"!") else data


class Go:
    """Reads what a service in another language writes as JSON."""

    reads_foreign = True

    def dumps(self, value):
        return json.dumps(value).encode()

    def loads(self, data):
        return json.loads(data)


class Quiet(Go):
    """One that does not say so."""

    reads_foreign = False


VALUE = {"user": 1, "tags": ["a"]}


@pytest.mark.parametrize(
    ("serializer", "stored", "value"),
    [
        (Django(), pickle.dumps(VALUE, -1), VALUE),
        (Django(), zlib.compress(pickle.dumps(VALUE)), VALUE),
        (Django(), b"41", 41),
        (Flask(), b"!" + pickle.dumps(VALUE), VALUE),
        (Flask(), b"text", b"text"),
        (Go(), b'{"user": 1, "tags": ["a"]}', VALUE),
        (Go(), b"-7", -7),
        (Go(), b"1.5", 1.5),
        (Quiet(), b'{"user": 1}', b'{"user": 1}'),
        ("safe", b'{"user": 1}', b'{"user": 1}'),
    ],
    ids=range(10),
)
def test_foreign_bytes_are_read(make, raw, namespace, serializer, stored, value):
    """By every way of reading; a serializer that does not ask for them never sees them."""
    cache = make(serializer=serializer)
    raw(cache, "k").set(f"{namespace}:k", stored)
    assert (cache.get("k"), cache.get_many(["k"]), cache.get_or_set("k", lambda: "new")) == (
        value,
        {"k": value},
        value,
    )
    with cache.pipeline() as pipe:
        pipe.get("k")
    assert pipe.results == [value]
    assert cache.set("own", VALUE) is True
    assert cache.get("own") == VALUE


@pytest.mark.parametrize("signed", [False, True], ids=["open", "signed"])
def test_foreign_bytes_that_do_not_load(make, raw, namespace, events, signed):
    """Damaged, as any payload; with a signing key nothing foreign is read at all."""
    cache = make(
        serializer=Go(),
        options=Options(on_event=events.append, signing_key="k" * 16 if signed else None),
    )
    raw(cache, "k").set(f"{namespace}:k", b'"fine"' if signed else b"{broken")
    assert (cache.get("k", "default"), [event.kind for event in events]) == ("default", ["damaged"])


@pytest.mark.parametrize(
    "value", [b"", b"plain", b"42", b"\xf7\xc0", b"\xff\x00", bytes(range(256))], ids=repr
)
def test_raw_is_plain(make, raw, namespace, value):
    """What is stored is what was given, byte for byte, and comes back so, whatever it is."""
    cache = make(serializer="raw")
    assert (cache.set("k", value), cache.set_many({"m": value}), cache.add("a", value)) == (
        True,
        [],
        True,
    )
    assert cache.get_or_set("l", lambda: value) == value
    for key in ("k", "m", "a", "l"):
        assert raw(cache, key).get(f"{namespace}:{key}") == value
    assert cache.get_many(["k", "m", "a", "l", "absent"]) == dict.fromkeys(
        ["k", "m", "a", "l"], value
    )
    assert cache.get_or_set("k", lambda: b"new") == value
    assert {key: hit.value for key, hit in cache.fetch_many(["k"]).items()} == {"k": value}


@pytest.mark.parametrize("value", ["text", 5, None, True, bytearray(b"a"), [b"a"]], ids=repr)
def test_raw_keeps_bytes_alone(make, value):
    """All else would come back as bytes: refused, with what to do."""
    cache = make(serializer="raw")
    with pytest.raises(
        errors.SerializationError, match="serializer 'raw' keeps bytes alone"
    ) as caught:
        cache.set("k", value)
    assert caught.value.value is value
    with pytest.raises(errors.SerializationError, match="keeps bytes alone"):
        cache.get_or_set("k", lambda: value)


def test_raw_counts(make):
    """Counters are digits to everybody, and bytes when they are read."""
    cache = make(serializer="raw")
    assert (cache.incr("n", 5, initial=0), cache.get("n"), cache.incr("n")) == (5, b"5", 6)


@pytest.mark.parametrize(
    "settings",
    [
        {"compression": "zlib"},
        {"options": Options(signing_key="k" * 16)},
        {"options": Options(types=[complex])},
    ],
    ids=["compression", "signing_key", "types"],
)
def test_raw_has_no_room(make, settings):
    """Neither for compression, nor for a signature, nor for types."""
    with pytest.raises(errors.InvalidOption, match="serializer 'raw'"):
        make(serializer="raw", **settings)


@pytest.mark.parametrize(
    "how",
    [
        {"policy": "swr"},
        {"policy": LoadPolicy(negative_on=(LookupError,), negative_ttl=5)},
        {"tags": ["a"]},
    ],
    ids=["stale", "negative", "tags"],
)
def test_raw_has_no_record(make, how):
    """What has to be stored beside the value is refused before the loader runs."""
    cache, calls = make(serializer="raw"), []
    with pytest.raises(errors.InvalidArgument, match="serializer 'raw'"):
        cache.get_or_set("k", lambda: calls.append(1), **how)
    with pytest.raises(errors.InvalidArgument, match="serializer 'raw'"):
        cache.get_or_set_many(["k"], lambda keys: calls.append(1), **how)
    assert calls == []
    with pytest.raises(errors.InvalidArgument, match="serializer 'raw'"):
        cache.set("k", b"v", tags=["a"])
    assert cache.get("k") is None


def test_max_value_of_raw(make):
    """Is kept at the write."""
    cache = make(serializer="raw", options=Options(max_value=100))
    assert cache.set("k", b"x" * 100) is True
    with pytest.raises(errors.SerializationError, match="max_value allows 100"):
        cache.set("k", b"x" * 101)


def test_two_clients_of_one_key(make, raw, namespace):
    """redis-py and a raw client see the same."""
    cache = make(serializer="raw")
    other: Redis = raw(cache, "k")
    other.set(f"{namespace}:k", "from redis-py")
    assert cache.get("k") == b"from redis-py"
    cache.set("k", json.dumps(VALUE).encode())
    assert json.loads(other.get(f"{namespace}:k")) == VALUE
