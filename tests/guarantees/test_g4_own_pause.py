"""A process that is stopped for longer than its calls may take blames no server for it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from shardcache.embedded import LocalShards

PAUSES = 4
PAUSE = 0.7  # seconds: more than twice the deadline of a call
WORK = """
import asyncio, inspect, json, sys, time
from contextlib import suppress
from shardcache import AsyncShardCache, ShardCache
from shardcache.errors import QuorumUnavailable

colour, *urls = sys.argv[1:]
cache = (ShardCache if colour == "sync" else AsyncShardCache)(urls, timeout=0.3, \
namespace="own-pause")
KEYS = [str(number) for number in range(20)]
lock, held, other = cache.lock("a", ttl=30), cache.lock("b", ttl=30), cache.lock("b", ttl=30)

async def done(result):
    return await result if inspect.isawaitable(result) else result

async def take_and_give_back(lock, **how):
    # A call waits only a moment for what it sent after a pause: that may stay without an answer.
    with suppress(QuorumUnavailable):
        if await done(lock.acquire(**how)):
            await done(lock.release())

async def turn():
    await done(cache.get("1"))
    await done(cache.get_many(KEYS))
    await take_and_give_back(lock, timeout=0.3)
    await take_and_give_back(other, timeout=0.02)

async def main():
    await done(cache.set_many(dict.fromkeys(KEYS, "v")))
    assert await done(held.acquire())
    print("ready", flush=True)
    end = time.monotonic() + float(sys.stdin.readline())
    while time.monotonic() < end:
        await turn()
    shards = cache.stats().shards.values()
    print(json.dumps([[shard.ejections for shard in shards], [shard.state for shard in shards]]))
    await done(cache.close())

if colour == "sync":
    try:
        main().send(None)
    except StopIteration:
        pass
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_no_shard_is_out_after_a_pause(colour) -> None:
    """A process that is stopped at any moment, and continued, keeps its healthy shards."""
    with LocalShards(3) as servers:
        command = [sys.executable, "-c", WORK, colour, *servers.urls.values()]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert (process.stdin, process.stdout) != (None, None)
            assert process.stdout.readline() == "ready\n"
            process.stdin.write(f"{PAUSES * (PAUSE + 0.3)}\n")
            process.stdin.flush()
            for _ in range(PAUSES):
                time.sleep(0.2)
                os.kill(process.pid, signal.SIGSTOP)
                time.sleep(PAUSE)
                os.kill(process.pid, signal.SIGCONT)
            found = json.loads(process.stdout.read())
            assert process.wait() == 0
    assert found == [[0] * 3, ["closed"] * 3]
