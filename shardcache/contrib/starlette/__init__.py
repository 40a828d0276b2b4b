"""Starlette, FastAPI and other ASGI applications: answers kept, the client, sessions.

`CacheResponses` and `lifespan` need no library and serve any ASGI application. What needs one has a
module of its own: `dependency.get_cache` Starlette, `sessions.SessionStore` starsessions.
"""

from shardcache.contrib.starlette.client_lifespan import lifespan
from shardcache.contrib.starlette.middleware import CacheResponses

__all__ = ("CacheResponses", "lifespan")
