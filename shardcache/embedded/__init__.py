"""Local Valkey servers with no set-up, for development, tests and demonstrations."""

from shardcache.embedded.find_server import find_server
from shardcache.embedded.server import LocalServer
from shardcache.embedded.shards import LocalShards

__all__ = ("LocalServer", "LocalShards", "find_server")
