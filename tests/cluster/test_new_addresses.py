"""All nodes of a cluster come back under other addresses at once: the seeds are the way back."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import redis

from shardcache import errors
from shardcache.embedded import LocalCluster
from tests.waiting import until

pytestmark = pytest.mark.long

KEYS = [f"k{number}" for number in range(30)]
ELSEWHERE = "127.0.0.3"


def answered(call: Callable[[], Any]) -> Any:
    """Return what a call returns, None while the nodes cannot be reached."""
    try:
        return call()
    except errors.ShardUnavailable:
        return None


def each(cluster: LocalCluster, *command: str) -> None:
    """Send a command to each server, over a connection that may be cut by it."""
    for server in cluster.servers:
        with redis.Redis(port=server.port) as plain:
            plain.execute_command(*command)


@pytest.mark.skipif(sys.platform != "linux", reason="it needs all of 127.0.0.0/8")
def test_the_same_nodes_under_other_addresses(program, make, names, host) -> None:
    """No known address answers; the seed's name is looked up anew, and all values are found."""
    with LocalCluster(3, binary=program, options={"bind": f"127.0.0.1 {ELSEWHERE}"}) as cluster:
        port = cluster.servers[0].port
        names.say(host, "127.0.0.1")
        cache = make(f"redis+cluster://{host}:{port}", on_unavailable="raise", timeout=5)
        assert cache.set_many(dict.fromkeys(KEYS, 1)) == []
        each(cluster, "CONFIG", "SET", "cluster-announce-ip", ELSEWHERE)
        until(lambda: all(f"{ELSEWHERE}:" in line for line in nodes_seen(cluster)))
        names.say(host, ELSEWHERE)
        for server in cluster.servers:
            with redis.Redis(port=server.port) as plain:
                plain.config_set("bind", ELSEWHERE)
            with redis.Redis(ELSEWHERE, server.port) as plain:
                plain.client_kill_filter(_type="normal", skipme=True)
        until(lambda: answered(lambda: cache.get_many(KEYS)) == dict.fromkeys(KEYS, 1))
        assert cache.set_many(dict.fromkeys(KEYS, 2)) == []
        assert {cache.explain(key).shard for key in KEYS} == {
            f"{ELSEWHERE}:{server.port}" for server in cluster.servers
        }


def nodes_seen(cluster: LocalCluster) -> list[str]:
    """Return the lines of CLUSTER NODES, as each server has them."""
    found = []
    for server in cluster.servers:
        with redis.Redis(port=server.port) as plain:
            connection = plain.connection_pool.get_connection()
            connection.send_command("CLUSTER", "NODES")
            found += connection.read_response().decode().splitlines()
            plain.connection_pool.release(connection)
    return found


def test_another_cluster_behind_the_seed(program, make, names, host) -> None:
    """Servers that are made anew, on other ports, are taken where the seed's name leads to them."""
    cluster = LocalCluster(3, binary=program)
    with cluster:
        names.say(host, ("127.0.0.1", cluster.servers[0].port))
        cache = make(f"redis+cluster://{host}", on_unavailable="raise", timeout=5)
        assert cache.set_many(dict.fromkeys(KEYS, 1)) == []
    assert answered(lambda: cache.get(KEYS[0])) is None
    with cluster:
        names.say(host, ("127.0.0.1", cluster.servers[0].port))
        until(lambda: answered(lambda: cache.set_many(dict.fromkeys(KEYS, 2))) == [])
        assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 2)
        assert {cache.explain(key).shard for key in KEYS} == {
            f"127.0.0.1:{server.port}" for server in cluster.servers
        }
