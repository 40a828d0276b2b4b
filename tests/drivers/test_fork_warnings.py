"""A fork leaves the child nothing of the parent's connections, and no warning about them."""

import subprocess
import sys

from shardcache.embedded import LocalShards

PROGRAM = """
import gc, os, sys
from shardcache import ShardCache

cache = ShardCache(sys.argv[1:], namespace="fork", timeout=20)
cache.set("a", 1)
cache.get_many(["a", "b", "c"])
with cache.lock("l"):
    pass
child = os.fork()
gc.collect()
assert cache.get("a") == 1
cache.close()
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


ASYNC_PROGRAM = """
import asyncio, gc, os, sys
from shardcache import AsyncShardCache

cache = AsyncShardCache(sys.argv[1:], namespace="fork", timeout=20)
loop = asyncio.new_event_loop()
loop.run_until_complete(cache.set("a", 1))
child = os.fork()
if child:
    loop.run_until_complete(cache.close())
    loop.close()
    assert os.waitpid(child, 0)[1] == 0
else:
    del cache
    gc.collect()
"""


def test_idle_asyncio_client_at_a_fork() -> None:
    """A child that drops the parent's client is not told to close it: the loop is the parent's."""
    with LocalShards(1) as shards:
        done = subprocess.run(
            [
                sys.executable,
                "-W",
                "always::ResourceWarning",
                "-c",
                ASYNC_PROGRAM,
                *shards.urls.values(),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, "AsyncShardCache" in done.stderr) == (0, False), done.stderr


def test_idle_connections_at_a_fork() -> None:
    """Parent and child go on, and neither is warned of a socket that nobody closed."""
    with LocalShards(3) as shards:
        done = subprocess.run(
            [sys.executable, "-W", "always::ResourceWarning", "-c", PROGRAM, *shards.urls.values()],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
