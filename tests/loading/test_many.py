"""Many keys at once: one read, one call of the loader, each key loaded once in the fleet."""

import pytest

from shardcache import LoadPolicy, LoadResult, Options, errors
from tests.waiting import until

KEYS = [f"k{n}" for n in range(12)]


def upper(keys):
    return {key: key.upper() for key in keys}


def test_only_what_is_missing_is_loaded_in_one_call(cache, counter) -> None:
    """In the order of asking."""
    cache.set("k1", "there")
    asked = []
    loader = counter.of(lambda keys: asked.append(list(keys)) or upper(keys))
    expected = {key: key.upper() for key in KEYS} | {"k1": "there"}
    for _ in range(2):
        found = cache.get_or_set_many(KEYS, loader, 60)
        assert (found, list(found)) == (expected, KEYS)
    assert asked == [[key for key in KEYS if key != "k1"]]
    assert cache.get_many(KEYS) == expected


def test_no_keys(cache, counter) -> None:
    """Nothing is loaded for nothing."""
    assert (cache.get_or_set_many([], counter), counter.calls) == ({}, 0)


def test_what_the_loader_leaves_out(cache, counter) -> None:
    """It is left out of the result, and not stored; what it adds is ignored."""
    assert cache.get_or_set_many(["a", "b"], counter.of(lambda _: {"a": None, "z": 1})) == {
        "a": None
    }
    assert cache.get_many(["a", "b", "z"]) == {"a": None}


def test_results_with_ttls_of_their_own(cache, counter) -> None:
    """Each value may have its own."""
    loader = counter.of(lambda _: {"a": LoadResult(1, 5), "b": LoadResult(2, 0), "c": 3})
    assert cache.get_or_set_many(iter("abc"), loader, 100) == {"a": 1, "b": 2, "c": 3}
    assert (cache.ttl("a") <= 5, cache.contains("b"), cache.ttl("c") > 90) == (True, False, True)


def test_wrong_result(cache, counter, servers) -> None:
    """No mapping is an error, and the locks are free."""
    with pytest.raises(errors.InvalidArgument, match="mapping"):
        cache.get_or_set_many(["a", "b"], counter.of(lambda _: [1, 2]))
    until(lambda: not servers.locked(cache, "a") + servers.locked(cache, "b"))


@pytest.mark.parametrize("same", [True, False], ids=["same-process", "other-process"])
def test_overlapping_calls(make, begin, gate, same) -> None:
    """Each key is loaded once; a call that shares keys with another waits for those alone."""
    one = make()
    two = one if same else make()
    asked = []
    first = begin(one.get_or_set_many, ["a", "b"], gate({"a": 1, "b": 2}))
    gate.begun()

    def rest(keys):
        asked.append(list(keys))
        return dict.fromkeys(keys, 3)

    second = begin(two.get_or_set_many, ["b", "c"], rest)
    single = begin(two.get_or_set, "a", lambda: "again")
    until(lambda: asked)
    gate.open()
    assert (first.result(), second.result(), single.result()) == (
        {"a": 1, "b": 2},
        {"b": 2, "c": 3},
        1,
    )
    assert asked == [["c"]]


def test_joining_a_load_that_leaves_the_key_out(cache, begin, gate) -> None:
    """Who waits for a key that the other's loader leaves out loads it."""
    first = begin(cache.get_or_set_many, ["a", "b"], gate({"a": 1}))
    gate.begun()
    second = begin(cache.get_or_set, "b", lambda: "mine")
    gate.open()
    assert (first.result(), second.result()) == ({"a": 1}, "mine")


def test_stale_values_are_refreshed_together(cache, servers, counter) -> None:
    """All stale ones are served, and refreshed in one call behind."""
    policy = LoadPolicy.swr()
    cache.get_or_set_many(KEYS, lambda keys: dict.fromkeys(keys, "old"), 0.02, policy=policy)
    until(lambda: not any(cache.ttl(key) for key in KEYS))
    # Nobody waits until the last load has been given back.
    until(lambda: not any(servers.locked(cache, key) for key in KEYS))
    loader = counter.of(lambda keys: dict.fromkeys(keys, "new"))
    assert cache.get_or_set_many(KEYS, loader, 60, policy=policy) == dict.fromkeys(KEYS, "old")
    until(lambda: cache.get_many(KEYS) == dict.fromkeys(KEYS, "new"))
    assert (counter.calls, cache.stats().loading.stale) == (1, 12)


