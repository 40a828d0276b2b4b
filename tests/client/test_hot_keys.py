"""`hot_keys()` of the clients."""

import os
from typing import Any

import pytest

from shardcache import NearCache, Options, ShardCache
from shardcache.errors import InvalidArgument, InvalidOption
from shardcache.policy import hot_keys
from tests.waiting import until

EVERY = Options(hot_keys=100, hot_keys_sample=1)


@pytest.fixture(autouse=True)
def without_fading(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a read would count less than the next one."""
    monkeypatch.setattr(hot_keys, "HALF_LIFE", 1e12)


def shares(cache: Any) -> dict[Any, float]:
    """Return what part of all reads each key has."""
    return {one.key: round(one.share, 3) for one in cache.hot_keys()}


def test_each_method_that_reads(make: Any) -> None:
    """The methods that read count, found or not; each key by its name and shard."""
    cache = make(options=EVERY)
    cache.set("a", 1)
    for _ in range(4):
        cache.get("a")
    cache.get_or_set("b", 1)
    cache.get_many(["a", "b"])
    cache.fetch_many(["a", b"\xff"])
    cache.get_or_set_many(["a"], lambda keys: dict.fromkeys(keys, 1))
    assert shares(cache) == {"a": 0.7, "b": 0.2, b"\xff": 0.1}
    first = cache.hot_keys(1)
    assert [(one.key, one.shard, one.error) for one in first] == [
        ("a", cache.explain("a").shard, 0)
    ]


def test_hits_in_memory_count(make: Any) -> None:
    """A read that the near cache answers is a read."""
    cache = make(options=EVERY, near=NearCache(mode="ttl-only"))
    cache.set("a", 1)
    cache.get("missing")
    for _ in range(9):
        cache.get("a")
    assert cache.stats().near.hits >= 8
    assert shares(cache) == {"a": 0.9, "missing": 0.1}


def test_setting_in_a_url() -> None:
    """Both settings may stand in the URL."""
    url = "redis://127.0.0.1:1?hot_keys=5&hot_keys_sample=1"
    with ShardCache.from_url(url) as cache:
        cache.get("a")
        assert shares(cache) == {"a": 1.0}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_child_begins_anew(make: Any, is_async: bool) -> None:
    """A child counts its own reads."""
    if is_async:
        pytest.skip("one registration for both colours; no loop runs in a child")
    cache = make(options=EVERY)
    cache.get("a")
    child = os.fork()
    if child == 0:
        try:
            os._exit(len(cache.hot_keys()))
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert shares(cache) == {"a": 1.0}


def test_refusals(make: Any) -> None:
    """A client that counts nothing says so, and a limit is a number of keys."""
    with pytest.raises(InvalidOption, match=r"options=Options\(hot_keys=N\)"):
        make().hot_keys()
    for limit in (0, 10_001, 1.5, True, None):
        with pytest.raises(InvalidArgument, match="limit must be a whole number from 1 to 10000"):
            make(options=EVERY).hot_keys(limit)
    for wrong in ({"hot_keys": -1}, {"hot_keys": 10_001}, {"hot_keys_sample": 0}):
        with pytest.raises(InvalidOption, match="hot_keys"):
            Options(**wrong)


def test_only_hot_keys_are_kept(make: Any) -> None:
    """With a least share a key is near while it is hot, and leaves when it has cooled."""
    kept = NearCache(min_share=0.4, mode="ttl-only")
    cache = make(options=Options(hot_keys_sample=1), near=kept)
    cache.set_many({"a": 1, "b": 2, "c": 3})
    cache.get("c")
    for _ in range(30):
        cache.get("a")
    cache.hot_keys()
    cache.get("a")
    hits = cache.stats().near.hits
    assert cache.get_many(["a", "c"]) == {"a": 1, "c": 3}
    assert (cache.stats().near.items, cache.stats().near.hits) == (1, hits + 1)
    for _ in range(200):
        cache.get_or_set("b", 2)
    assert [one.key for one in cache.hot_keys(2)] == ["b", "a"]
    hits = cache.stats().near.hits
    cache.get("a")
    assert cache.stats().near.hits == hits
    cache.get("b")
    assert cache.stats().near.items == 1


def test_hot_by_name(make: Any) -> None:
    """``near="hot"`` keeps and counts without further settings, and hears of writes."""
    with make(near="hot", options=Options(hot_keys_sample=1)) as cache, make() as other:
        other.set("a", 1)

        def is_near() -> bool:
            hits = cache.stats().near.hits
            cache.get("a")
            return bool(cache.stats().near.hits > hits)

        until(is_near)
        assert cache.hot_keys()[0].key == "a"
        other.set("a", 2)
        until(lambda: cache.get("a") == 2)
