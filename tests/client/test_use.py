"""Other nodes while the client serves: only owed keys miss, and what is under way goes on."""

import asyncio
import os
import threading
import uuid
from collections.abc import Iterator

import pytest
import redis

from shardcache import MISS, AsyncShardCache, HashRing, ShardCache
from shardcache.embedded import LocalShards
from shardcache.errors import InvalidArgument, InvalidNode
from shardcache.options import Options
from tests.waiting import until

KEYS = [f"k{n}" for n in range(200)]


@pytest.fixture(scope="module")
def four() -> Iterator[LocalShards]:
    """Four servers, so that there is one more than a client begins with."""
    with LocalShards(4) as servers:
        yield servers


@pytest.fixture
def some(four):
    """The URLs of the servers at these places, by name."""

    def chosen(*places: int) -> dict[str, str]:
        names = list(four.urls)
        return {names[place]: four.urls[names[place]] for place in places}

    return chosen


def connections(url: str, me: str) -> int:
    """Count a server's connections that are this client's."""
    with redis.Redis.from_url(url) as server:
        return sum(one["name"] == me for one in server.client_list())


def test_only_owed_keys_miss(make, some) -> None:
    """A node more takes exactly the keys that the returned moves say; all others stay hits."""
    cache = make(some(0, 1, 2))
    cache.set_many(dict.fromkeys(KEYS, 1))
    before = {key: cache.explain(key).shard for key in KEYS}
    moves = cache.use(some(0, 1, 2, 3))
    assert moves == HashRing(list(some(0, 1, 2))).moved(HashRing(list(some(0, 1, 2, 3))))
    after = {key: cache.explain(key).shard for key in KEYS}
    moved = {key for key in KEYS if after[key] != before[key]}
    assert {(before[key], after[key]) for key in moved} <= set(moves)
    assert set(cache.get_many(KEYS)) == set(KEYS) - moved
    assert [key for key in KEYS if cache.get(key, MISS) is MISS] == sorted(moved, key=KEYS.index)


def test_new_node_serves(make, some) -> None:
    """Keys of a new node are stored there, and found, one by one and all at once."""
    cache = make(some(0))
    cache.use(some(0, 1, 2))
    assert cache.set_many(dict.fromkeys(KEYS, 2)) == []
    assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 2)
    assert {cache.explain(key).shard for key in KEYS} == set(some(0, 1, 2))
    assert sorted(cache.scan()) == sorted(KEYS)
    assert set(cache.ping()) == set(cache.stats().shards) == set(some(0, 1, 2))
    assert cache.clear() == len(KEYS)


def test_names_sorted_before_the_others(make, some, four) -> None:
    """A new name that comes first in the ring's order does not shift the shards of the others."""
    cache = make({"m": four.servers[0].url, "n": four.servers[1].url})
    cache.set_many(dict.fromkeys(KEYS, 1))
    moves = cache.use(
        {"a": four.servers[2].url, "m": four.servers[0].url, "n": four.servers[1].url}
    )
    assert {target for _, target in moves} == {"a"}
    hits = cache.get_many(KEYS)
    assert set(hits) == {key for key in KEYS if cache.explain(key).shard != "a"}
    with cache.pipeline() as pipe:
        for key in KEYS:
            pipe.set(key, 3)
    assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 3)


def test_change_is_counted_and_told(make, some, events) -> None:
    """Each change is an event and counts; the same nodes again are no change."""
    cache = make(some(0, 1), options=Options(on_event=events.append))
    assert cache.stats().topology_changes == 0
    assert cache.use(some(1, 0)) == {}
    assert (cache.stats().topology_changes, events) == (0, [])
    cache.use(some(0, 2))
    assert cache.stats().topology_changes == 1
    assert [(one.kind, one.operation) for one in events] == [("topology_changed", "use")]


@pytest.mark.parametrize(
    ("nodes", "error"),
    [([], InvalidNode), (None, InvalidNode), (7, InvalidNode), (["htp://x"], InvalidArgument)],
)
def test_what_cannot_be_changes_nothing(make, some, nodes, error) -> None:
    """Wrong nodes raise, and the client goes on with those that it has."""
    cache = make(some(0, 1))
    cache.set("k", 1)
    with pytest.raises(error):
        cache.use(nodes)
    assert (cache.get("k"), cache.stats().topology_changes) == (1, 0)


def test_node_that_left_is_closed(make, some, namespace) -> None:
    """The connections to a node that has left end; those to the others stay."""
    me = f"left-{namespace}"
    cache = make(some(0, 1), options=Options(client_name=me))
    cache.set_many(dict.fromkeys(KEYS, 1))
    [gone], [stays] = some(0).values(), some(1).values()
    assert connections(gone, me) > 0
    cache.use(some(1, 2))
    cache.set_many(dict.fromkeys(KEYS, 1))
    until(lambda: connections(gone, me) == 0)
    assert connections(stays, me) > 0


def test_address_may_change(make, some, four, events) -> None:
    """A node that has another address keeps its keys' places, and is the same shard."""
    first, second = list(four.urls.values())[:2]
    cache = make({"a": first, "b": second}, options=Options(on_event=events.append))
    cache.set_many(dict.fromkeys(KEYS, 1))
    places = [cache.explain(key).shard for key in KEYS]
    assert cache.use({"a": second, "b": first}) == {}
    assert [cache.explain(key).shard for key in KEYS] == places
    assert cache.get_many(KEYS) == {}
    assert {one.shard for one in events if one.kind == "shard_moved"} == {"a", "b"}
    assert cache.use({"a": first, "b": second}) == {}
    assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 1)


