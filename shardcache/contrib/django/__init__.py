"""A cache backend for Django: ``"BACKEND": "shardcache.contrib.django.ShardCacheBackend"``.

The settings, and what differs from other backends: docs/web.md.
"""

from shardcache.contrib.django.backend import ShardCacheBackend
from shardcache.contrib.django.deadline import DeadlineMiddleware

__all__ = ("DeadlineMiddleware", "ShardCacheBackend")
