"""Local Valkey servers with no set-up, for development, tests and demonstrations."""

from shardcache.embedded.server import LocalServer
from shardcache.embedded.server_program import find_server
from shardcache.embedded.shards import LocalShards

__all__ = ("LocalServer", "LocalShards", "find_server")
