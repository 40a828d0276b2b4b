"""For tests of a cache: servers, and proxies that break the stream to them on demand."""

from shardcache.testing.faults import (
    BlackHole,
    Corrupt,
    Cut,
    Delay,
    Drop,
    Duplicate,
    Fault,
    Refuse,
    Replay,
    Split,
    Stall,
    random_fault,
)
from shardcache.testing.outage import ShardOutage
from shardcache.testing.proxy import FaultProxy
from shardcache.testing.relay import ConnectionInfo, Traffic
from shardcache.testing.shard_set import ShardSet

__all__ = (
    "BlackHole",
    "ConnectionInfo",
    "Corrupt",
    "Cut",
    "Delay",
    "Drop",
    "Duplicate",
    "Fault",
    "FaultProxy",
    "Refuse",
    "Replay",
    "ShardOutage",
    "ShardSet",
    "Split",
    "Stall",
    "Traffic",
    "random_fault",
)
