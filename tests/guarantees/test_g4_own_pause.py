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
from shardcache import AsyncShardCache, LoadPolicy, ShardCache, errors

colour, what, *urls = sys.argv[1:]
cache = (ShardCache if colour == "sync" else AsyncShardCache)(urls, timeout=0.3, namespace="own-pause")
KEYS = [str(number) for number in range(20)]
locks = [cache.lock(name, ttl=30) for name in "ab"]

async def done(result):
    return await result if inspect.isawaitable(result) else result

async def turn():
    if what == "get":
        await done(cache.get("1"))
    elif what == "get_many":
        await done(cache.get_many(KEYS))
    elif what == "lock":
        with suppress(errors.LockError):  # a pause may outlast it
            await done(locks[0].acquire(timeout=0.3))
            await done(locks[0].release())
    elif what == "wait":
        with suppress(errors.LockError):
            await done(locks[0].acquire(timeout=0.05))
            await done(locks[1].acquire(timeout=0.05))

async def main():
    await done(cache.set_many(dict.fromkeys(KEYS, "v")))
    print("ready", flush=True)
    end = time.monotonic() + float(sys.stdin.readline())
    while time.monotonic() < end:
        await turn()
    shards = (await done(cache.stats()) if False else cache.stats()).shards.values()
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


@pytest.mark.parametrize("what", ["get", "get_many", "lock", "wait"])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_no_shard_is_out_after_a_pause(colour, what) -> None:
    """Stopped and continued in the middle of whatever it does, a process keeps its healthy shards in service."""
    with LocalShards(3) as servers:
        command = [sys.executable, "-c", WORK, colour, what, *servers.urls.values()]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert (process.stdin, process.stdout) != (None, None)
            assert process.stdout.readline() == "ready\n"
            process.stdin.write(f"{PAUSES * (PAUSE + 0.3)}\n")
            process.stdin.flush()
            for _ in range(PAUSES):
                time.sleep(0.2)
                os.kill(process.pid, signal.SIGSTOP)
                time.sleep(PAUSE)
                os.kill(process.pid, signal.SIGCONT)
            ejections, states = json.loads(process.stdout.read())
            assert process.wait() == 0
    assert states == ["closed"] * 3
    # On a busy machine the process is late more often than it is stopped here, and three times in a row is out.
    assert sum(ejections) <= 1
