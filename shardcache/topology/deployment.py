"""Whether the nodes that a caller gives find each other: a cluster, or masters behind Sentinels."""

from typing import Any

from shardcache.errors import InvalidURL
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.topology.sentinel_set import SentinelSet
from shardcache.urls import ParsedURL, parse_many

__all__ = ("Deployment", "deployment_of")

Deployment = ClusterSeeds | SentinelSet


def deployment_of(nodes: Any) -> Deployment | None:
    """Return the cluster or the Sentinels that ``nodes`` stands for; None for independent nodes.

    ``nodes``: what a client was given: a text, or what was read out of one (`FromURL.urls`).
        Whatever else it is, it is independent nodes, and `members` checks it.

    Raises `InvalidURL` if the text is wrong, or has such a URL beside others.
    """
    if isinstance(nodes, (ClusterSeeds, SentinelSet)):
        return nodes
    urls = parse_many(nodes) if isinstance(nodes, str) else nodes
    if not (isinstance(urls, list) and urls and all(isinstance(one, ParsedURL) for one in urls)):
        return None
    kinds = {url.kind for url in urls}
    if kinds == {""}:
        return None
    kind = max(kinds)
    if len(kinds) > 1 or len({url.which for url in urls}) > 1:
        raise InvalidURL(
            f"redis+{kind}:// must be the only URL: its servers stand in it, joined by commas, as "
            f"in redis+{kind}://h1,h2"
        )
    return (ClusterSeeds if kind == "cluster" else SentinelSet).of(urls)
