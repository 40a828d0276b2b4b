"""Makes a client from ``--url`` or SHARDCACHE_URL, or takes that of an application."""

import argparse
import os
import warnings
from contextlib import AbstractContextManager, nullcontext

from shardcache.client import ShardCache
from shardcache.errors import InvalidURL
from shardcache.topology.nodes import AddressAsNameWarning

__all__ = ("given_client", "open_client", "url_of")


def open_client(args: argparse.Namespace) -> AbstractContextManager[ShardCache]:
    """Return a client that knows its nodes, to be used by ``with``.

    The client of an application (``args.client``) stays open. One that is made here raises where a
    cache would degrade: the user wants to see the error. Raises `DiscoveryFailed` if nobody says
    which nodes there are.
    """
    given = given_client(args)
    if given is not None:
        given._look_for_nodes()
        return nullcontext(given)
    with warnings.catch_warnings():
        # This warning is for the application with that URL, which shows it itself.
        warnings.simplefilter("ignore", AddressAsNameWarning)
        cache = ShardCache.from_url(url_of(args), on_unavailable="raise")
    discovery = cache._discovery
    # Some commands look at the nodes before any call has waited for them.
    if discovery is not None and not discovery.wait():
        refusal = discovery.refusal()
        cache.close()
        raise refusal
    return cache


def given_client(args: argparse.Namespace) -> ShardCache | None:
    """Return the client of the application whose command this is, if it is one's."""
    client: ShardCache | None = getattr(args, "client", None)
    return client


def url_of(args: argparse.Namespace) -> str:
    """Return the URL that the command shall use; `InvalidURL` says how to give one."""
    url: str | None = args.url or os.environ.get("SHARDCACHE_URL")
    if not url:
        raise InvalidURL(
            "which shards? Give --url 'redis://h1:6379?name=a,redis://h2:6379?name=b' or set "
            "SHARDCACHE_URL ('shardcache up' starts some)"
        )
    return url
