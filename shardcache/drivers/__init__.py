"""Drivers: what runs a flow over a wire in real time."""

from shardcache.drivers.run import Runner
from shardcache.drivers.shard import Shard

__all__ = ("Runner", "Shard")
