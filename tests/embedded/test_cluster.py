"""A local cluster: it comes up whole, serves, and is gone with its process."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shardcache import errors
from shardcache.embedded import LocalCluster
from shardcache.embedded.ports import MAX_CLUSTER_PORT, reserve_cluster_port, reserve_port
from tests.waiting import until

pytestmark = pytest.mark.long

PASSWORD = 's"e c\\r@,t'


@pytest.fixture(scope="module")
def cluster(program) -> Iterator[LocalCluster]:
    """Three masters with a replica each; each test leaves them as they were."""
    with LocalCluster(3, replicas=1, binary=program) as cluster:
        yield cluster


def test_comes_up_whole(cluster, ask):
    """Every node serves as soon as the block begins, and the masters share the slots evenly."""
    assert [server.name for server in cluster.masters] == ["node-1", "node-2", "node-3"]
    assert [server.name for server in cluster.replicas] == ["node-4", "node-5", "node-6"]
    assert [cluster.slots(server) for server in cluster.servers] == [
        ((0, 5460),),
        ((5461, 10921),),
        ((10922, 16383),),
        (),
        (),
        (),
    ]
    for server in cluster.servers:
        assert b"cluster_state:ok" in ask(server, "CLUSTER INFO")
        assert server.port <= MAX_CLUSTER_PORT
    assert [server.name for server in cluster.replicas_of(cluster.masters[1])] == ["node-5"]


def test_serves(cluster, ask):
    """A key is served by the master of its slot, and its replica has it."""
    for number in range(20):
        key = f"key-{number}"
        slot = int(ask(cluster.servers[0], "CLUSTER", "KEYSLOT", key))
        owner = cluster.owner(slot)
        assert ask(owner, "SET", key, "v") == b"OK"
        cluster.wait_until_ok()
        [replica] = cluster.replicas_of(owner)
        assert int(ask(replica, "CLUSTER", "COUNTKEYSINSLOT", slot)) == 1


def test_urls(cluster):
    """One URL has all nodes as seeds; each node has its own."""
    seeds = ",".join(f"127.0.0.1:{server.port}" for server in cluster.servers)
    assert cluster.url == f"redis+cluster://{seeds}"
    assert cluster.urls == {
        server.name: f"redis://127.0.0.1:{server.port}/0" for server in cluster.servers
    }


def test_node_that_was_killed_is_the_same_node(cluster, ask):
    """A node that comes back has its id, its role and its address, and the cluster is whole."""
    server = cluster.servers[3]
    before = ask(server, "CLUSTER", "MYID")
    server.restart()
    cluster.wait_until_ok()
    assert ask(server, "CLUSTER", "MYID") == before
    assert server in cluster.replicas


def test_slots_of_a_killed_master_are_missed(program):
    """Nobody serves them, and the wait says so; when it is back, the cluster is whole."""
    with LocalCluster(2, binary=program) as cluster:
        second = cluster.servers[1]
        second.kill()
        with pytest.raises(
            errors.ServerNotStarted, match=r"nobody alive that serves the slots 8192-16383"
        ):
            cluster.wait_until_ok(timeout=0)
        second.start()
        cluster.wait_until_ok()
        assert cluster.owner(16383) is second
        second.pause()
        with pytest.raises(errors.ServerNotStarted, match="nobody alive"):
            cluster.wait_until_ok(timeout=0)
        second.resume()
        cluster.wait_until_ok()
        for server in cluster.servers:
            server.kill()
        with pytest.raises(errors.ShardUnavailable, match="no server runs"):
            assert cluster.masters
        with pytest.raises(errors.ServerNotStarted, match="no server runs"):
            cluster.wait_until_ok(timeout=0)


def test_password(ask):
    """It is asked for by all, replicas have it too, it stands in the URL, and nowhere else."""
    with LocalCluster(1, replicas=1, password=PASSWORD) as cluster:
        assert cluster.url.startswith("redis+cluster://:s%22e%20c%5Cr%40%2Ct@127.0.0.1:")
        assert all("%22" in url for url in cluster.urls.values())
        assert ask(cluster.servers[0], "PING", password=PASSWORD) == b"PONG"
        assert "s%22e" not in repr(cluster)
        assert PASSWORD not in repr(cluster)
        assert [server.name for server in cluster.replicas] == ["node-2"]


def test_options(ask):
    """Lines of the configuration reach all nodes; host names can be announced."""
    options = {
        "cluster-announce-hostname": "localhost",
        "cluster-preferred-endpoint-type": "hostname",
        "cluster-node-timeout": "3000",
    }
    with LocalCluster(1, options=options) as cluster:
        [server] = cluster.servers
        assert ask(server, "CONFIG", "GET", "cluster-node-timeout")[1] == b"3000"
        assert ask(server, "CLUSTER", "SLOTS")[0][2][0] == b"localhost"
        assert cluster.masters == (server,)


def test_all_is_gone_after_the_block(tmp_path):
    """Closing ends the servers and removes what they wrote."""
    with LocalCluster(2, directory=tmp_path) as cluster:
        assert list(tmp_path.iterdir()) == [tmp_path / os.path.basename(cluster.directory)]
        servers = cluster.servers
    assert [server.running for server in servers] == [False, False]
    assert list(tmp_path.iterdir()) == []
    assert (cluster.servers, cluster.masters, cluster.url) == ((), (), "")
    assert repr(cluster) == "<LocalCluster not started>"


def test_gone_when_the_process_is_killed(tmp_path):
    """Servers and files are gone after their owner, even if it had no time to end them."""
    code = f"""if True:
        import time
        from shardcache.embedded import LocalCluster
        cluster = LocalCluster(2, directory={str(tmp_path)!r}).start()
        print(*(server.port for server in cluster.servers), flush=True)
        time.sleep(600)
    """
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        ports = [int(port) for port in owner.stdout.readline().split()]
        assert len(ports) == 2
        owner.send_signal(signal.SIGKILL)
        until(lambda: list(tmp_path.iterdir()) == [])
        until(lambda: not any(listens(port) for port in ports))
    finally:
        owner.kill()
        owner.communicate()


def listens(port: int) -> bool:
    """Whether anybody answers at the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_start_that_fails_leaves_nothing(tmp_path):
    """A configuration that the server refuses, and a start that takes too long, are errors."""
    with pytest.raises(errors.ServerNotStarted, match=r"(?s)'node-1' ended at its start.*maxmem"):
        LocalCluster(2, options={"maxmemory": "much"}, directory=tmp_path).start()
    # Masters wait for two seconds before they serve a new cluster.
    with pytest.raises(errors.ServerNotStarted, match=r"not ready in time|did not answer"):
        LocalCluster(2, timeout=0.5, directory=tmp_path).start()
    assert list(tmp_path.iterdir()) == []


