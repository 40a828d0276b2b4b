"""From ``--url`` or SHARDCACHE_URL to a client."""

import argparse
import os

from shardcache.client import ShardCache
from shardcache.errors import InvalidURL

__all__ = ("connect", "url_of")


def connect(args: argparse.Namespace) -> ShardCache:
    """Return a client that raises where a cache would degrade: who types a command wants to know."""
    return ShardCache.from_url(url_of(args), on_unavailable="raise")


def url_of(args: argparse.Namespace) -> str:
    """Return the URL that the command shall use, or raise `InvalidURL` saying how to give one."""
    url: str | None = args.url or os.environ.get("SHARDCACHE_URL")
    if not url:
        raise InvalidURL(
            "which shards? Give --url redis://h1:6379,h2:6379 or set SHARDCACHE_URL ('shardcache up' starts some)"
        )
    return url
