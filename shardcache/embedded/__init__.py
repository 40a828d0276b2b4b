"""Local Valkey or Redis servers with no set-up, for development, tests and demonstrations."""

from shardcache.embedded.cluster import LocalCluster
from shardcache.embedded.sentinels import LocalSentinels
from shardcache.embedded.server import LocalServer
from shardcache.embedded.server_program import find_server
from shardcache.embedded.shards import LocalShards

__all__ = ("LocalCluster", "LocalSentinels", "LocalServer", "LocalShards", "find_server")
