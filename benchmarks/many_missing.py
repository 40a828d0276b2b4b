"""What loading very many missing keys at once costs, and what others notice of it.

``python benchmarks/many_missing.py [--keys N] [--shards N] [--asyncio]``

One process calls `get_or_set_many` for keys of which none is there. Another gets a single key again
and again, a hundred times a second, first with nothing else going on and then meanwhile. With
``--asyncio`` it is the asyncio client that loads, and a task on its event loop gets a key as well.
"""

import argparse
import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from shardcache import AsyncShardCache, Event, Options, ShardCache
from shardcache.embedded import LocalShards

ALONE = 3.0  # seconds that the other caller is watched with nothing else going on
PACE = 0.01
Loader = Callable[[list[str]], dict[str, str]]


def other(urls: dict[str, str], pipe: Connection) -> None:
    """Get one key again and again; at each message send how long the calls since then took."""
    with ShardCache(urls, namespace="other") as cache:
        cache.set("k", "v", ttl=None)
        took: list[float] = []
        pipe.send("ready")
        while True:
            if pipe.poll():
                pipe.recv()
                pipe.send(took)
                took = []
            began = time.perf_counter()
            cache.get("k")
            took.append(time.perf_counter() - began)
            time.sleep(PACE)


async def by_asyncio(
    urls: dict[str, str], options: Options, keys: list[str], load: Loader
) -> tuple[float, int]:
    """Load with the asyncio client, beside a task that gets one key again and again.

    Returns the seconds that it took and how many values came.
    """
    async with AsyncShardCache(urls, options=options) as cache:
        took: list[float] = []

        async def get() -> None:
            while True:
                began = time.perf_counter()
                await cache.get("k")
                took.append(time.perf_counter() - began)
                await asyncio.sleep(PACE)

        beside = asyncio.create_task(get())
        began = time.perf_counter()
        found = await cache.get_or_set_many(keys, load, 3600)
        seconds = time.perf_counter() - began
        beside.cancel()
    told("by another task", took)
    return seconds, len(found)


def told(when: str, took: list[float]) -> None:
    """Print median, p99 and the longest call."""
    took.sort()
    middle, late, longest = (
        took[min(int(len(took) * share), len(took) - 1)] * 1000 for share in (0.5, 0.99, 1)
    )
    print(
        f"a get elsewhere, {when}: {middle:.2f} ms, p99 {late:.2f} ms, "
        f"longest {longest:.1f} ms, {len(took)} calls"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Load many missing keys at once.")
    parser.add_argument(
        "--keys", type=int, default=100_000, help="keys that are missing (default: %(default)s)"
    )
    parser.add_argument("--shards", type=int, default=3, help="servers (default: %(default)s)")
    parser.add_argument("--asyncio", action="store_true", help="load with the asyncio client")
    said = parser.parse_args()
    calls: list[int] = []

    def load(keys: list[str]) -> dict[str, str]:
        calls.append(len(keys))
        return dict.fromkeys(keys, "x" * 100)

    out: list[Event] = []

    def note(event: Event) -> None:
        if event.kind == "shard_out":
            out.append(event)

    keys = [f"key:{number}" for number in range(said.keys)]
    fork = multiprocessing.get_context("fork")
    with LocalShards(said.shards, tcp=True) as servers:
        mine, theirs = fork.Pipe()
        caller = fork.Process(target=other, args=(servers.urls, theirs), daemon=True)
        caller.start()
        try:
            mine.recv()
            time.sleep(ALONE)
            mine.send("alone")
            alone = mine.recv()
            options = Options(on_event=note)
            with ShardCache(servers.urls, options=options) as cache:
                if said.asyncio:
                    took, found = asyncio.run(by_asyncio(servers.urls, options, keys, load))
                else:
                    began = time.perf_counter()
                    found = len(cache.get_or_set_many(keys, load, 3600))
                    took = time.perf_counter() - began
                mine.send("meanwhile")
                meanwhile = mine.recv()
                stored = sum(
                    len(cache.get_many(keys[at : at + 1000])) for at in range(0, len(keys), 1000)
                )
        finally:
            caller.kill()
            caller.join()
    print(
        f"{said.keys:,} missing keys, {said.shards} shards, load average "
        f"{os.getloadavg()[0]:.1f}: {took:.1f} s"
    )
    print(
        f"returned {found:,}, stored {stored:,}, calls of the loader "
        f"{len(calls):,}, shards out {len(out)}"
    )
    told("alone", alone)
    told("meanwhile", meanwhile)


if __name__ == "__main__":
    main()
