"""Tags: values on any shard that are a miss from one moment on, found by every way of reading."""

import pytest

from shardcache import MISS, Hit, LoadPolicy, LoadResult, Miss, Options
from tests.waiting import until

KEYS = [f"k{n}" for n in range(9)]  # on every shard


def tag_key(cache, tag):
    return cache._context.keys.internal(b"tag", cache.explain(tag).wire_key)


def test_invalidating_reaches_every_shard(make, counter) -> None:
    """Values set and loaded, in one process or another; others stay."""
    one, two = make(), make()
    for key in KEYS:
        assert one.set(key, key, tags=["all", key]) is True
    assert two.get_or_set("loaded", counter, tags=["all"]) == 1
    assert two.get_many([*KEYS, "loaded"]) == {key: key for key in KEYS} | {"loaded": 1}
    assert one.invalidate_tags(["k3", "never"]) == 1
    assert two.get_many(KEYS) == {key: key for key in KEYS if key != "k3"}
    assert one.invalidate_tags(["all"]) == 1
    assert two.get_many([*KEYS, "loaded"]) == {}
    assert two.get_or_set("loaded", counter, tags=["all"]) == 2
    assert one.get("loaded") == 2


def test_tags_that_can_be_read_once(cache, counter) -> None:
    """Any iterable of names will do, a generator too."""
    assert cache.get_or_set("k", counter, tags=(tag for tag in ["t"])) == 1
    found = cache.get_or_set_many(["a"], lambda keys: dict.fromkeys(keys, 5), tags=iter(["t"]))
    assert found == {"a": 5}
    assert cache.set("s", 7, tags=iter(["t"])) is True
    assert cache.get_many(["k", "a", "s"]) == {"k": 1, "a": 5, "s": 7}
    cache.invalidate_tags(tag for tag in ["t"])
    assert cache.get_many(["k", "a", "s"]) == {}


def test_every_way_of_reading(cache) -> None:
    """Get, get_many, fetch_many and a pipeline: a value while the tag is good, then a miss."""

    def read():
        pipe = cache.pipeline()
        pipe.get("k")
        pipe.get("k", "default")
        return [
            cache.get("k"),
            cache.get("k", MISS),
            cache.get_many(["k"]),
            cache.fetch_many(["k"])["k"],
            pipe.execute(),
        ]

    cache.set("k", [1], tags=["t"])
    assert read() == [[1], [1], {"k": [1]}, Hit([1]), [[1], [1]]]
    cache.invalidate_tags(["t"])
    assert read() == [None, MISS, {}, Miss(), [None, "default"]]


def test_refusals_in_every_way_of_reading(cache, counter) -> None:
    """A remembered refusal is a miss to all that do not load."""
    policy = LoadPolicy(negative_on=(ZeroDivisionError,), negative_ttl=60)
    with pytest.raises(ZeroDivisionError):
        cache.get_or_set("k", counter.of(lambda: 1 / 0), policy=policy)
    pipe = cache.pipeline()
    pipe.get("k", "default")
    assert (
        pipe.execute(),
        cache.fetch_many(["k"])["k"],
        cache.get_or_set_many(["k"], counter),
    ) == (
        ["default"],
        Miss(),
        {},
    )
    assert counter.calls == 1


def test_get_or_set_many_with_tags(cache, counter) -> None:
    """Loaded values carry them too."""
    loader = counter.of(lambda keys: dict.fromkeys(keys, 1))
    for calls in (1, 2):
        for _ in range(2):
            assert cache.get_or_set_many(KEYS, loader, tags=["t"]) == dict.fromkeys(KEYS, 1)
        assert counter.calls == calls
        cache.invalidate_tags(["t"])


