"""A shard is dead or hung: each method's answer, and where it is told (G6).

The policy is "degrade" or "raise".
"""

import math
from collections.abc import Iterator

import pytest

from shardcache import MISS, Failed, Hit, Miss, Options
from shardcache.embedded import LocalShards
from shardcache.errors import OutOfMemory, ShardError, ShardOut, ShardTimeout, ShardUnavailable
from shardcache.flows import own_pause as lateness

DEAD = "shard-2"


@pytest.fixture(scope="module")
def maimed() -> Iterator[LocalShards]:
    """Three servers, the second of which is dead from the start."""
    with LocalShards(3) as servers:
        servers.servers[1].kill()
        yield servers


@pytest.fixture
def never_out(events) -> Options:
    """The breaker stays closed, so that each call meets the dead shard itself."""
    return Options(failures=1000, on_event=events.append)


@pytest.fixture
def degrading(make, maimed, never_out):
    return make(maimed.urls, options=never_out)


@pytest.fixture
def raising(make, maimed, never_out):
    return make(maimed.urls, options=never_out, on_unavailable="raise")


def keys_of(cache, count: int = 40) -> tuple[list[str], list[str]]:
    """Return keys on the living shards and keys on the dead one."""
    keys = [str(number) for number in range(count)]
    dead = [key for key in keys if cache.explain(key).shard == DEAD]
    assert 0 < len(dead) < count
    return [key for key in keys if key not in dead], dead


# name: the call with a key on the dead shard, its answer under "degrade", whether it writes, the
# operation told
SINGLE = {
    "get": (lambda cache, key: cache.get(key), None, False),
    "get-default": (lambda cache, key: cache.get(key, MISS), MISS, False),
    "contains": (lambda cache, key: cache.contains(key), False, False),
    "ttl": (lambda cache, key: cache.ttl(key), 0.0, False),
    "set": (lambda cache, key: cache.set(key, 1), False, True),
    "set-dead": (lambda cache, key: cache.set(key, 1, 0), False, True),
    "add": (lambda cache, key: cache.add(key, 1), False, True),
    "add-dead": (lambda cache, key: cache.add(key, 1, 0), False, True),
    "replace": (lambda cache, key: cache.replace(key, 1), False, True),
    "replace-dead": (lambda cache, key: cache.replace(key, 1, 0), False, True),
    "delete": (lambda cache, key: cache.delete(key), False, True),
    "incr": (lambda cache, key: cache.incr(key), None, True),
    "decr": (lambda cache, key: cache.decr(key, 1, initial=0), None, True),
    "touch": (lambda cache, key: cache.touch(key), False, True),
    "touch-dead": (lambda cache, key: cache.touch(key, 0), False, True),
}
each_single = pytest.mark.parametrize(("call", "answer", "writes"), SINGLE.values(), ids=SINGLE)


@each_single
def test_degraded_call(degrading, events, call, answer, writes) -> None:
    """Under "degrade" a read misses and a write says no; stats and the hook tell why."""
    key = keys_of(degrading)[1][0]
    assert call(degrading, key) == answer
    stats = degrading.stats()
    assert (stats.degraded_reads, stats.dropped_writes, stats.errors) == (
        (0, 1, 0) if writes else (1, 0, 0)
    )
    assert stats.shards[DEAD].failures == 1
    [event] = events
    assert (event.kind, event.shard, event.keys) == (
        "dropped_write" if writes else "degraded_read",
        DEAD,
        1,
    )
    assert isinstance(event.error, ShardUnavailable)


@pytest.mark.parametrize(
    "name", ["get", "contains", "ttl", "set", "add", "replace", "delete", "incr", "decr", "touch"]
)
def test_event_names_the_method(degrading, events, name) -> None:
    """The hook is told the method that was called."""
    SINGLE[name][0](degrading, keys_of(degrading)[1][0])
    assert [event.operation for event in events] == [name]


@each_single
def test_raised_call(raising, call, answer, writes) -> None:
    """Under "raise" the same call raises an error with the shard and the cause; stats count it."""
    key = keys_of(raising)[1][0]
    with pytest.raises(ShardUnavailable) as caught:
        call(raising, key)
    assert (caught.value.shard, isinstance(caught.value.__cause__, OSError)) == (DEAD, True)
    stats = raising.stats()
    assert (stats.errors, stats.degraded_reads, stats.dropped_writes) == (1, 0, 0)


