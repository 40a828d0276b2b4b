"""The asyncio client: many tasks on one pipelined connection per shard.

Measured are speed, and fairness between tasks; the memory of tasks that wait: `footprint`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from statistics import quantiles
from typing import Any
from urllib.parse import urlsplit

from cluster import local_cluster
from peers import BarePipe
from redis.asyncio import Redis, RedisCluster

from shardcache import AsyncShardCache
from shardcache.bench.figure import Figure
from shardcache.bench.race import Laps, Race, Racer, Spread
from shardcache.embedded import LocalShards

VALUE = "v" * 100
RAW = VALUE.encode()
KEYS = [f"user:{number}:profile" for number in range(1000)]
CALLS = [KEYS[at : at + 100] for at in range(0, 1000, 100)]
SHARDS = 4
TASKS, ROUND = 64, 20  # tasks at once, calls of each in one run of the loop
LONG_TIMEOUT = 30  # seconds: the machine may be busy with something else
BIG = 10_000_000  # bytes
MANY = [f"many:{number}" for number in range(10_000)]

Get = Callable[[Any], Awaitable[object]]


class Track:
    """An event loop that a race's laps run on, one call of ``run`` after the other."""

    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._loop = factory()

    def run(self, main: Awaitable[Any]) -> Any:
        return self._loop.run_until_complete(main)

    def racer(self, name: str, get: Get, inputs: list[Any], tasks: int) -> Racer:
        """Return a racer each of whose calls is ``tasks`` tasks that make `ROUND` calls each."""

        async def work(mine: list[Any]) -> None:
            for one in mine:
                await get(one)

        async def crowd(shares: list[list[Any]]) -> None:
            await asyncio.gather(*map(work, shares))

        def shares(at: int) -> list[list[Any]]:
            return [
                [inputs[(at + task * ROUND + turn) % len(inputs)] for turn in range(ROUND)]
                for task in range(tasks)
            ]

        return Racer(
            name, lambda each: self.run(crowd(each)), [shares(at) for at in range(0, 100, 25)]
        )

    def close(self) -> None:
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


def figures(race: Race) -> Iterator[Figure]:
    """Race on the default loop, then on uvloop if it is there, then look at fairness."""
    yield from on_loop(race, "", asyncio.SelectorEventLoop, goals=True)
    if find_spec("uvloop"):
        import uvloop

        yield from on_loop(race, "uvloop: ", uvloop.new_event_loop, goals=False)
    yield from beside_bulk(race)


def on_loop(
    race: Race, label: str, factory: Callable[[], asyncio.AbstractEventLoop], *, goals: bool
) -> Iterator[Figure]:
    with ExitStack() as stack:
        track = Track(factory)
        stack.callback(track.close)
        servers = stack.enter_context(LocalShards(SHARDS, tcp=True))
        url = servers.servers[0].url
        wires = [key.encode() for key in KEYS]
        cache, fleet = (
            AsyncShardCache(urls, timeout=LONG_TIMEOUT) for urls in ({"one": url}, servers.urls)
        )
        for client in (cache, fleet):
            stack.callback(lambda client=client: track.run(client.aclose()))
        track.run(cache.set_many(dict.fromkeys(KEYS, VALUE)))
        track.run(fleet.set_many(dict.fromkeys(KEYS, VALUE)))
        bare = track.run(BarePipe.to(url))
        redis = Redis.from_url(url)
        stack.callback(lambda: track.run(redis.aclose()))
        stack.callback(bare.transport.close)
        glide = track.run(glide_of(url)) if find_spec("glide") else None

        def peers(tasks: int) -> list[Racer]:
            racers = [
                track.racer("get", cache.get, KEYS, tasks),
                track.racer("bare pipelined Protocol", bare.get, wires, tasks),
                track.racer("redis.asyncio", redis.get, KEYS, tasks),
            ]
            return (
                [*racers, track.racer("valkey-glide", glide.get, KEYS, tasks)] if glide else racers
            )

        crowd = race(peers(TASKS), share=0.3)
        for peer, goal in (
            ("bare pipelined Protocol", 1 / 0.7),
            ("redis.asyncio", 1 / 15),
            ("valkey-glide", 1 / 8),
        ):
            if peer in crowd.seconds:
                yield per_call(
                    crowd,
                    "get",
                    peer,
                    goal if goals else None,
                    TASKS * ROUND,
                    f"{label}{TASKS} tasks: ",
                )
        alone = race(peers(1), share=0.3)
        for peer, goal in (
            ("bare pipelined Protocol", None),
            ("redis.asyncio", 0.45),
            ("valkey-glide", None),
        ):
            if peer in alone.seconds:
                yield per_call(
                    alone, "get", peer, goal if goals else None, ROUND, f"{label}1 task: "
                )

        local = stack.enter_context(local_cluster(SHARDS))
        local.mset_nonatomic(dict.fromkeys(KEYS, RAW))
        node = local.get_default_node()
        cluster = RedisCluster(host=node.host, port=node.port)
        stack.callback(lambda: track.run(cluster.aclose()))
        many = race(
            [
                track.racer("get_many(100)", fleet.get_many, CALLS, 16),
                track.racer(
                    "RedisCluster.mget_nonatomic",
                    lambda keys: cluster.mget_nonatomic(*keys),
                    CALLS,
                    16,
                ),
            ],
            share=0.05,
        )
        goal = 1 / 8 if goals else None
        yield per_call(
            many,
            "get_many(100)",
            "RedisCluster.mget_nonatomic",
            goal,
            16 * ROUND,
            f"{label}16 tasks: ",
        )
        if glide:
            track.run(glide.close())