def test_get_or_set_many_with_tags_and_no_results(cache, counter) -> None:
    """A loader may leave out every key: then there is nothing to tag."""
    assert cache.get_or_set_many(KEYS, counter.of(lambda keys: {}), 10, tags=["t"]) == {}
    assert counter.calls == 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_tag_lasts_as_long_as_the_longest_of_many(cache, servers, counter, order) -> None:
    """For ever, if one of the results does."""
    results = {"one": LoadResult(1, None), "two": 2, "three": LoadResult(3, 7200)}
    loader = counter.of(lambda keys: dict(list(results.items())[::order]))
    assert len(cache.get_or_set_many(results, loader, 10, tags=["t"])) == 3
    lefts = [server.pttl(tag_key(cache, "t")) for server in servers.by_name.values()]
    assert [left for left in lefts if left != -2] == [-1]


def test_an_evicted_tag_is_a_miss(cache, servers, counter) -> None:
    """Never the other way round."""
    cache.get_or_set("k", counter, tags=["t"])
    for server in servers.by_name.values():
        server.delete(tag_key(cache, "t"))
    assert (cache.get("k"), cache.get_or_set("k", counter, tags=["t"]), cache.get("k")) == (
        None,
        2,
        2,
    )


def test_a_tag_invalidated_during_the_load(make, begin, gate) -> None:
    """What was loaded before is a miss after it."""
    one, two = make(), make()
    call = begin(lambda: one.get_or_set("k", gate("old"), tags=["t"]))
    gate.begun()
    assert two.invalidate_tags(["t"]) == 1
    gate.open()
    assert (call.result(), two.get("k"), one.get("k")) == ("old", None, None)


@pytest.mark.parametrize(("ttl", "own"), [(10, None), (10, 5000), (None, None), (5, 10)])
def test_tags_outlive_their_values(cache, servers, ttl, own) -> None:
    """A tag lives longer than its value, also with a loader's ttl, and expires with it."""
    result = LoadResult("v", own) if own else "v"
    cache.get_or_set("k", lambda: result, ttl, tags=["t"])
    [left] = [
        one
        for server in servers.by_name.values()
        if (one := server.pttl(tag_key(cache, "t"))) != -2
    ]
    assert left == -1 if ttl is None else left > max(ttl, own or 0) * 1000


def test_tagged_values_are_refreshed_too(cache, counter) -> None:
    """Stale while revalidate with a tag; a stale value whose tag is gone is not served."""
    policy = LoadPolicy.swr()
    cache.get_or_set("k", "old", 0.02, policy=policy, tags=["t"])
    until(lambda: cache.ttl("k") == 0)
    assert cache.get_or_set("k", counter, 0.02, policy=policy, tags=["t"]) == "old"
    until(lambda: cache.get("k") == 1 and cache.ttl("k") == 0)
    cache.invalidate_tags(["t"])
    assert cache.get_or_set("k", counter, 60, policy=policy, tags=["t"]) == 2


def test_a_tags_shard_that_is_out(mortal, make, counter) -> None:
    """The value counts as a miss, is loaded, returned, and not stored; nothing hangs."""
    cache = make(mortal.urls, timeout=0.5, options=Options(first_probe=60, max_probe=60))
    names = list(mortal.urls)
    dead = names[1]
    tag = next(
        f"t{n}"
        for n in range(99)
        if cache._context.topology.known[
            cache._context.topology.owner_index(tag_key(cache, f"t{n}"))
        ].node.name
        == dead
    )
    key = next(key for key in KEYS if cache.explain(key).shard != dead)
    assert cache.get_or_set(key, counter, tags=[tag]) == 1
    mortal.servers[1].kill()
    assert [cache.get_or_set(key, counter, tags=[tag]) for _ in range(2)] == [2, 3]
    assert cache.get(key) is None
    assert cache.stats().loading.not_stored == 2
    assert cache.set(key, 1, tags=[tag]) is False


def test_signed_tagged_values(make, counter) -> None:
    """Tags and signatures go together; without the key it is damaged, and loaded anew."""
    signed = make(options=Options(signing_key=b"k" * 32))
    assert [signed.get_or_set("k", counter.of(lambda: ["v"]), tags=["t"]) for _ in range(2)] == [
        ["v"]
    ] * 2
    assert counter.calls == 1
    other = make(options=Options(signing_key=b"o" * 32))
    assert other.get_or_set("k", ["mine"], tags=["t"]) == ["mine"]
    assert (other.stats().damaged, signed.get("k")) == (1, None)