@pytest.mark.parametrize("policy", ["degrade", "raise"])
def test_other_shards_go_on(make, maimed, policy) -> None:
    """Keys on the living shards notice nothing."""
    cache = make(maimed.urls, on_unavailable=policy)
    alive, _ = keys_of(cache)
    assert [cache.set(key, key) for key in alive] == [True] * len(alive)
    assert cache.get_many(alive) == {key: key for key in alive}


def test_get_many(degrading, events) -> None:
    """The living shards' hits come; the dead shard's keys count as degraded, not as misses."""
    alive, dead = keys_of(degrading)
    degrading.set_many(dict.fromkeys(alive, 1))
    assert degrading.get_many([*alive, *dead, *dead]) == dict.fromkeys(alive, 1)
    stats = degrading.stats()
    assert (stats.hits, stats.misses, stats.degraded_reads) == (len(alive), 0, len(dead))
    assert [(event.kind, event.shard, event.operation, event.keys) for event in events] == [
        ("degraded_read", DEAD, "get_many", len(dead))
    ]


def test_get_many_raises(raising) -> None:
    """Under "raise" one dead shard raises, and nothing counts as degraded."""
    alive, dead = keys_of(raising)
    with pytest.raises(ShardUnavailable, match=DEAD):
        raising.get_many([*alive, *dead])
    assert (raising.stats().errors, raising.stats().degraded_reads) == (1, 0)


@pytest.mark.parametrize("policy", ["degrade", "raise"])
def test_fetch_many(make, maimed, never_out, events, policy) -> None:
    """fetch_many raises under neither policy: each key is a hit, a miss or failed with an error."""
    cache = make(maimed.urls, options=never_out, on_unavailable=policy)
    alive, dead = keys_of(cache)
    cache.set(alive[0], 1)
    found = cache.fetch_many([*alive, *dead])
    assert (found[alive[0]], found[alive[1]], found.misses) == (Hit(1), Miss(), alive[1:])
    assert [type(found[key]) for key in dead] == [Failed] * len(dead)
    assert {error.shard for error in found.failures.values()} == {DEAD}
    assert [(event.shard, event.operation, event.keys) for event in events] == [
        (DEAD, "fetch_many", len(dead))
    ]


def test_set_many(degrading, events) -> None:
    """The keys that were not stored come back, in order; the others are stored."""
    alive, dead = keys_of(degrading)
    everything = sorted([*alive, *dead])
    assert degrading.set_many({key: key for key in everything}) == sorted(dead)
    assert degrading.get_many(everything) == {key: key for key in alive}
    assert degrading.stats().dropped_writes == len(dead)
    assert [(event.kind, event.operation, event.keys) for event in events[:1]] == [
        ("dropped_write", "set_many", len(dead))
    ]


def test_set_many_raises(raising) -> None:
    """Under "raise" one dead shard raises; the living shards' values are stored all the same."""
    alive, dead = keys_of(raising)
    with pytest.raises(ShardUnavailable, match=DEAD):
        raising.set_many(dict.fromkeys([*alive, *dead], 1))
    assert raising.get_many(alive) == dict.fromkeys(alive, 1)


def test_delete_many(degrading, events) -> None:
    """The living shards' keys are deleted and counted; the dead shard's are told."""
    alive, dead = keys_of(degrading)
    degrading.set_many(dict.fromkeys(alive, 1))
    assert degrading.delete_many([*alive, *dead]) == len(alive)
    assert degrading.stats().dropped_writes == len(dead)
    assert [(event.kind, event.operation, event.keys) for event in events] == [
        ("dropped_write", "delete_many", len(dead))
    ]


def test_delete_many_raises(raising) -> None:
    """Under "raise" one dead shard raises; the living shards' keys are gone all the same."""
    alive, dead = keys_of(raising)
    raising.set_many(dict.fromkeys(alive, 1))
    with pytest.raises(ShardUnavailable, match=DEAD):
        raising.delete_many([*alive, *dead])
    assert raising.get_many(alive) == {}


def test_pipeline(degrading, events) -> None:
    """In a pipeline each call has its own answer."""
    alive, dead = keys_of(degrading)
    with degrading.pipeline() as pipe:
        pipe.set(alive[0], 1)
        pipe.set(dead[0], 1)
        pipe.get(alive[0])
        pipe.get(dead[0], "default")
        pipe.incr(dead[0])
    assert pipe.results == [True, False, 1, "default", None]
    assert (degrading.stats().degraded_reads, degrading.stats().dropped_writes, len(events)) == (
        1,
        2,
        3,
    )