def test_port_of_a_cluster_node():
    """The bus has its port too, and nobody else is given either while they are kept."""
    port, holders = reserve_cluster_port()
    try:
        assert port <= MAX_CLUSTER_PORT
        for kept in (port, port + 10000):
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", kept))
    finally:
        for holder in holders:
            holder.close()


def test_no_port_for_a_cluster_node(monkeypatch):
    """Where the system gives no port whose bus has one, the start says so."""
    given = []

    def high() -> tuple[int, socket.socket]:
        given.append(socket.socket())
        return 60000, given[-1]

    monkeypatch.setattr("shardcache.embedded.ports.reserve_port", high)
    monkeypatch.setattr("shardcache.embedded.ports.TRIES", 3)
    with pytest.raises(errors.ServerNotStarted, match="no port below 55536 is free together"):
        LocalCluster(1).start()
    assert [holder.fileno() for holder in given] == [-1] * 3


def test_taken_bus_port_is_replaced(monkeypatch):
    """A bus port that another process took before the server came up is given up."""
    tried = []

    def taken_first() -> tuple[int, tuple[socket.socket, ...]]:
        port, holders = reserve_cluster_port()
        tried.append(port)
        if len(tried) == 1:
            taken.bind(("127.0.0.1", port + 10000))
            taken.listen()
        return port, holders

    monkeypatch.setattr("shardcache.embedded.process_guard.reserve_cluster_port", taken_first)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with LocalCluster(1) as cluster:
            assert [server.port for server in cluster.servers] == tried[1:]
            assert len(tried) == 2


def test_given_ports():
    """With a first port the addresses are those asked for."""
    cluster = None
    while cluster is None:  # somebody else may be given the next port in between
        port, holder = reserve_port()
        holder.close()
        if port < MAX_CLUSTER_PORT:
            try:
                cluster = LocalCluster(2, port=port).start()
            except errors.ServerNotStarted as error:
                if "in use" not in str(error):
                    raise
    with cluster:
        assert cluster.url == f"redis+cluster://127.0.0.1:{port},127.0.0.1:{port + 1}"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"masters": 0}, "masters must be a whole number from 1 to 16, got 0"),
        ({"masters": True}, "masters must be a whole number"),
        ({"replicas": 4}, "replicas must be a whole number from 0 to 3, got 4"),
        (
            {"port": 55534, "masters": 1, "replicas": 2},
            "port must be a whole number from 1 to 55533, got 55534",
        ),
        ({"password": ""}, "password must be a text that is not empty and has no control"),
        ({"password": "a\nrequirepass b"}, "password must be a text"),
        ({"directory": "/nowhere/at/all"}, "directory must be a directory that exists"),
    ],
)
def test_wrong_arguments(arguments, complaint):
    """An argument outside what is allowed is refused before anything is started."""
    with pytest.raises(errors.InvalidOption, match=complaint):
        LocalCluster(**arguments)
