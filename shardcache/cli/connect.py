"""From ``--url`` or SHARDCACHE_URL to a client."""

import argparse
import os
import warnings

from shardcache.client import ShardCache
from shardcache.errors import InvalidURL
from shardcache.topology.nodes import AddressAsNameWarning

__all__ = ("connect", "url_of")


def connect(args: argparse.Namespace) -> ShardCache:
    """Return a client that raises where a cache would degrade: who types a command wants to know."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", AddressAsNameWarning
        )  # the program that it is typed for has been told
        return ShardCache.from_url(url_of(args), on_unavailable="raise")


def url_of(args: argparse.Namespace) -> str:
    """Return the URL that the command shall use, or raise `InvalidURL` saying how to give one."""
    url: str | None = args.url or os.environ.get("SHARDCACHE_URL")
    if not url:
        raise InvalidURL(
            "which shards? Give --url 'redis://h1:6379?name=a,redis://h2:6379?name=b' or set SHARDCACHE_URL ('shardcache up' starts some)"
        )
    return url