def test_pipeline_raises(raising) -> None:
    """Under "raise" the first error is raised, once every call has its place."""
    alive, dead = keys_of(raising)
    pipe = raising.pipeline()
    pipe.get(dead[0])
    pipe.set(alive[0], 1)
    with pytest.raises(ShardUnavailable, match=DEAD):
        pipe.execute()
    assert [type(result) for result in pipe.results] == [ShardUnavailable, bool]


def test_scan(degrading, events) -> None:
    """A dead shard is left out of a walk, and the hook and its shard's stats tell."""
    alive, _ = keys_of(degrading)
    degrading.set_many(dict.fromkeys(alive, 1))
    assert sorted(degrading.scan()) == sorted(alive)
    assert [(event.kind, event.shard, event.operation) for event in events] == [
        ("degraded_read", DEAD, "scan")
    ]
    assert degrading.stats().shards[DEAD].failures == 1


def test_scan_raises(raising) -> None:
    """Under "raise" a walk ends at the dead shard with its error."""
    with pytest.raises(ShardUnavailable, match=DEAD):
        list(raising.scan())


@pytest.mark.parametrize("flush", [False, True])
def test_clear(degrading, events, flush) -> None:
    """Clear empties the living shards; the hook and the dead shard's stats tell of the rest."""
    alive, _ = keys_of(degrading)
    degrading.set_many(dict.fromkeys(alive, 1))
    assert degrading.clear(flush=flush) == (0 if flush else len(alive))
    assert degrading.get_many(alive) == {}
    assert [(event.kind, event.shard, event.operation) for event in events] == [
        ("dropped_write", DEAD, "clear")
    ]
    assert degrading.stats().shards[DEAD].failures == 1


@pytest.mark.parametrize("flush", [False, True])
def test_clear_raises(raising, flush) -> None:
    """Under "raise" clear raises, after the living shards were emptied."""
    alive, _ = keys_of(raising)
    raising.set_many(dict.fromkeys(alive, 1))
    with pytest.raises(ShardUnavailable, match=DEAD):
        raising.clear(flush=flush)
    assert raising.get_many(alive) == {}


@pytest.mark.parametrize(
    "call",
    [
        lambda cache, alive, dead: cache.get(dead),
        lambda cache, alive, dead: cache.set(dead, 1),
        lambda cache, alive, dead: cache.get_many([alive, dead]),
        lambda cache, alive, dead: cache.set_many({alive: 1, dead: 1}),
        lambda cache, alive, dead: cache.delete_many([alive, dead]),
        lambda cache, alive, dead: list(cache.scan()),
        lambda cache, alive, dead: cache.clear(),
    ],
    ids=["get", "set", "get_many", "set_many", "delete_many", "scan", "clear"],
)
def test_broken_hook(make, maimed, caplog, call) -> None:
    """A hook that raises breaks no call, and its exception is logged."""

    def hook(event) -> None:
        raise RuntimeError("observer")

    cache = make(
        maimed.urls, options=Options(failures=1, on_event=hook, first_probe=60, max_probe=60)
    )
    alive, dead = keys_of(cache)
    call(cache, alive[0], dead[0])
    assert ("event hook failed" in caplog.text, "observer" in caplog.text) == (True, True)
    assert (cache.set(alive[0], 1), cache.get(alive[0])) == (True, 1)


def test_breaker_opens_and_says_so(make, maimed, events) -> None:
    """After some failures in a row calls are refused unsent, and every report shows the state."""
    options = Options(failures=3, first_probe=60, max_probe=60, on_event=events.append)
    cache = make(maimed.urls, options=options, on_unavailable="raise")
    key = keys_of(cache)[1][0]
    errors = []
    for _ in range(5):
        with pytest.raises(ShardUnavailable) as caught:
            cache.get(key)
        errors.append(type(caught.value))
    assert errors == [ShardUnavailable] * 3 + [ShardOut] * 2
    shard = cache.stats().shards[DEAD]
    assert (shard.state, shard.failures, shard.ejections, shard.refused_open) == ("open", 3, 1, 2)
    assert (cache.explain(key).state, [event.kind for event in events]) == ("open", ["shard_out"])
    assert isinstance(cache.fetch_many([key]).failures[key], ShardOut)


