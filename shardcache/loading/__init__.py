"""Loading once, as users see it: what both clients do for `get_or_set` and `cached`."""

from shardcache.loading.aio import AsyncLoader
from shardcache.loading.sync import Loader

__all__ = ("AsyncLoader", "Loader")
