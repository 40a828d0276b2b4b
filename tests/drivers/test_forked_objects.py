"""A forked child gives up what is its parent's, whatever kind of object has it."""

import os
import subprocess
import sys

import pytest

from shardcache.system.forked import ForkedObjects

PROGRAM = """
import os, sys
from shardcache import AsyncShardCache, ShardCache
from shardcache.drivers.aio.loop_shards import LoopShards
from shardcache.drivers.node_discovery import NodeDiscovery
from shardcache.drivers.node_watch import NodeWatch
from shardcache.drivers.sentinel_listener import SentinelListener
from shardcache.drivers.sync.runner import Runner
from shardcache.drivers.sync.shard import Shard
from shardcache.embedded.process_guard import ProcessGuard
from shardcache.wire.sync.pool import Pool

told = set()

def note(kind):
    real = kind.after_fork
    def noted(self):
        told.add(kind.__name__)
        real(self)
    kind.after_fork = noted

for kind in (
    LoopShards, NodeDiscovery, NodeWatch, Pool, ProcessGuard, Runner, SentinelListener, Shard
):
    note(kind)
guard = ProcessGuard(sys.argv[1])
by_sentinels = ShardCache.from_url("redis+sentinel://127.0.0.1:1?masters=a")
one = ShardCache("redis://127.0.0.1:1")
one.get("k")  # makes the shard
tasks = AsyncShardCache("redis://127.0.0.1:1")
child = os.fork()
if not child:
    print(*sorted(told), flush=True)
    os._exit(0)
os.waitpid(child, 0)
assert not told, told
guard.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_all_kinds_are_told(tmp_path) -> None:
    """Each kind is told in the child, and none in the parent."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (
        0,
        [
            "LoopShards",
            "NodeDiscovery",
            "NodeWatch",
            "Pool",
            "ProcessGuard",
            "Runner",
            "SentinelListener",
            "Shard",
        ],
    ), done.stderr


def test_a_system_without_fork(monkeypatch) -> None:
    """There is nobody to be told."""
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    objects = ForkedObjects()
    objects.add(objects)  # anything that can be referred to weakly
