"""One process of a crowd: ``python hot_reader.py COLOUR URLS READERS``.

Reads until the time, by the monotonic clock, that it is told on its standard input; prints how
often it loaded the value that all of them read, and how many seconds that took.
"""

import asyncio
import sys
import threading
import time

from shardcache import AsyncShardCache, ShardCache

TTL, TAKES, PACE = 1.0, 0.1, 0.01  # seconds


def threads(urls: str, end: float, readers: int) -> list[float]:
    """Read in threads; return how long each load took."""
    loads: list[float] = []

    def load() -> str:
        began = time.monotonic()
        time.sleep(TAKES)
        loads.append(time.monotonic() - began)
        return "value"

    def read() -> None:
        while time.monotonic() < end:
            cache.get_or_set("hot", load, TTL)
            time.sleep(PACE)

    with ShardCache.from_url(urls) as cache:
        crowd = [threading.Thread(target=read) for _ in range(readers)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
    return loads


async def tasks(urls: str, end: float, readers: int) -> list[float]:
    """Read in tasks; return how long each load took."""
    loads: list[float] = []

    async def load() -> str:
        began = time.monotonic()
        await asyncio.sleep(TAKES)
        loads.append(time.monotonic() - began)
        return "value"

    async def read() -> None:
        while time.monotonic() < end:
            await cache.get_or_set("hot", load, TTL)
            await asyncio.sleep(PACE)

    async with AsyncShardCache.from_url(urls) as cache:
        await asyncio.gather(*(read() for _ in range(readers)))
    return loads


if __name__ == "__main__":
    colour, where, number = sys.argv[1:]
    print("ready", flush=True)
    until = float(sys.stdin.readline())
    took = (
        threads(where, until, int(number))
        if colour == "sync"
        else asyncio.run(tasks(where, until, int(number)))
    )
    print(len(took), sum(took))
