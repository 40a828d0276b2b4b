"""The table of mixes: each a line of data."""

from collections.abc import Mapping

from shardcache.bench.open_loop.mix import Mix, Outage
from shardcache.bench.scenarios.case import Case

__all__ = ("MIXES",)

# With a deadline, so that a shard that hangs does not stop a client for good.
THREADS = Case(shards=4, threads=8, timeout=0.5)
TASKS = Case(shards=4, tasks=1, timeout=0.5)
SHARDED = ("redis-py + uhashring", "redis-py RedisCluster", "valkey-glide cluster")
TASKS_SHARDED = ("redis.asyncio RedisCluster", "valkey-glide cluster, asyncio")
DIES = Outage("dies", 0.5, 1.0)
HANGS = Outage("hangs", 0.5, 1.0)

MIXES: Mapping[str, Mix] = {
    "mix-threads": Mix(THREADS, (*SHARDED, "pymemcache HashClient", "pylibmc")),
    "mix-tasks": Mix(TASKS, TASKS_SHARDED),
    "mix-threads-dies": Mix(THREADS, SHARDED, seconds=3, outage=DIES),
    "mix-threads-hangs": Mix(THREADS, SHARDED, seconds=3, outage=HANGS),
    "mix-tasks-dies": Mix(TASKS, TASKS_SHARDED, seconds=3, outage=DIES),
    "mix-tasks-hangs": Mix(TASKS, TASKS_SHARDED, seconds=3, outage=HANGS),
}
