"""Many keys in one call."""

from shardcache import Failed, Hit, Miss

KEYS = [f"key-{number}" for number in range(50)]


def test_round_trip(cache) -> None:
    """What set_many stores, get_many finds, and only that."""
    values = {key: [key, None] for key in KEYS}
    assert cache.set_many(values) == []
    assert cache.get_many([*KEYS, "absent"]) == values
    assert {cache.explain(key).shard for key in KEYS} == {"shard-1", "shard-2", "shard-3"}


def test_order_of_asking(cache) -> None:
    """Results come in the order of asking, duplicates once."""
    cache.set_many({key: key for key in KEYS})
    asked = [*reversed(KEYS), *KEYS, "absent"]
    assert list(cache.get_many(asked)) == KEYS[::-1]
    assert list(cache.fetch_many(asked)) == [*KEYS[::-1], "absent"]


def test_stored_none_is_a_hit(cache) -> None:
    """A stored None is among the hits."""
    cache.set("k", None)
    assert (cache.get_many(["k", "x"]), cache.fetch_many(["k", "x"]).hits) == (
        {"k": None},
        {"k": None},
    )


def test_fetch_many_says_why(cache) -> None:
    """Each key has a Hit or a Miss."""
    cache.set("k", 1)
    found = cache.fetch_many(["k", "x"])
    assert dict(found) == {"k": Hit(1), "x": Miss()}
    assert (found.hits, found.misses, found.failures) == ({"k": 1}, ["x"], {})


def test_str_and_bytes_mixed(cache) -> None:
    """Each key comes back as it was given."""
    cache.set_many({"a": 1, b"\xff": 2})
    assert cache.get_many(["a", b"a", b"\xff"]) == {"a": 1, b"a": 1, b"\xff": 2}
    assert (cache.delete_many(["a", b"a", b"\xff", "x"]), cache.get_many(["a", b"\xff"])) == (2, {})


def test_nothing_asked(cache) -> None:
    """No keys: nothing found, nothing stored, nothing deleted."""
    assert (
        cache.get_many([]),
        dict(cache.fetch_many([])),
        cache.set_many({}),
        cache.delete_many([]),
    ) == (
        {},
        {},
        [],
        0,
    )


def test_any_iterable(cache) -> None:
    """Generators, sets and dicts serve as keys."""
    cache.set_many({"a": 1, "b": 2})
    assert cache.get_many(key for key in "ab") == {"a": 1, "b": 2}
    assert cache.get_many({"a"}) == {"a": 1}
    assert (cache.get_many({"a": 0}), cache.delete_many(iter("ab"))) == ({"a": 1}, 2)


def test_thousands(cache) -> None:
    """Five thousand keys take several commands a shard, and no value lands under another key."""
    values = {f"{number}": number for number in range(5000)}
    assert cache.set_many(values) == []
    assert cache.get_many([*values, *(f"x{number}" for number in range(5000))]) == values
    assert (cache.delete_many(values), cache.get_many(values)) == (5000, {})


def test_big_values(cache) -> None:
    """Values beyond every socket buffer go both ways in one exchange."""
    values = {f"{number}": bytes([number]) * 2_000_000 for number in range(8)}
    assert (cache.set_many(values), cache.get_many(values)) == ([], values)


def test_ttl(make) -> None:
    """set_many takes the ttls of set: left out, None, seconds, and zero deletes."""
    cache = make(default_ttl=50)
    cache.set_many({"a": 1})
    cache.set_many({"b": 1}, ttl=None)
    cache.set_many({"c": 1}, ttl=0.9)
    assert (49 < cache.ttl("a") <= 50, cache.ttl("b"), 0 < cache.ttl("c") <= 0.9) == (
        True,
        None,
        True,
    )
    assert (cache.set_many({"a": 2, "b": 2, "x": 2}, ttl=0), cache.get_many(["a", "b", "x"])) == (
        [],
        {},
    )
    assert ("a" in cache, "b" in cache) == (False, False)


def test_hash_tags(cache) -> None:
    """Keys with one tag share a shard, and tags are no part of the namespace's business."""
    keys = [f"{{user:7}}:{number}" for number in range(30)]
    assert {cache.explain(key).shard for key in keys} == {cache.explain("{user:7}").shard}
    assert {cache.explain(key).hashed for key in keys} == {b"user:7"}
    cache.set_many({key: key for key in keys})
    assert cache.get_many(keys) == {key: key for key in keys}


def test_stats_count_keys(cache) -> None:
    """Hits and misses are counted by key in every method that reads."""
    cache.set_many({"a": 1, "b": 2})
    cache.get("a")
    cache.get("x")
    cache.get_many(["a", "b", "x"])
    cache.fetch_many(["a", "y"])
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.errors, stats.damaged) == (4, 3, 0, 0)


def test_list_under_our_key(cache, raw, namespace) -> None:
    """Another client's list is never a hit."""
    raw(cache, "k").rpush(f"{namespace}:k", "a")
    assert cache.get_many(["k"]) == {}
    assert isinstance(cache.fetch_many(["k"])["k"], (Miss, Failed))
