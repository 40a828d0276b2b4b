"""G1 on a Redis Cluster: redirects among the faults, and no call returns another key's value.

A proxy stands in front of each node, and `Options(address_map=…)` leads to it. Redirects come from
fakes, which say what the test wants each time, and from real servers whose slots move.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest

from shardcache import AsyncShardCache, Options, ShardCache, errors
from shardcache.embedded import LocalCluster
from shardcache.testing import Cut, Duplicate, Fault, FaultProxy, Split, Stall
from shardcache.topology.slots import slot_of
from tests.hostile.storing_cluster import StoringCluster

from .conftest import BROKEN, MARKED, NO_BREAKER, SCALE, Count, trouble, value_of

pytestmark = pytest.mark.long

TIMEOUT = 0.05  # seconds: a stalled reply costs one
LONG = 20.0  # seconds: no call that must find something takes so long
KEYS = [f"key-{i}" for i in range(24)]
SLOTS = {key: slot_of(f"g1:{key}".encode()) for key in KEYS}
Proxies = list[FaultProxy]
# What a member says in the place of an answer.
MOODS = {
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN": "CLUSTERDOWN Hash slot not served",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "READONLY": "READONLY You can't write against a read only replica.",
}
KINDS = ["MOVED", "ASK", *MOODS]
FAULTS: list[Callable[[int], Fault]] = [
    Cut,
    lambda at: Cut(at, reset=True),
    lambda at: Cut(at, on="request"),
    lambda at: Split((at,), pause=0.0),
]
# TCP delivers every byte once; `Options(echo_check=True)` is for proxies that do not.
DOUBLES: list[Callable[[int], Fault]] = [lambda at: Duplicate(0, at + 1)]


@pytest.fixture
def cluster() -> Iterator[StoringCluster]:
    """Three members that have every key."""
    with StoringCluster() as cluster:
        yield cluster


@pytest.fixture
def proxies(cluster: StoringCluster) -> Iterator[Proxies]:
    """A proxy in front of each member, in their order."""
    with ExitStack() as stack:
        yield [stack.enter_context(FaultProxy(one.url)) for one in cluster.members]


@pytest.fixture
def connect(colour: Any, cluster: StoringCluster, proxies: Proxies) -> Iterator[Callable[..., Any]]:
    """Make clients behind the proxies; the first one fills in the keys."""
    places = {
        (one.address.host, one.address.port): ("127.0.0.1", proxy.port)
        for one, proxy in zip(cluster.members, proxies, strict=True)
    }
    seeds = f"redis+cluster://127.0.0.1:{proxies[0].port}"
    with ExitStack() as stack:

        def make(options: Options, **settings: Any) -> Any:
            options = replace(options, address_map=places)
            cache = stack.enter_context(
                colour(seeds, options=options, **{"namespace": "g1", "timeout": LONG, **settings})
            )
            # Within a short deadline it may know no nodes yet.
            while not cache.set(KEYS[0], value_of(KEYS[0]), ttl=None):
                time.sleep(0.01)
            return cache

        filling = make(NO_BREAKER)
        assert filling.set_many({key: value_of(key) for key in KEYS}, ttl=None) == []
        yield make


def say(cluster: StoringCluster, kind: str, keys: list[str]) -> None:
    """Have the members redirect each call for some keys, or one command of all keys in four."""
    there = {SLOTS[key]: cluster.after(SLOTS[key]) for key in keys}
    if kind == "MOVED":
        cluster.moved = there
    elif kind == "ASK":
        cluster.asked = there
    else:
        moods = random.Random(kind)
        cluster.mood = lambda: MOODS[kind] if moods.random() < 0.25 else ""


def pipelined(cache: Any) -> list[object]:
    """Ask for all keys, each twice."""
    with cache.pipeline() as pipe:
        for key in KEYS:
            pipe.get(key)
            pipe.contains(key)
    return pipe.results


def lengths(proxies: Proxies, ask: Callable[[], object]) -> list[int]:
    """Measure how many bytes each member sends for one call."""
    seen = []  # the least of three: a poll may be among them
    for _ in range(3):
        before = [proxy.traffic().reply_bytes for proxy in proxies]
        ask()
        after = [proxy.traffic().reply_bytes for proxy in proxies]
        seen.append([new - old for new, old in zip(after, before, strict=True)])
    return [min(of_one) for of_one in zip(*seen, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_redirects_alone_lose_nothing(connect, cluster: StoringCluster, kind: str) -> None:
    """Without other faults every call has its answer: no redirect is given up, or mixed up."""
    cache = connect(NO_BREAKER, on_unavailable="raise")
    say(cluster, kind, KEYS[::2])
    assert [cache.get(key) for key in KEYS] == [value_of(key) for key in KEYS]
    assert cache.get_many(KEYS) == {key: value_of(key) for key in KEYS}
    assert pipelined(cache) == [one for key in KEYS for one in (value_of(key), True)]
    assert cache.set_many({key: value_of(key) for key in KEYS}, ttl=None) == []
    assert cluster.refusals[kind] > len(KEYS)


@pytest.mark.parametrize("options", [NO_BREAKER, MARKED], ids=["plain", "marked"])
@pytest.mark.parametrize("kind", KINDS)
def test_redirected_calls_at_random_offsets(
    connect, cluster: StoringCluster, proxies: Proxies, count: Count, kind: str, options: Options
) -> None:
    """Faults in the stream to each member: of a call for one key, for many, of a pipeline."""
    cache = connect(options, timeout=TIMEOUT)
    key, other = KEYS[0], KEYS[2]
    say(cluster, kind, KEYS[::2])

    def one() -> None:
        count.check(key, cache.get(key))

    def many() -> None:
        count.check_many(KEYS, cache.get_many(KEYS))

    def pipeline() -> None:
        got = pipelined(cache)
        for key, value, there in zip(KEYS, got[::2], got[1::2], strict=True):
            count.check_next(key, value)
            assert there in (True, False)
        count.calls += 1

    # A large reply is hit at as many places as a small one.
    rng = random.Random(f"{kind} {options.echo_check}")
    faults = DOUBLES if options.echo_check else FAULTS
    for ask in (one, many, pipeline):
        for proxy, length in zip(proxies, lengths(proxies, ask), strict=True):
            for fault in faults * SCALE if length else ():
                proxy.arm(fault(rng.randrange(length)))
                with suppress(errors.CommandRefused):  # a text of an error, twice
                    ask()
                    count.check_next(other, cache.get(other))
                proxy.clear()
    assert count.wrong == []
    assert cluster.refusals[kind] > 10


@pytest.mark.parametrize("kind", KINDS)
def test_late_redirects_never_answer_the_next_call(
    connect, cluster: StoringCluster, proxies: Proxies, count: Count, kind: str
) -> None:
    """A redirect, or what it led to, that goes on after the deadline is nobody's."""
    cache = connect(NO_BREAKER, timeout=TIMEOUT)
    say(cluster, kind, KEYS[::2])
    turns = cycle(KEYS)
    for proxy, length in zip(proxies, lengths(proxies, lambda: cache.get_many(KEYS)), strict=True):
        for step in range(2 * SCALE):
            proxy.arm(Stall(length * step // (2 * SCALE)))
            key, other = next(turns), next(turns)
            count.check(key, cache.get(key))
            count.check_many(KEYS, cache.get_many(KEYS))
            proxy.resume()
            count.check_next(other, cache.get(other))
            count.check_next(key, cache.get(key))
            proxy.clear()
    assert count.wrong == []


def may(fault: Fault) -> bool:
    """Whether TCP may do it. A request that loses its middle could store anything."""
    return not isinstance(fault, BROKEN)


def threads(cache: ShardCache, count: Count, calls: int) -> None:
    """Have eight threads make calls of all kinds."""
    counts = [Count() for _ in range(8)]

    def work(mine: Count, rng: random.Random) -> None:
        for _ in range(calls):
            kind, key = rng.random(), rng.choice(KEYS)
            if kind < 0.6:
                mine.check(key, cache.get(key))
            elif kind < 0.8:
                mine.check_many(KEYS, cache.get_many(KEYS))
            elif kind < 0.9:
                cache.set(key, value_of(key), ttl=None)
            else:
                for one, got in zip(KEYS, pipelined(cache)[::2], strict=True):
                    mine.check_next(one, got)

    workers = [
        threading.Thread(target=work, args=(mine, random.Random(seed)))
        for seed, mine in enumerate(counts)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    count.calls += sum(mine.calls for mine in counts)
    count.wrong += [wrong for mine in counts for wrong in mine.wrong]


async def tasks(cache: AsyncShardCache, count: Count, number: int) -> None:
    """Have tasks make calls of all kinds, a third of them cancelled, some hundred at once."""

    async def visit(rng: random.Random) -> None:
        kind, key = rng.random(), rng.choice(KEYS)
        if kind < 0.6:
            count.check(key, await cache.get(key))
        elif kind < 0.8:
            some = rng.sample(KEYS, 6)
            count.check_many(some, await cache.get_many(some))
        elif kind < 0.9:
            await cache.set(key, value_of(key), ttl=None)
        else:
            async with cache.pipeline() as pipe:
                for one in KEYS[:6]:
                    pipe.get(one)
                    pipe.contains(one)
            for one, got in zip(KEYS, pipe.results[::2], strict=False):
                count.check_next(one, got)

    loop, rng = asyncio.get_running_loop(), random.Random(5)
    for first in range(0, number, 300):
        running = []
        for seed in range(first, min(first + 300, number)):
            running.append(loop.create_task(visit(random.Random(seed))))
            if seed % 3 == 0:
                loop.call_later(rng.random() * TIMEOUT, running[-1].cancel)
        for got in await asyncio.gather(*running, return_exceptions=True):
            assert got is None or isinstance(got, asyncio.CancelledError)


def crowd(colour: str, seeds: str, options: Options, count: Count, calls: int) -> None:
    """Have a client of either colour used by many at once."""
    how: Any = {"namespace": "g1", "timeout": TIMEOUT, "options": options}
    if colour == "sync":
        with ShardCache(seeds, **how) as cache:
            threads(cache, count, calls // 8)
        return

    async def main() -> None:
        async with AsyncShardCache(seeds, **how) as cache:
            await tasks(cache, count, calls)

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_crowd_under_random_redirects(kind: str, count: Count) -> None:
    """Slots jump from member to member, members refuse at random, connections break."""
    with StoringCluster() as cluster, ExitStack() as stack:
        proxies = [stack.enter_context(FaultProxy(one.url)) for one in cluster.members]
        places = {
            (one.address.host, one.address.port): ("127.0.0.1", proxy.port)
            for one, proxy in zip(cluster.members, proxies, strict=True)
        }
        seeds = f"redis+cluster://127.0.0.1:{proxies[0].port}"
        options = replace(NO_BREAKER, address_map=places)
        with ShardCache(seeds, namespace="g1", timeout=LONG, options=options) as filling:
            assert filling.set_many({key: value_of(key) for key in KEYS}, ttl=None) == []
        moods = random.Random(3)
        cluster.mood = lambda: moods.choice(list(MOODS.values())) if moods.random() < 0.1 else ""

        def act(rng: random.Random) -> None:
            slot = SLOTS[rng.choice(KEYS)]
            place = rng.choice((cluster.moved, cluster.asked))
            place[slot] = rng.choice(cluster.members)
            place.pop(SLOTS[rng.choice(KEYS)], None)

        with trouble(proxies, random.Random(12), 0.003, may, act):
            crowd(kind, seeds, options, count, 1200 * SCALE)
            while min(cluster.refusals[one] for one in KINDS) < 10:
                crowd(kind, seeds, options, count, 300)
    assert count.wrong == []


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_crowd_while_real_slots_move(kind: str, count: Count) -> None:
    """Slots migrate key by key from server to server, and connections break."""
    with LocalCluster(3) as cluster, ExitStack() as stack:
        proxies = [stack.enter_context(FaultProxy(one.url)) for one in cluster.servers]
        places = {
            ("127.0.0.1", server.port): ("127.0.0.1", proxy.port)
            for server, proxy in zip(cluster.servers, proxies, strict=True)
        }
        with ShardCache(cluster.url, namespace="g1", timeout=LONG) as filling:
            assert filling.set_many({key: value_of(key) for key in KEYS}, ttl=None) == []

        def migrations() -> Iterator[object]:
            rng = random.Random(6)
            while True:
                slot = SLOTS[rng.choice(KEYS)]
                others = [one for one in cluster.masters if one is not cluster.owner(slot)]
                yield from cluster.slot_migration(slot, rng.choice(others))

        steps = migrations()
        taken = 0

        def act(_: random.Random) -> None:
            nonlocal taken
            next(steps)
            taken += 1

        seeds = f"redis+cluster://127.0.0.1:{proxies[0].port}"
        options = replace(NO_BREAKER, address_map=places)
        with trouble(proxies, random.Random(12), 0.003, may, act):
            crowd(kind, seeds, options, count, 1200 * SCALE)
            while taken < 40:
                crowd(kind, seeds, options, count, 300)
        steps.close()
    assert count.wrong == []
