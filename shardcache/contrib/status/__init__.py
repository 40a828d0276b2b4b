"""A page that shows how each shard is doing, as a WSGI or ASGI application that a site mounts."""

from shardcache.contrib.status.applications import ASGIStatus, WSGIStatus

__all__ = ("ASGIStatus", "WSGIStatus")
