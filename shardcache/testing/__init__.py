"""What tests of a cache need: a proxy that breaks the stream between client and server on demand."""

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
from shardcache.testing.proxy import FaultProxy
from shardcache.testing.relay import ConnectionInfo, Traffic

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
    "Split",
    "Stall",
    "Traffic",
    "random_fault",
)
