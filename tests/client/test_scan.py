"""Scan and clear: one namespace, whatever else lies on the servers."""

import pytest
import redis

from shardcache import ShardCache
from shardcache.errors import ClientClosed, InvalidArgument


def test_scan_finds_every_key(cache) -> None:
    """Every key of the namespace comes, from all shards, over several steps each."""
    keys = {f"k{number}" for number in range(3000)}
    cache.set_many(dict.fromkeys(keys, 1))
    assert set(cache.scan()) == keys


def test_scan_of_nothing(cache) -> None:
    """An empty namespace has no keys."""
    assert list(cache.scan()) == []


def test_scan_matches_a_glob(cache) -> None:
    """The glob is Redis' own, as str or bytes."""
    cache.set_many({"a1": 1, "a2": 1, "b1": 1, "[x]": 1, "é": 1})
    found = [sorted(cache.scan(glob)) for glob in ("a*", b"?1", "[ab]2", r"\[x\]", "é", "none")]
    assert found == [["a1", "a2"], ["a1", "b1"], ["a2"], ["[x]"], ["é"], []]


@pytest.mark.parametrize("odd", ["*", "?", "[a-z]", "\\", "^", "a*b", "[", "]"])
def test_glob_characters_in_a_namespace(make, namespace, odd) -> None:
    """A namespace is taken literally, though it may look like a glob."""
    strange, plain = make(namespace=namespace + odd), make(namespace=f"{namespace}a")
    strange.set("k", 1)
    plain.set("p", 1)
    assert list(strange.scan()) == ["k"]
    assert (strange.clear(), plain.get("p")) == (1, 1)


def test_scanned_keys_are_usable(cache) -> None:
    """Whatever scan gives, every other method takes, also keys that are no UTF-8."""
    cache.set_many({b"\xff\xfe": 1, "é": 2})
    assert sorted(cache.get(key) for key in cache.scan()) == [1, 2]


def test_stray_keys_are_left_out(cache, make, raw, namespace) -> None:
    """A key on a shard that does not own it is not found by get, so scan leaves it out."""
    cache.set("k", 1)
    other = next(
        key for key in map(str, range(100)) if cache.explain(key).shard != cache.explain("k").shard
    )
    raw(cache, other).set(f"{namespace}:k", "stray")
    assert list(cache.scan()) == ["k"]


def test_clear(cache, make, namespace) -> None:
    """Clear empties this namespace on all shards, counts, and leaves the others alone."""
    other = make(namespace=f"{namespace}2")
    other.set_many({str(number): number for number in range(100)})
    cache.set_many({str(number): number for number in range(3000)})
    assert (cache.clear(), list(cache.scan()), len(list(other.scan()))) == (3000, [], 100)
    assert cache.clear() == 0


def test_clear_of_what_fits(cache) -> None:
    """With a glob only keys that fit it go, on whichever shard they are."""
    cache.set_many({f"{kind}{number}": number for kind in "ab" for number in range(700)})
    assert cache.clear(match="a?[05]*") == 138
    assert (cache.clear(match=b"a*"), cache.clear(match="c*"), len(list(cache.scan()))) == (
        562,
        0,
        700,
    )


def test_clear_of_what_fits_invalidates_its_loads(cache, shards, namespace) -> None:
    """A load that began before must not bring a cleared value back; other loads are stored."""
    with ShardCache(shards.urls, namespace=namespace, timeout=20) as other:

        def load() -> int:
            other.clear(match="f*")
            return 1

        for key in ("fits", "fits{tag}", "fits}"):
            assert cache.get_or_set(key, load) == 1
            assert (key, cache.get(key)) == (key, None)
        cache.get_or_set("other", load)
        assert cache.get("other") == 1


def test_flush_of_what_fits_is_refused(cache) -> None:
    """FLUSHDB knows no globs, so nothing is deleted."""
    cache.set("k", 1)
    with pytest.raises(InvalidArgument, match="match must be left out, got 'a\\*'"):
        cache.clear(match="a*", flush=True)
    assert cache.get("k") == 1


def test_clear_flush(mortal, make) -> None:
    """Only clear(flush=True) empties the whole database, other namespaces included."""
    one, two = make(mortal.urls), make(mortal.urls, namespace="other")
    one.set("a", 1)
    two.set_many({str(number): 1 for number in range(50)})
    assert one.clear(flush=True) == 0
    assert (one.get("a"), list(two.scan())) == (None, [])
    sizes = []
    for url in mortal.urls.values():
        with redis.Redis.from_url(url) as plain:
            sizes.append(plain.dbsize())
    assert sizes == [0, 0, 0]


@pytest.mark.parametrize("match", [None, 1, ["*"]])
def test_wrong_match(cache, match) -> None:
    """A glob that is no text is refused."""
    with pytest.raises(InvalidArgument, match="match must be"):
        list(cache.scan(match))


def test_closed(make) -> None:
    """A closed client walks nowhere."""
    cache = make()
    cache.close()
    with pytest.raises(ClientClosed):
        list(cache.scan())
    with pytest.raises(ClientClosed):
        cache.clear()
