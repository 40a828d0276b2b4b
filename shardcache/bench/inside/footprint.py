"""What the package costs in memory, and before it does anything: fresh interpreters, in turns."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from shardcache.bench.figure import Figure
from shardcache.bench.race import Race, Spread
from shardcache.embedded import LocalShards

__all__ = ("FOOTPRINT", "Program", "figures", "fresh")

SHARDS = 10
SLOWEST = 120  # seconds that an interpreter may take
ROLLUP = "/proc/self/smaps_rollup"  # Linux
# Private memory, clean and dirty: what would be free again if this process ended.
PRIVATE = """
import gc, sys, time
def private():
    gc.collect()
    with open("/proc/self/smaps_rollup") as rollup:
        return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))
urls = sys.argv[1:]
"""


class Program(NamedTuple):
    """A program that prints a number, beside that of a peer.

    ``what``: what the number is.
    ``ours``, ``theirs``: the source of each.
    ``unit``: of the number.
    ``goal``: the most that is allowed of what is shown.
    ``shown``: the ratio of both, the excess of ours, or our own number.
    """

    what: str
    ours: str
    theirs: str
    unit: str
    goal: float | None = None
    shown: Literal["ratio", "excess", "own"] = "own"


IDLE = Program(
    f"idle client over {SHARDS} shards - {SHARDS} x redis.Redis: memory of the process",
    PRIVATE
    + """
from shardcache import ShardCache
cache = ShardCache(urls)
answers = cache.ping()  # leaves one connection to each
assert all(answer.ok for answer in answers.values()), answers
print(private() / 1024)
""",
    PRIVATE
    + """
from redis import Redis
clients = [Redis.from_url(url) for url in urls]
assert all(client.ping() for client in clients)
print(private() / 1024)
""",
    " MB",
    3,
    shown="excess",
)
CONNECTIONS = Program(
    "memory of one more connection, of 500 / redis-py's",
    PRIVATE
    + """
from shardcache import ShardCache
with ShardCache(urls[:1]) as cache:
    pool = cache._runner.shards[0].pool
    links = [pool.open(time.monotonic() + 30) for _ in range(20)]
    before = private()
    links += [pool.open(time.monotonic() + 30) for _ in range(500)]
    print((private() - before) / 500)
""",
    PRIVATE
    + """
from redis import Redis
pool = Redis.from_url(urls[0], max_connections=1000).connection_pool
links = [pool.get_connection() for _ in range(20)]
before = private()
links += [pool.get_connection() for _ in range(500)]
print((private() - before) / 500)
""",
    " KB",
)
NEAR = Program(
    "memory of a near item of 100 bytes, of 50,000 / of a cachetools.TTLCache",
    PRIVATE
    + """
from shardcache import NearCache, ShardCache
keys = [f"user:{number}:profile" for number in range(50_000)]
with ShardCache(urls[:1], near=NearCache(max_items=100_000), timeout=60) as cache:
    cache.set_many({key: f"{key:x>100}" for key in keys})
    cache.get("user:0:profile")
    time.sleep(0.5)  # now the server tells of writes
    before = private()
    for at in range(0, len(keys), 1000):
        cache.get_many(keys[at : at + 1000])
    print((private() - before) / len(keys) * 1024)
""",
    PRIVATE
    + """
from cachetools import TTLCache
from redis import Redis
keys = [f"user:{number}:profile" for number in range(50_000)]
kept = TTLCache(100_000, 60)
before = private()
for key in keys:
    kept[key] = f"{key:x>100}"
print((private() - before) / len(keys) * 1024)
""",
    " B",
)
IMPORT = """
import time
started = time.perf_counter()
import {package}
print((time.perf_counter() - started) * 1000)
"""
IMPORTS = Program(
    "import shardcache / import redis",
    IMPORT.format(package="shardcache"),
    IMPORT.format(package="redis"),
    " ms",
    1.25,
    shown="ratio",
)
START = Program(
    "import, client and first get / redis-py's",
    """
import sys, time
started = time.perf_counter()
from shardcache import ShardCache
ShardCache(sys.argv[1:2]).get("key")
print((time.perf_counter() - started) * 1000)
""",
    """
import sys, time
started = time.perf_counter()
from redis import Redis
Redis.from_url(sys.argv[1]).get("key")
print((time.perf_counter() - started) * 1000)
""",
    " ms",
    shown="ratio",
)
WAITING = """
import asyncio, gc, tracemalloc, sys
from shardcache import AsyncShardCache, Options
from shardcache.testing import FaultProxy, Stall

async def main(proxy):
    tasks = 50_000
    # All are sent, so that each has its place on the connection.
    # None is answered before it is counted.
    options = Options(max_in_flight=1_000_000)
    cache = AsyncShardCache({"one": proxy.url}, timeout=60, options=options)
    await cache.get("key")
    proxy.set(Stall())
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    calls = [asyncio.ensure_future(cache.get(f"key:{number}")) for number in range(tasks)]
    await asyncio.sleep(1)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    proxy.clear()
    await asyncio.gather(*calls)
    await cache.aclose()
    print((after - before) / tasks / 1000)

with FaultProxy(sys.argv[1]) as proxy:
    asyncio.run(main(proxy))
"""
WAITING_LABEL = "50,000 concurrent gets: memory per waiting call, task included"


def figures(race: Race) -> Iterator[Figure]:
    """Yield memory and start-up beside a peer's; memory of processes on Linux alone."""
    times = max(3, race.rounds // 5)
    with LocalShards(SHARDS, tcp=True) as servers:
        urls = list(servers.urls.values())
        if os.path.exists(ROLLUP):
            for program in (IDLE, CONNECTIONS, NEAR):
                yield compared(program, urls, max(3, times // 4))
        yield Figure(WAITING_LABEL, Spread.of([fresh(WAITING, urls)]), 1.5, " KB")
        for program in (IMPORTS, START):
            # Now the compiled files are there, and in the page cache.
            fresh(program.ours, urls)
            fresh(program.theirs, urls)
            yield compared(program, urls, times)


def compared(program: Program, urls: Sequence[str], times: int) -> Figure:
    """Run both programs in turns, and return the figure."""
    rows = [(fresh(program.ours, urls), fresh(program.theirs, urls)) for _ in range(times)]
    ours, theirs = (Spread.of(column) for column in zip(*rows, strict=True))
    costs = f"{ours.middle:.1f} / {theirs.middle:.1f}{program.unit}"
    if program.shown == "ratio":
        ratio = Spread.of(mine / other for mine, other in rows)
        return Figure(program.what, ratio, program.goal, "", costs)
    if program.shown == "excess":
        ours = Spread.of(mine - other for mine, other in rows)
    return Figure(program.what, ours, program.goal, program.unit, costs)


def fresh(code: str, arguments: Sequence[str] = ()) -> float:
    """Run ``code`` in a new interpreter with the same packages; return the number it prints."""
    environ = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", "import sys\n" + code, *arguments]
    ran = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=SLOWEST, check=True
    )
    return float(ran.stdout)


FOOTPRINT = {"footprint": figures}
