"""A real Redis Cluster of local servers, for the peers that only speak to one."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis.cluster import RedisCluster

from shardcache.embedded import LocalCluster

__all__ = ("local_cluster",)


@contextmanager
def local_cluster(nodes: int) -> Iterator[RedisCluster]:
    """Start a cluster of ``nodes`` masters, wait until it is up, and yield a client of it."""
    with (
        LocalCluster(nodes) as cluster,
        RedisCluster(host="127.0.0.1", port=cluster.servers[0].port) as client,
    ):
        yield client
