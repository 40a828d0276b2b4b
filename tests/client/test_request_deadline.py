"""`deadline`: all cache calls of a block have one time limit, in both colours.

Where a server hangs the client's own timeout is an hour, so a call that ends at all has kept to it.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest

from shardcache import AsyncShardCache, Event, Options, ShardCache, deadline
from shardcache.embedded import LocalShards
from shardcache.errors import InvalidArgument, ShardOut, ShardUnavailable
from shardcache.request_deadline import caller_end, time_left

HOUR = 3600.0


@pytest.fixture
def hung(mortal: LocalShards) -> Iterator[LocalShards]:
    """Servers that take connections and do not answer."""
    for server in mortal.servers:
        server.pause()
    yield mortal
    for server in mortal.servers:
        server.resume()


def test_over_before_it_began(make: Callable[..., Any], events: list[Event]) -> None:
    """Nothing is sent; each call answers as for a shard that is out; later all is well."""
    cache = make(options=Options(on_event=events.append))
    with deadline(0):
        assert cache.get("k", 7) == 7
        assert cache.get_many(["a", "b"]) == {}
        assert cache.get_many([]) == {}
        assert (cache.set("k", 1), cache.add("k", 1), cache.replace("k", 1)) == (False,) * 3
        assert cache.set_many({"a": 1, "b": 2}) == ["a", "b"]
        assert (cache.delete("k"), cache.delete_many(["a", "b"])) == (False, 0)
        assert (cache.incr("k", initial=0), cache.decr("k", initial=0)) == (None, None)
        assert (cache.touch("k"), cache.ttl("k"), cache.contains("k")) == (False, 0.0, False)
        assert (cache.command("k", "TYPE"), list(cache.scan()), cache.clear()) == (None, [], 0)
        assert {type(one) for one in cache.fetch_many(["a", "b"]).failures.values()} == {ShardOut}
        with cache.pipeline() as pipe:
            pipe.get("k")
            pipe.set("k", 1)
        assert pipe.results == [None, False]
    shards = cache.stats().shards.values()
    assert {(one.connects, one.failures, one.state) for one in shards} == {(0, 0, "closed")}
    assert "the time of shardcache.deadline is over" in str(events[0].error)
    assert cache.set("k", 1)
    assert cache.get("k") == 1


def test_raised_where_it_is_asked_for(make: Callable[..., Any]) -> None:
    """With "raise" it is the error of a shard that is out."""
    cache = make(on_unavailable="raise")
    with deadline(0), pytest.raises(ShardOut, match="deadline is over"):
        cache.get("k")
    with deadline(0), pytest.raises(ShardUnavailable):
        cache.set_many({"k": 1})


def test_long_enough(make: Callable[..., Any]) -> None:
    """Within the time all is as ever: values, errors of keys, loads and tags."""
    cache = make()
    with deadline(HOUR):
        assert cache.set("k", [1])
        assert (cache.get("k"), cache.get_many(["k", "z"])) == ([1], {"k": [1]})
        assert cache.incr("n", initial=4) == 5
        assert cache.command("list", "RPUSH", "x") == 1
        assert cache.get("list") is None  # WrongType: as a damaged value
        assert cache.get_or_set("load", lambda: 3) == 3
        assert cache.get_or_set_many(["load", "x"], lambda keys: dict.fromkeys(keys, 1)) == {
            "load": 3,
            "x": 1,
        }
        assert cache.set("tagged", 1, tags=["t"])
        assert cache.get("tagged") == 1
        assert cache.delete_many(["k", "n", "z"]) == 2
    assert cache.get("load") == 3


def test_hung_servers(colour: Any, hung: LocalShards) -> None:
    """Calls end by the deadline, and say nothing against the shards."""
    with colour(hung.urls, timeout=HOUR) as cache:
        with deadline(0.05):
            assert cache.get("k", 7) == 7
            assert cache.get_many([f"k-{n}" for n in range(10)]) == {}
            assert cache.set("k", 1) is False
        with deadline(0.05):
            assert len(cache.set_many({f"k-{n}": n for n in range(10)})) == 10
        shards = cache.stats().shards.values()
        assert {(one.state, one.ejections) for one in shards} == {("closed", 0)}


def test_load_on_hung_servers(colour: Any, hung: LocalShards) -> None:
    """The loader runs, and its value is returned, though it cannot be stored."""
    with colour(hung.urls, timeout=HOUR) as cache, deadline(0.05):
        assert cache.get_or_set("k", lambda: "loaded") == "loaded"
        assert cache.get_or_set_many(["a", "b"], lambda keys: dict.fromkeys(keys, 1)) == {
            "a": 1,
            "b": 1,
        }


def test_load_elsewhere(make: Callable[..., Any], shards: LocalShards, namespace: str) -> None:
    """Nobody waits for a load of another client for longer than the block lasts."""
    cache = make(timeout=HOUR)
    other = ShardCache(shards.urls, namespace=namespace, timeout=20)
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go_on.wait(60)
        return "slow"

    thread = threading.Thread(target=other.get_or_set, args=("k", slow))
    thread.start()
    assert begun.wait(60)
    with deadline(0.05):
        assert cache.get_or_set("k", lambda: "own") == "own"
    go_on.set()
    thread.join()
    other.close()


def test_nodes_that_are_not_known_yet(make: Callable[..., Any], shards: LocalShards) -> None:
    """The wait for the first answer of a source ends too, and other calls go on waiting."""
    go_on = threading.Event()

    def source() -> Any:
        assert go_on.wait(60)
        return shards.urls

    cache = make(source, timeout=HOUR)
    with deadline(0.05):
        assert cache.get("k", 7) == 7
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(cache.set("k", 1)))
    thread.start()
    go_on.set()
    thread.join()
    assert found == [True]


def test_refresh_in_the_background(colour: Any, make: Callable[..., Any]) -> None:
    """A refresh that a request has begun is not part of the request."""
    cache = make()
    seen: list[object] = []
    done = threading.Event()
    policy = "swr"
    cache.get_or_set("k", lambda: 1, ttl=0.01, policy=policy)

    def refresh() -> int:
        seen.append(caller_end())
        done.set()
        return 2

    with deadline(HOUR):
        while not done.wait(0.02):  # ends by the limit on each test
            cache.get_or_set("k", refresh, ttl=1000, policy=policy)
        while cache.get("k") != 2:
            pass
    assert seen == [None]


def test_copied_contexts(shards: LocalShards, namespace: str) -> None:
    """Threads and tasks have the deadline of the context that they have a copy of, and no other."""
    with ShardCache(shards.urls, namespace=namespace, timeout=20) as cache:
        cache.set("k", 1)
        found: list[object] = []
        with deadline(0):
            copied = copy_context()
        for run in (copied.run, lambda work: work()):
            thread = threading.Thread(target=run, args=(lambda: found.append(cache.get("k")),))
            thread.start()
            thread.join()
        assert found == [None, 1]

    async def requests() -> list[object]:
        async with AsyncShardCache(shards.urls, namespace=namespace, timeout=20) as cache:

            async def request(seconds: float) -> object:
                with deadline(seconds):
                    return await asyncio.gather(cache.get("k"), cache.get_many(["k"]))

            return await asyncio.gather(request(0), request(HOUR))

    assert asyncio.run(requests()) == [[None, {}], [1, {"k": 1}]]


def test_nested() -> None:
    """The block that ends first counts; after a block the outer one does, whatever was raised."""
    assert time_left() is None
    with deadline(HOUR):
        outer = caller_end()
        with pytest.raises(KeyError), deadline(1):
            assert caller_end() < outer
            raise KeyError
        with deadline(2 * HOUR):
            assert caller_end() == outer
        assert 0 < time_left() <= HOUR
    assert caller_end() is None
    again = deadline(HOUR)
    with again, again:
        assert caller_end() is not None
    assert caller_end() is None


@pytest.mark.parametrize("seconds", [-1, True, None, "1", float("nan"), 90_000])
def test_what_cannot_be(seconds: Any) -> None:
    """Other numbers, and what is no number, are refused with what is allowed."""
    with pytest.raises(InvalidArgument, match="seconds from 0 to 86400, got"):
        deadline(seconds)
