"""The near cache: hits and misses, what 8 processes ask of servers, how soon a write is heard.

A miss is what a client with a near cache pays for a key that it may keep, and for one that it may
not. ``python benchmarks near``
"""

import asyncio
import bisect
import itertools
import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

from redis import Redis

from shardcache import AsyncShardCache, NearCache, Options, ShardCache
from shardcache.bench.figure import Figure, against
from shardcache.bench.race import Race, Racer, Spread
from shardcache.embedded import LocalShards
from shardcache.near_cache import NearChoice

VALUE = "v" * 100
KEYS = [f"user:{number}:profile" for number in range(1000)]
CALLS = [KEYS[at : at + 100] for at in range(0, 1000, 100)]
PROCESSES = 8
SECONDS = 4.0
WRITES = 500
HOT = "front-page"
HOT_READS = 50_000  # a second, of all processes
TURNS = 50  # of each process in a second
WARM_UP = 2.0  # seconds
TIMEOUT = 5.0


def figures(race: Race) -> Iterator[Figure]:
    """Race hits and misses; then run processes, and count what the servers were asked."""
    with LocalShards(2, tcp=True) as servers:
        urls = servers.urls
        with (
            ShardCache(urls, timeout=TIMEOUT) as plain,
            ShardCache(urls, timeout=TIMEOUT, near=NearCache()) as near,
            ShardCache(urls, timeout=TIMEOUT, near=NearCache(keys="other:*")) as unwanted,
            ShardCache(urls, timeout=TIMEOUT, near=NearCache(ttl=0.001)) as missing,
            ShardCache(urls, timeout=TIMEOUT, near="hot") as hot,
            ShardCache(urls, timeout=TIMEOUT, options=Options(hot_keys=100)) as counting,
        ):
            plain.set_many(dict.fromkeys(KEYS, VALUE))
            warm(near)
            warm(missing)
            warm(hot, KEYS[:100])
            laps = race(
                [
                    Racer("near: get, a hit", near.get, KEYS[:100]),
                    Racer("get", plain.get, KEYS),
                    Racer("near: get, not to be kept", unwanted.get, KEYS),
                    Racer("near: get, a miss that is kept", missing.get, KEYS),
                    Racer("near='hot': get, a hit", hot.get, KEYS[:100]),
                    Racer("get, reads counted", counting.get, KEYS),
                ]
            )
            hit = laps.micros("near: get, a hit")
            yield Figure("near: get, a hit", Spread(hit, hit, hit), 2, " µs")
            hit = laps.micros("near='hot': get, a hit")
            yield Figure("near='hot': get, a hit", Spread(hit, hit, hit), 2, " µs")
            yield against(laps, "get, reads counted", "get", 1.05)
            yield against(laps, "near: get, not to be kept", "get", 1.05)
            yield against(laps, "near: get, a miss that is kept", "get", 1.05)
            laps = race(
                [
                    Racer("get_many(100)", plain.get_many, CALLS),
                    Racer("near: get_many, hits", near.get_many, CALLS),
                    Racer("near: get_many, not to be kept", unwanted.get_many, CALLS),
                    Racer("near: get_many, misses that are kept", missing.get_many, CALLS),
                ]
            )
            yield against(laps, "near: get_many, hits", "get_many(100)", 0.5)
            yield against(laps, "near: get_many, not to be kept", "get_many(100)", 1.3)
            yield against(laps, "near: get_many, misses that are kept", "get_many(100)", 3)
        yield asyncio.run(async_hit(urls))
        yield from zipf(urls)
        yield hot_key(urls, NearCache())
        yield hot_key(urls, "hot")
        yield heard(urls)


def warm(cache: ShardCache, keys: Sequence[str] = KEYS) -> None:
    """Read until the shards are heard, and then once more."""
    end = time.monotonic() + 1
    while time.monotonic() < end:
        for key in keys:
            cache.get(key)


async def async_hit(urls: dict[str, str]) -> Figure:
    """Time hits of the asyncio client, one task."""
    async with AsyncShardCache(urls, timeout=TIMEOUT, near=NearCache()) as cache:
        for _ in range(3):
            await cache.get(KEYS[0])
            await asyncio.sleep(0.3)
        laps = []
        for _ in range(50):
            started = time.perf_counter()
            for _ in range(1000):
                await cache.get(KEYS[0])
            laps.append((time.perf_counter() - started) * 1000)
        return Figure("near: asyncio get, a hit", Spread.of(laps), 3, " µs")


def asked(urls: dict[str, str]) -> int:
    """Return how many reads the servers have carried out."""
    total = 0
    for url in urls.values():
        with Redis.from_url(url) as redis:
            total += redis.info("commandstats").get("cmdstat_get", {"calls": 0})["calls"]
    return total