def test_writes_void_loads_of_many(cache, begin, gate) -> None:
    """Only the key that was written is not stored."""
    call = begin(cache.get_or_set_many, ["a", "b"], gate({"a": 1, "b": 2}))
    gate.begun()
    cache.set("a", "new")
    gate.open()
    assert call.result() == {"a": 1, "b": 2}
    assert cache.get_many(["a", "b"]) == {"a": "new", "b": 2}


def test_wait_over(make, begin, gate) -> None:
    """Past ``wait`` the rest is loaded too, or the policy raises."""
    one, two = make(), make()
    first = begin(one.get_or_set_many, ["a"], gate({"a": 1}))
    gate.begun()
    assert two.get_or_set_many(["a", "b"], upper, policy=LoadPolicy(wait=0.05)) == {
        "a": "A",
        "b": "B",
    }
    with pytest.raises(errors.LoadWaitTimeout):
        two.get_or_set_many(["a"], upper, policy=LoadPolicy(wait=0.05, on_wait_over="raise"))
    gate.open()
    assert (first.result(), two.get("a")) == ({"a": 1}, 1)


def test_thousands_are_loaded_in_parts(make, counter) -> None:
    """A loader gets a thousand keys at once, all values are stored, and no server goes out."""
    cache = make()
    keys = [f"k{n}" for n in range(3210)]
    sizes = []
    loader = counter.of(lambda wanted: sizes.append(len(wanted)) or upper(wanted))
    assert cache.get_or_set_many(keys, loader, 60) == upper(keys)
    assert (len(sizes), max(sizes), sum(sizes)) == (4, 1000, 3210)
    assert cache.get_many(keys) == upper(keys)
    stats = cache.stats()
    assert (stats.loading.alone, stats.loading.not_stored, stats.loading.waits) == (0, 0, 0)
    assert [shard.failures for shard in stats.shards.values()] == [0] * 3


def test_a_key_as_text_and_as_bytes_is_one_key(cache, counter) -> None:
    """It is loaded once, and does not wait for itself."""
    loader = counter.of(lambda wanted: dict.fromkeys(wanted, "v"))
    assert cache.get_or_set_many(["a", b"a"], loader, policy=LoadPolicy(wait=60)) == {
        "a": "v",
        b"a": "v",
    }
    assert counter.calls == 1


def test_many_parts_are_refreshed_behind(make, counter) -> None:
    """Stale values are refreshed batch by batch in one thread or task, behind the call."""
    cache = make(options=Options(load_batch=120))
    policy = LoadPolicy.swr()
    keys = [f"k{n}" for n in range(450)]
    cache.get_or_set_many(keys, lambda wanted: dict.fromkeys(wanted, "old"), 0.02, policy=policy)
    until(lambda: not any(cache.ttl(key) for key in keys))
    sizes = []
    loader = counter.of(lambda wanted: sizes.append(len(wanted)) or dict.fromkeys(wanted, "new"))
    assert cache.get_or_set_many(keys, loader, 60, policy=policy) == dict.fromkeys(keys, "old")
    until(
        lambda: cache.get_or_set_many(keys, loader, 60, policy=policy) == dict.fromkeys(keys, "new")
    )
    assert max(sizes) == 120


def test_a_loader_of_many_that_fails(make, counter, servers) -> None:
    """Its error comes out, and none of a thousand locks stays; the next call loads."""
    cache = make()
    keys = [f"k{n}" for n in range(1100)]

    def fail(_):
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        cache.get_or_set_many(keys, counter.of(fail), 60)
    until(lambda: not any(servers.locked(cache, key) for key in keys[::100]))
    assert cache.get_or_set_many(keys, counter.of(upper), 60) == upper(keys)
    assert [shard.failures for shard in cache.stats().shards.values()] == [0] * 3


def test_batches_of_two_processes(make, begin, gate) -> None:
    """What another process loads is waited for: each of a thousand keys is loaded once."""
    one, two = make(), make()
    keys = [f"k{n}" for n in range(1000)]
    first = begin(one.get_or_set_many, keys[:600], gate(dict.fromkeys(keys[:600], 1)))
    gate.begun()
    asked = []

    def rest(wanted):
        asked.append(len(wanted))
        return dict.fromkeys(wanted, 2)

    second = begin(two.get_or_set_many, keys, rest, policy=LoadPolicy(wait=60))
    until(lambda: asked)
    gate.open()
    assert first.result() == dict.fromkeys(keys[:600], 1)
    assert second.result() == dict.fromkeys(keys[:600], 1) | dict.fromkeys(keys[600:], 2)
    assert asked == [400]