async def glide_of(url: str) -> Any:
    from glide import GlideClient, GlideClientConfiguration, NodeAddress

    where = urlsplit(url)
    known = [NodeAddress(where.hostname, where.port)]
    return await GlideClient.create(
        GlideClientConfiguration(known, request_timeout=LONG_TIMEOUT * 1000)
    )


def per_call(
    laps: Laps, name: str, peer: str, goal: float | None, calls: int, label: str
) -> Figure:
    costs = f"{laps.micros(name) / calls:.1f} / {laps.micros(peer) / calls:.1f} µs"
    rounded = None if goal is None else round(goal, 3)
    return Figure(
        f"{label}{name} / {peer}",
        laps.ratio(name, peer),
        rounded,
        "",
        costs,
        laps.costs(name, peer, calls=calls),
    )


def beside_bulk(race: Race) -> Iterator[Figure]:
    """Compare p99 of small gets beside bulk with two bare connections that do the same."""
    track = Track(asyncio.SelectorEventLoop)
    with LocalShards(1, tcp=True) as servers:
        (url,) = servers.urls.values()
        cache = AsyncShardCache({"one": url}, timeout=LONG_TIMEOUT)
        small, bulk = track.run(BarePipe.to(url)), track.run(BarePipe.to(url))
        big = bytes(BIG)
        track.run(cache.set("big", big))
        track.run(cache.set_many(dict.fromkeys([*KEYS, *MANY], VALUE)))
        raws = [key.encode() for key in MANY]
        beside: dict[str, tuple[Get, Get]] = {
            "a set of 10 MB": (
                lambda _: cache.set("big", big),
                lambda _: bulk.send(b"SET", b"raw", big),
            ),
            "a get of 10 MB": (lambda _: cache.get("big"), lambda _: bulk.get(b"big")),
            "a get_many of 10,000": (
                lambda _: cache.get_many(MANY),
                lambda _: bulk.send(b"MGET", *raws),
            ),
        }
        rounds = max(5, race.rounds // 10)
        for what, (ours, theirs) in beside.items():
            rows = [
                (
                    track.run(slow_gets(cache.get, ours)),
                    track.run(slow_gets(lambda key: small.get(key.encode()), theirs)),
                )
                for _ in range(rounds)
            ]
            mine, other = (Spread.of(column).middle * 1000 for column in zip(*rows, strict=True))
            ratio = Spread.of(first / second for first, second in rows)
            yield Figure(
                f"p99 of get beside {what} / bare Protocols",
                ratio,
                None,
                "",
                f"{mine:.1f} / {other:.1f} ms, 16 tasks",
            )
        track.run(cache.aclose())
        small.transport.close()
        bulk.transport.close()
        track.run(asyncio.sleep(0))
    track.close()


async def slow_gets(get: Get, bulk: Get, *, times: int = 3) -> float:
    """Return the 99th percentile, in seconds, of small gets from 16 tasks beside ``bulk``."""
    loop = asyncio.get_running_loop()
    took: list[float] = []
    over = False

    async def work(at: int) -> None:
        while not over:
            begun = loop.time()
            await get(KEYS[at])
            took.append(loop.time() - begun)

    tasks = [loop.create_task(work(at)) for at in range(16)]
    for _ in range(times):
        await bulk(None)
    over = True
    await asyncio.gather(*tasks)
    return quantiles(took, n=100)[98]
