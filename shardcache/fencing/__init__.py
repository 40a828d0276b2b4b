"""Fencing: stores that refuse the late write of a lock's former holder."""

from shardcache.fencing.file import FencedFile
from shardcache.fencing.redis import FencedRedis
from shardcache.fencing.sql import FencedSQL

__all__ = ("FencedFile", "FencedRedis", "FencedSQL")
