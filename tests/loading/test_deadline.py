"""The deadline of a call that loads: all its exchanges together take one timeout at most.

These are the tests of a promise about time, so they measure it; without the promise each hung
server costs a timeout of its own.
"""

import time

import pytest
import redis

from shardcache import LoadPolicy, Miss, Options
from tests.waiting import until

TIMEOUT = 1.0
ENOUGH = 1.8  # seconds: less than two timeouts, more than one on a busy machine
QUIET = Options(first_probe=60, max_probe=60)


def on_shard(cache, name, prefix, wire):
    """Return a key or tag that lies on this shard."""
    space, topology = cache._context.keys, cache._context.topology
    found = (f"{prefix}{n}" for n in range(1000))
    return next(
        one for one in found if topology.names[topology.owner_index(wire(space, one))] == name
    )


def key_on(cache, name):
    return on_shard(cache, name, "k", lambda space, key: space.wire(key))


def tag_on(cache, name):
    return on_shard(cache, name, "t", lambda space, tag: space.internal(b"tag", space.wire(tag)))


HUNG = {
    "own-shard": (0,),
    "other-voters": (1, 2),
    "own-shard-and-voter": (0, 1),
    "tag": (2,),
    "own-shard-and-tag": (0, 2),
    "all": (0, 1, 2),
}


@pytest.mark.parametrize(
    ("hung", "many"),
    [
        *(pytest.param(hung, False, id=f"one-{name}") for name, hung in HUNG.items()),
        *(pytest.param(HUNG[name], True, id=f"many-{name}") for name in ("other-voters", "all")),
    ],
)
def test_hung_servers_cost_one_timeout(mortal, make, counter, hung, many) -> None:
    """Read, tags, claim, votes and fill together, whichever and however many servers hang."""
    cache = make(mortal.urls, timeout=TIMEOUT, options=QUIET)
    names = list(mortal.urls)
    key, tag = key_on(cache, names[0]), tag_on(cache, names[2])
    assert (
        cache.get_or_set("warm", "value", tags=[tag_on(cache, name) for name in names]) == "value"
    )
    for place in hung:
        mortal.servers[place].pause()
    began = time.monotonic()
    if many:
        assert cache.get_or_set_many(
            [key], counter.of(lambda keys: dict.fromkeys(keys, 1)), tags=[tag]
        ) == {key: 1}
    else:
        assert cache.get_or_set(key, counter, tags=[tag]) == 1
    assert time.monotonic() - began < ENOUGH


@pytest.mark.parametrize("hung", [(2,), (1, 2)], ids=["tag", "tag-and-voter"])
def test_tags_of_a_value_that_is_there_count_too(mortal, make, counter, hung) -> None:
    """A value whose tag cannot be read is a miss; reading and loading share one timeout."""
    cache = make(mortal.urls, timeout=TIMEOUT, options=QUIET)
    names = list(mortal.urls)
    key, tag = key_on(cache, names[0]), tag_on(cache, names[2])
    assert cache.get_or_set(key, counter, tags=[tag]) == 1
    for place in hung:
        mortal.servers[place].pause()
    began = time.monotonic()
    assert cache.get_or_set(key, counter, tags=[tag]) == 2
    assert time.monotonic() - began < ENOUGH


def test_a_call_in_a_hurry_blames_nobody(mortal, make, counter, is_async) -> None:
    """What was left of the deadline was too little to judge a server by: it stays in service."""
    cache = make(mortal.urls, timeout=TIMEOUT, options=QUIET)
    names = list(mortal.urls)
    key = key_on(cache, names[0])
    cache.get_or_set("warm", "value")
    budget = cache._load_context.budget()
    budget.left = 0.0
    request = cache._loader.request(key, counter, 60_000, LoadPolicy(), (), budget)
    reload = cache._loader.reload
    assert (cache._finish(reload, request) if is_async else reload(request)) == 1
    assert [shard.state for shard in cache.stats().shards.values()] == ["closed"] * 3
    assert [shard.failures for shard in cache.stats().shards.values()] == [0] * 3


def evals(mortal, places) -> int:
    total = 0
    for place in places:
        with redis.Redis.from_url(list(mortal.urls.values())[place]) as server:
            total += server.info("commandstats").get("cmdstat_eval", {"calls": 0})["calls"]
    return total


@pytest.mark.parametrize("fails", [False, True])
def test_voters_that_were_not_asked_are_not_told(mortal, make, counter, fails) -> None:
    """Without the quorum lock only the key's own shard hears of a load, good or failed."""
    cache = make(mortal.urls)
    key = key_on(cache, next(iter(mortal.urls)))
    policy = LoadPolicy(protect="process")
    if fails:
        with pytest.raises(ZeroDivisionError):
            cache.get_or_set(key, counter.of(lambda: 1 / 0), policy=policy)
    else:
        assert cache.get_or_set(key, counter, policy=policy) == 1
    until(lambda: evals(mortal, [0]) == 2)  # the claim, and the fill or that it is given back
    assert evals(mortal, [1, 2]) == 0


def test_who_is_refused_at_home_tells_nobody_else(mortal, make, gate, begin) -> None:
    """Of two processes that miss at once, the waiting one never asks the other voters."""
    one, two = make(mortal.urls), make(mortal.urls)
    key = key_on(one, next(iter(mortal.urls)))
    for client in (one, two):
        client.get_or_set("warm", "value")
    first = begin(one.get_or_set, key, gate())
    gate.begun()
    before = evals(mortal, [1, 2])
    second = begin(two.get_or_set, key, gate())
    until(lambda: two.stats().loading.waits)
    assert evals(mortal, [1, 2]) == before
    gate.open()
    assert (first.result(), second.result(), gate.calls) == ("loaded", "loaded", 1)
    until(lambda: evals(mortal, [1, 2]) == before + 2)  # the loader's, that it gives its votes back


@pytest.mark.parametrize("name", ["get_many", "fetch_many"])
def test_reading_many_tagged_values_has_one_deadline(mortal, make, name) -> None:
    """One server with values hangs, then one with tags: the second gets what time is left."""
    cache = make(mortal.urls, timeout=TIMEOUT, options=QUIET)
    names = list(mortal.urls)
    here, hung, tag = key_on(cache, names[0]), key_on(cache, names[1]), tag_on(cache, names[2])
    for key in (here, hung):
        assert cache.set(key, key, tags=[tag]) is True
    mortal.servers[1].pause()
    mortal.servers[2].pause()
    began = time.monotonic()
    found = getattr(cache, name)([here, hung])
    assert time.monotonic() - began < ENOUGH
    if name == "get_many":
        assert found == {}
    else:
        assert (type(found[here]), found.failures.keys()) == (Miss, {hung})


def test_a_pipeline_asks_for_all_tags_at_once(cache, servers) -> None:
    """Not once for each value."""
    keys = [f"k{n}" for n in range(20)]
    for key in keys:
        cache.set(key, key, tags=[f"tag of {key}"])
    before = servers.calls("mget")
    pipe = cache.pipeline()
    for key in keys:
        pipe.get(key)
    assert pipe.execute() == keys
    assert servers.calls("mget") - before <= 3
