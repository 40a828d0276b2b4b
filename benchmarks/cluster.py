"""A real Redis Cluster of local servers, for the peers that only speak to one."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from redis import Redis
from redis.cluster import RedisCluster

from shardcache.embedded import LocalShards
from shardcache.embedded.ports import reserve_port

__all__ = ("local_cluster",)

SLOTS = 16384
PATIENCE = 30.0  # seconds for the nodes to agree


@contextmanager
def local_cluster(nodes: int) -> Iterator[RedisCluster]:
    """Start a cluster of ``nodes`` primaries, wait until it is up, and yield a client of it."""
    with ExitStack() as stack:
        met: list[tuple[Redis, int, int]] = []
        for at in range(nodes):
            # The bus would listen at the port + 10000, which need not exist: it is given a port of
            # its own.
            bus, holder = reserve_port()
            stack.callback(holder.close)
            options = {"cluster-enabled": "yes", "cluster-port": str(bus)}
            servers = stack.enter_context(LocalShards(1, tcp=True, options=options))
            client = stack.enter_context(Redis.from_url(servers.servers[0].url))
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", at + 1)
            client.execute_command(
                "CLUSTER ADDSLOTSRANGE", at * SLOTS // nodes, (at + 1) * SLOTS // nodes - 1
            )
            met.append((client, client.connection_pool.connection_kwargs["port"], bus))
        first = met[0][0]
        for _, port, bus in met[1:]:
            first.execute_command("CLUSTER MEET", "127.0.0.1", port, bus)
        deadline = time.monotonic() + PATIENCE
        while not all(_up(client, nodes) for client, _, _ in met):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"the cluster's {nodes} nodes did not agree within {PATIENCE:g} s"
                )
            time.sleep(0.05)
        yield stack.enter_context(RedisCluster(host="127.0.0.1", port=met[0][1]))


def _up(client: Redis, nodes: int) -> bool:
    said = client.execute_command("CLUSTER INFO")
    if isinstance(said, bytes):
        said = dict(line.split(":", 1) for line in said.decode().split("\r\n") if ":" in line)
    return said["cluster_state"] == "ok" and int(said["cluster_known_nodes"]) == nodes