def test_other_tls_settings_are_refused(make, some) -> None:
    """A node of a known name cannot get TLS settings of its own: the error says what to do."""
    cache = make({"a": "rediss://127.0.0.1:1"})
    with pytest.raises(InvalidNode, match="another name"):
        cache.use({"a": "rediss://127.0.0.1:1?ssl_cert_reqs=none"})


def test_call_under_way_ends_where_it_began(make, some, four, namespace) -> None:
    """A call that waits for its reply while the node leaves gets it; then the node is closed."""
    me = f"way-{namespace}"
    cache = make(some(0), options=Options(client_name=me))
    cache.set("k", "v")
    found: list[object] = []
    [url] = some(0).values()
    with redis.Redis.from_url(url) as server:
        server.client_pause(700, all=True)
    thread = threading.Thread(target=lambda: found.append(cache.get("k")))
    thread.start()
    cache.use(some(1))
    thread.join()
    assert found in (["v"], [None])
    until(lambda: connections(url, me) == 0)


def test_lock_keeps_its_voters(make, some) -> None:
    """A lock that is held while its nodes leave is extended and released on its own voters."""
    cache = make(some(0, 1, 2))
    lock = cache.lock("job", ttl=60)
    assert lock.acquire()
    cache.use(some(3))
    assert lock.extend()
    lock.release()
    for url in some(0, 1, 2).values():
        with redis.Redis.from_url(url) as server:
            assert server.keys("*lock:*job*") == []


def test_load_under_way_is_not_lost(make, some) -> None:
    """A value whose nodes change while it is loaded is returned, and found by later calls."""
    cache = make(some(0, 1, 2))
    begun, go_on = threading.Event(), threading.Event()
    found: list[object] = []

    def load() -> str:
        begun.set()
        go_on.wait()
        return "v"

    # In asyncio a plain loader runs in the loop's thread: there the swap comes while it waits.
    loading = threading.Thread(target=lambda: found.append(cache.get_or_set("k", load)))
    loading.start()
    begun.wait()
    swapping = threading.Thread(target=cache.use, args=(some(2, 3),))
    swapping.start()
    go_on.set()
    loading.join()
    swapping.join()
    assert found == ["v"]
    assert [cache.get_or_set("k", lambda: "w") for _ in range(2)] in (["v"] * 2, ["w"] * 2)


def test_use_in_many_threads(make, some) -> None:
    """Changes in several threads at once, under calls: no error, and the last of them stays."""
    cache = make(some(0, 1, 2, 3))
    errors: list[BaseException] = []
    end = threading.Event()

    def calls() -> None:
        try:
            while not end.is_set():
                cache.set("k", 1)
                cache.get_many(KEYS[:20])
        except BaseException as error:
            errors.append(error)

    def changes(first: int) -> None:
        try:
            for at in range(10):
                cache.use(some(first, 2, 3) if at % 2 else some(first, 3))
        except BaseException as error:
            errors.append(error)

    callers = [threading.Thread(target=calls) for _ in range(2)]
    changers = [threading.Thread(target=changes, args=(one,)) for one in (0, 1)]
    for thread in (*callers, *changers):
        thread.start()
    for thread in changers:
        thread.join()
    end.set()
    for thread in callers:
        thread.join()
    cache.use(some(0, 1))
    assert errors == []
    assert cache.set_many(dict.fromkeys(KEYS, 5)) == []
    assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 5)
    assert cache.stats().degraded_reads == cache.stats().dropped_writes == 0


def test_next_call_goes_to_the_new_address(four) -> None:
    """In asyncio too, a call right behind `use` asks the address that the node has by then."""
    first, second = list(four.urls.values())[:2]

    async def change() -> tuple[object, object]:
        async with AsyncShardCache({"a": first}, namespace=uuid.uuid4().hex, timeout=20) as cache:
            await cache.set("k", 1)
            await cache.use({"a": second})
            return await cache.get("k"), await cache.set("k", 2)

    assert asyncio.run(change()) == (None, True)


def test_hook_may_change_the_nodes(some) -> None:
    """A hook that is told of a change may make another one."""
    told: list[str] = []

    def hook(event) -> None:
        told.append(event.kind)
        if told == ["topology_changed"]:
            cache.use(some(0, 1))

    with ShardCache(some(0), options=Options(on_event=hook)) as cache:
        cache.use(some(2))
        assert cache.stats().topology_changes == 2
        assert set(cache.stats().shards) == set(some(0, 1))


def test_fork_after_a_change(some) -> None:
    """A child that was forked after a change goes on with the nodes of then."""
    cache = ShardCache(some(0, 1), namespace=uuid.uuid4().hex, timeout=20)
    cache.use(some(1, 2))
    cache.set_many(dict.fromkeys(KEYS, 1))
    pid = os.fork()
    if not pid:
        try:
            fine = cache.get_many(KEYS) == dict.fromkeys(KEYS, 1)
            cache.use(some(2))
            fine = fine and cache.set("k", 1) and set(cache.stats().shards) == set(some(2))
            os._exit(0 if fine else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 1)
    cache.close()