def test_shard_comes_back(mortal, make, events) -> None:
    """A restarted shard is found by the prober and let in again; the hook is told."""
    cache = make(
        mortal.urls, options=Options(first_probe=0.01, max_probe=0.05, on_event=events.append)
    )
    cache.set_many({str(number): 1 for number in range(40)})
    dead = keys_of(cache)[1]
    mortal.servers[1].kill()
    assert [cache.get(key) for key in dead for _ in range(3)] == [None] * (3 * len(dead))
    mortal.servers[1].start()
    while cache.stats().shards[DEAD].state != "closed":  # ends by the limit on each test
        cache.get(dead[0])
    assert (cache.set(dead[0], 2), cache.get(dead[0])) == (True, 2)
    assert [event.kind for event in events if event.kind.startswith("shard")] == [
        "shard_out",
        "shard_back",
    ]


def test_restarted_shard_costs_no_error(mortal, make) -> None:
    """Connections that died with the server while idle are replaced unseen."""
    cache = make(mortal.urls, on_unavailable="raise")
    dead = keys_of(cache)[1]
    cache.set_many(dict.fromkeys(dead, 1))
    mortal.servers[1].restart()
    assert (cache.get(dead[0]), cache.add(dead[0], 2), cache.get_many(dead)) == (
        None,
        True,
        {dead[0]: 2},
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda cache, keys: cache.get(keys[0]),
        lambda cache, keys: cache.get_many(keys),
        lambda cache, keys: cache.set_many(dict.fromkeys(keys, 1)),
        lambda cache, keys: list(cache.scan()),
        lambda cache, keys: cache.clear(),
    ],
    ids=["get", "get_many", "set_many", "scan", "clear"],
)
def test_hung_shard_costs_one_deadline(mortal, make, call, monkeypatch) -> None:
    """A hung shard is out after one timeout; its late replies are never taken for an answer."""
    # A busy machine is late, and would not blame the shard.
    monkeypatch.setattr(lateness, "HELD_UP", math.inf)
    options = Options(first_probe=60, max_probe=60)
    cache = make(mortal.urls, options=options, timeout=0.6, on_unavailable="raise")
    alive, dead = keys_of(cache)
    cache.set_many({key: key for key in [*alive, *dead]})
    mortal.servers[1].pause()
    with pytest.raises(ShardTimeout, match=r"0\.6 s"):
        call(cache, [*dead, *alive])
    with pytest.raises(ShardOut):
        cache.get(dead[0])
    stats = cache.stats().shards[DEAD]
    assert (stats.timeouts, stats.ejections, stats.refused_open) == (1, 1, 1)
    mortal.servers[1].resume()


def test_late_answers_are_nobodys(mortal, make) -> None:
    """After a timeout, the late reply meets a closed connection: no call gets another's value."""
    options = Options(failures=1, first_probe=0.01, max_probe=0.02)
    cache = make(mortal.urls, options=options, timeout=0.1)
    dead = keys_of(cache)[1]
    while cache.set_many({key: key for key in dead}):
        pass
    for key in dead:
        mortal.servers[1].pause()
        cache.get(key)
        mortal.servers[1].resume()
        assert {found for found in map(cache.get, dead) if found is not None} <= set(dead)
    while cache.stats().shards[DEAD].state != "closed":
        assert cache.get(dead[0]) in (None, dead[0])
    assert cache.get_many(dead).items() <= {key: key for key in dead}.items()


@pytest.mark.parametrize("policy", ["degrade", "raise"])
def test_full_server(make, policy, events) -> None:
    """A server at its memory limit drops writes and serves reads."""
    with LocalShards(1, options={"maxmemory": "1", "maxmemory-policy": "noeviction"}) as full:
        cache = make(full.urls, on_unavailable=policy, options=Options(on_event=events.append))
        assert cache.get("k") is None
        calls = [
            lambda: cache.set("k", 1),
            lambda: cache.set_many({"k": 1}) == [],
            lambda: cache.incr("k", initial=1) is not None,
        ]
        if policy == "degrade":
            assert [call() for call in calls] == [False] * 3
            assert [event.kind for event in events] == ["dropped_write"] * 3
            assert {type(event.error) for event in events} == {OutOfMemory}
        else:
            for call in calls:
                with pytest.raises(OutOfMemory):
                    call()
        assert cache.stats().shards["shard-1"].state == "closed"


def test_every_error_is_a_shard_error(raising) -> None:
    """Whoever catches ShardError catches all of an outage."""
    with pytest.raises(ShardError):
        raising.get(keys_of(raising)[1][0])
