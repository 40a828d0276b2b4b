"""Opening connections: what a dial must not do, with many threads and with forks."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shardcache.embedded import LocalShards


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server whose host is a name that has to be looked up."""
    with LocalShards(1, tcp=True) as servers:
        yield servers.urls["shard-1"].replace("127.0.0.1", "localhost")


def child(program: str, *arguments: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.stdout.strip(), done.stderr.strip()


SYNC = """
import sys
from shardcache import ShardCache
cache = ShardCache({"a": sys.argv[1]}, timeout=30, on_unavailable="raise")
before = set(sys.modules)
cache.get("k")
print(sorted(set(sys.modules) - before), "redis" in sys.modules)
"""
ASYNC = """
import asyncio, sys
from shardcache import AsyncShardCache
async def main():
    async with AsyncShardCache({"a": sys.argv[1]}, timeout=30, on_unavailable="raise") as cache:
        await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0))])
        before = set(sys.modules)
        await cache.get("k")
        print(sorted(set(sys.modules) - before), "redis" in sys.modules)
asyncio.run(main())
"""


@pytest.mark.parametrize("program", [SYNC, ASYNC], ids=["sync", "async"])
def test_no_import_on_the_way(url, program) -> None:
    """A first connection imports nothing: a child forked then would wait for the import lock."""
    assert child(program, url) == ("[] False", "")


FORKS = """
import os, sys, threading, time
from shardcache import ShardCache
def cache():
    return ShardCache({"a": sys.argv[1]}, timeout=30, on_unavailable="raise")
stop, go = threading.Event(), threading.Event()
def dial():
    mine = cache()
    go.wait()
    while not stop.is_set():
        mine.get("k")
        mine._driver.shards[0].pool.empty()
threads = [threading.Thread(target=dial) for _ in range(8)]
for thread in threads:
    thread.start()
go.set()
children = []
for _ in range(12):
    child = os.fork()
    if not child:
        cache().get("k")
        os._exit(0)
    children.append(child)
    time.sleep(0.001)
left = time.monotonic() + 60
codes = []
for child in children:
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < left:
        time.sleep(0.01)
    if not ended[0]:
        os.kill(child, 9)
        ended = os.waitpid(child, 0)
    codes.append(os.waitstatus_to_exitcode(ended[1]))
stop.set()
for thread in threads:
    thread.join()
print(codes)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_while_siblings_dial(url) -> None:
    """A child forked while threads open connections opens its own, and waits for no lock."""
    assert child(FORKS, url) == (str([0] * 12), "")
