"""Event loops that end while a client lives on.

Nothing is left open, nothing is counted that is not there.
"""

import asyncio
import importlib.util
import re
import subprocess
import sys
from typing import Any

import pytest

from shardcache import AsyncShardCache, Options
from shardcache.testing import FaultProxy, Stall


def child(program: str, *arguments: str) -> tuple[str, str]:
    """Run a program in which every warning is an error, and asyncio looks closely."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    slow = re.compile(r"^Executing <.* took [\d.]+ seconds$")  # what asyncio says of a busy machine
    errors = [line for line in done.stderr.strip().splitlines() if not slow.match(line)]
    return done.stdout.strip(), "\n".join(errors)


MANY = """
import asyncio, gc, os, sys
from shardcache import AsyncShardCache
cache = AsyncShardCache(
    {"a": sys.argv[1], "b": sys.argv[2]}, namespace="many", timeout=30, on_unavailable="raise"
)
if sys.argv[3] == "uvloop":
    import uvloop
    run = uvloop.run
else:
    run = asyncio.run
def sockets():
    paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sum(os.readlink(path).startswith("socket:") for path in paths if os.path.exists(path))
async def use():
    await cache.set_many({str(number): number for number in range(20)})
    await cache.set("big", "x" * 100_000)
    async with cache.lock("l"):
        pass
    assert await cache.get("7") == 7
    return sum(shard.idle for shard in cache.stats().shards.values())
here = [run(use()) for _ in range(30)]
gc.collect()
shards = cache.stats().shards.values()
states = [(shard.state, shard.idle, shard.connects >= 30) for shard in shards]
print(set(here) <= {2, 3, 4}, states, sockets())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="open sockets are listed in /proc")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_one_loop_after_the_other(shards, loop) -> None:
    """A client that nobody closes serves one asyncio.run after the other.

    No warning, no socket and no connection is left.
    """
    if loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        pytest.skip("uvloop is not installed; it has no part in the client")
    urls = [server.url for server in shards.servers]
    assert child(MANY, *urls, loop) == ("True [('closed', 0, True), ('closed', 0, True)] 0", "")


UNDER_WAY = """
import asyncio, gc, sys
from shardcache import AsyncShardCache, Options
from shardcache.testing import FaultProxy, Stall
proxy = FaultProxy(sys.argv[1])
proxy.__enter__()
kinds = {
    "call": lambda cache: cache.get("k"),
    "batch": lambda cache: cache.get_many([str(number) for number in range(3000)]),
    "big": lambda cache: cache.set("k", "x" * 200_000),
    "lock": lambda cache: cache.lock("l").acquire(timeout=60),
    "load": lambda cache: cache.get_or_set("new", lambda: asyncio.sleep(60)),
}
async def main(cache, warm):
    if warm:
        await cache.get("warm")
        await cache.set("warm", "x" * 200_000)
    proxy.set(Stall())
    tasks = [asyncio.create_task(call(cache)) for call in kinds.values()]
    await asyncio.sleep(0.05)
    if sys.argv[2] == "left":
        return tasks
    for task in tasks[::2]:
        task.cancel()
    await asyncio.sleep(0)
cache = AsyncShardCache({"a": proxy.url}, namespace="way", timeout=30, options=Options(failures=1))
for warm in (True, False, True):
    asyncio.run(main(cache, warm))
    gc.collect()
    proxy.clear()
async def after():
    return await cache.set("after", 1), await cache.get("after")
print(asyncio.run(after()), [shard.idle for shard in cache.stats().shards.values()])
proxy.__exit__(None, None, None)
"""


@pytest.mark.parametrize("how", ["left", "cancelled"])
def test_calls_under_way(shards, how) -> None:
    """Calls that are under way when a loop ends leave nothing behind.

    The next loop begins afresh.
    """
    assert child(UNDER_WAY, shards.servers[0].url, how) == ("(True, 1) [0]", "")


def test_state_of_ended_loops(shards) -> None:
    """A shard that was out for a loop that has ended is not out for ever.

    Counters stay, states go.
    """
    with FaultProxy(shards.servers[0].url) as proxy:
        cache = AsyncShardCache(
            {"a": proxy.url}, timeout=0.1, options=Options(first_probe=60, max_probe=60)
        )

        async def time_out() -> Any:
            proxy.set(Stall())
            await cache.get("k")
            return cache.stats().shards["a"].state

        during = asyncio.run(time_out())
        after = cache.stats().shards["a"]
        assert (during, after.state, after.timeouts, after.ejections, after.idle) == (
            "open",
            "closed",
            1,
            1,
            0,
        )


def test_cleaning_up_at_the_end(shards) -> None:
    """What a program still does while its loop shuts down finds the client working."""
    cache = AsyncShardCache(
        {"a": shards.servers[0].url}, namespace="end", timeout=60, on_unavailable="raise"
    )
    found: list[Any] = []

    async def rows() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0.01)
            found.append(await cache.get("k"))
            await cache.aclose()

    async def main() -> None:
        await cache.set("k", 5)
        suspended.append(rows())
        await anext(suspended[0])

    suspended: list[Any] = []
    asyncio.run(main())
    assert found == [5]
