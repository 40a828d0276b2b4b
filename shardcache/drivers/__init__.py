"""Drivers: what runs a flow over a wire in real time."""

from shardcache.drivers.sync.runner import Runner
from shardcache.drivers.sync.shard import Shard

__all__ = ("Runner", "Shard")