def reader(urls: dict[str, str], near: bool, number: int, reads: Any) -> None:
    """Read keys by Zipf's law (exponent 1) for some seconds; one in a thousand calls writes."""
    rng = random.Random(number)
    sums = list(itertools.accumulate(1 / rank for rank in range(1, len(KEYS) + 1)))
    done = 0
    with ShardCache(urls, timeout=TIMEOUT, near=NearCache() if near else None) as cache:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            key = KEYS[bisect.bisect_left(sums, rng.random() * sums[-1])]
            if done % 1000 == 999:
                cache.set(key, VALUE)
            cache.get(key)
            done += 1
    reads.put(done)


def zipf(urls: dict[str, str]) -> Iterator[Figure]:
    """Run the processes with a near cache; without one, each read is a request."""
    before = asked(urls)
    context = multiprocessing.get_context("spawn")
    reads = context.Queue()
    crowd = [
        context.Process(target=reader, args=(urls, True, number, reads))
        for number in range(PROCESSES)
    ]
    for process in crowd:
        process.start()
    total = sum(reads.get() for _ in crowd)
    for process in crowd:
        process.join()
    share = (asked(urls) - before) / total * 100
    costs = f"{total / SECONDS:,.0f} reads a second in all, 0.1 % writes"
    yield Figure(
        f"near: requests of {PROCESSES} processes, Zipf over 1,000 keys",
        Spread(share, share, share),
        15,
        " %",
        costs,
    )


def hot_reader(urls: dict[str, str], near: NearChoice, ready: Any, pipe: Any) -> None:
    """Read one key, so often that all processes together come to `HOT_READS` in a second."""
    part = HOT_READS // PROCESSES // TURNS
    with ShardCache(urls, timeout=TIMEOUT, near=near) as cache:
        done, due = 0, time.monotonic()
        counted_from = due + WARM_UP
        while due < counted_from + SECONDS:
            if due >= counted_from and not done:
                ready.wait()  # until all have warmed up, and the servers' counts are noted
                counted_from = due = time.monotonic()
            for _ in range(part):
                cache.get(HOT)
            done += part * (due >= counted_from)
            due += 1 / TURNS
            time.sleep(max(due - time.monotonic(), 0))
        pipe.send((done, time.monotonic() - counted_from))


def hot_key(urls: dict[str, str], near: NearChoice) -> Figure:
    """Count what a hot key's shard is asked while 8 processes read the key, and one writes it."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(PROCESSES + 1)
    ours, theirs = context.Pipe(duplex=False)
    crowd = [
        context.Process(target=hot_reader, args=(urls, near, ready, theirs))
        for _ in range(PROCESSES)
    ]
    with ShardCache(urls, timeout=TIMEOUT) as cache:
        cache.set(HOT, VALUE)
        for process in crowd:
            process.start()
        ready.wait()
        before = asked(urls)
        for _ in range(int(SECONDS) - 1):
            time.sleep(1)
            cache.set(HOT, VALUE)
    counts = [ours.recv() for _ in crowd]
    rate = (asked(urls) - before) / SECONDS
    for process in crowd:
        process.join()
    reads = sum(done / seconds for done, seconds in counts)
    name = 'near="hot"' if near == "hot" else "near"
    return Figure(
        f"{name}: reads a second that a hot key's shard sees",
        Spread(rate, rate, rate),
        100,
        "",
        f"{reads:,.0f} reads a second of {PROCESSES} processes, written once a second",
    )


def writer(urls: dict[str, str], pipe: Any) -> None:
    """Write when told to; say when each write was acknowledged."""
    with ShardCache(urls, timeout=TIMEOUT) as cache:
        while (number := pipe.recv()) is not None:
            cache.set("heard", number)
            pipe.send(time.monotonic())


def heard(urls: dict[str, str]) -> Figure:
    """Time from the acknowledgement of a write in one process to its first read in another."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=writer, args=(urls, theirs))
    process.start()
    delays = []
    with ShardCache(urls, timeout=TIMEOUT, near=NearCache()) as cache:
        for number in range(WRITES):
            cache.get("heard")
            cache.get("heard")
            ours.send(number)
            while cache.get("heard") != number:
                time.sleep(0)
            seen = time.monotonic()
            delays.append(max(seen - ours.recv(), 0.0) * 1000)
    ours.send(None)
    process.join()
    delays.sort()
    p99 = delays[int(len(delays) * 0.99)]
    return Figure(
        "near: from acknowledged to seen in another process, p99",
        Spread(p99, delays[len(delays) // 2], delays[-1]),
        5,
        " ms",
        "in brackets: median and longest",
    )
