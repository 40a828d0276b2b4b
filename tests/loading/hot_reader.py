"""One process of a crowd: ``python hot_reader.py COLOUR URLS SECONDS READERS``. Prints how often it loaded the value that all of them read."""

import asyncio
import sys
import threading
import time

from shardcache import AsyncShardCache, ShardCache

TTL, TAKES, PACE = 1.0, 0.1, 0.01  # seconds


def threads(urls: str, seconds: float, readers: int) -> int:
    """Read in threads; return the number of loads."""
    loads: list[int] = []

    def load() -> str:
        loads.append(1)
        time.sleep(TAKES)
        return "value"

    def read() -> None:
        while time.monotonic() < end:
            cache.get_or_set("hot", load, TTL)
            time.sleep(PACE)

    with ShardCache.from_url(urls) as cache:
        end = time.monotonic() + seconds
        crowd = [threading.Thread(target=read) for _ in range(readers)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
    return len(loads)


async def tasks(urls: str, seconds: float, readers: int) -> int:
    """Read in tasks; return the number of loads."""
    loads: list[int] = []

    async def load() -> str:
        loads.append(1)
        await asyncio.sleep(TAKES)
        return "value"

    async def read() -> None:
        while time.monotonic() < end:
            await cache.get_or_set("hot", load, TTL)
            await asyncio.sleep(PACE)

    async with AsyncShardCache.from_url(urls) as cache:
        end = time.monotonic() + seconds
        await asyncio.gather(*(read() for _ in range(readers)))
    return len(loads)


if __name__ == "__main__":
    colour, where, duration, number = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    if colour == "sync":
        print(threads(where, float(duration), int(number)))
    else:
        print(asyncio.run(tasks(where, float(duration), int(number))))
