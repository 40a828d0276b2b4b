"""The map of a cluster over TLS, where servers announce TLS ports, and where they do not."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
import redis

from shardcache import TLS, Options
from shardcache.drivers.cluster_source import ClusterSource
from shardcache.embedded.process_guard import ProcessGuard
from shardcache.embedded.server import LocalServer
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.topology.slots import slot_of
from shardcache.url_options import read_url
from tests.waiting import until

BUS, DISTANCE = 10_000, 1000  # from the plain port to that of the bus, and to that of TLS
CERTIFICATE = (
    *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
    *("-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost"),
    *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
)


def reserve_ports(guard: ProcessGuard, stack: ExitStack) -> int:
    """Return a port whose neighbour for TLS is free too; both are kept."""
    while True:
        port = guard.reserve_cluster_port()
        holder = stack.enter_context(socket.socket())
        try:
            holder.bind(("127.0.0.1", port + DISTANCE))
        except OSError:  # somebody else's: another try
            continue
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return port


@pytest.fixture(scope="module", params=["yes", "no"], ids=["tls-bus", "plain-bus"])
def members(request, tmp_path_factory) -> Iterator[tuple[list[int], str]]:
    """The plain ports of two members, and the file of their certificate."""
    program, openssl = shutil.which("redis-server"), shutil.which("openssl")
    if not program or not openssl:
        pytest.skip("needs redis-server and openssl")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run([openssl, *CERTIFICATE], cwd=folder, check=True, capture_output=True)
    options = {
        "tls-cert-file": str(folder / "cert.pem"),
        "tls-key-file": str(folder / "key.pem"),
        "tls-ca-cert-file": str(folder / "cert.pem"),
        "tls-auth-clients": "no",
        "tls-cluster": request.param,
    }
    with ExitStack() as stack:
        guard = ProcessGuard("/tmp")
        stack.callback(guard.close)
        ports = [reserve_ports(guard, stack) for _ in range(2)]
        for number, port in enumerate(ports):
            tls = {"tls-port": str(port + DISTANCE), "cluster-port": str(port + BUS)}
            server = LocalServer(
                f"node-{number}",
                guard,
                program,
                tcp=True,
                cluster=True,
                port=port,
                options={**options, **tls},
            )
            server.start()
        first, second = [stack.enter_context(closing(redis.Redis(port=port))) for port in ports]
        first.execute_command("CLUSTER ADDSLOTSRANGE", 0, 8191)
        second.execute_command("CLUSTER ADDSLOTSRANGE", 8192, 16383)
        met = ports[1] + (DISTANCE if request.param == "yes" else 0)
        first.execute_command("CLUSTER MEET", "127.0.0.1", met, ports[1] + BUS)
        # Each test has a limit of its own.
        for one in (first, second):
            while one.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                time.sleep(0.02)
        yield ports, str(folder / "cert.pem")


@pytest.mark.parametrize("protocol", [3, 2])
@pytest.mark.parametrize("place", [0, 1])
def test_tls_ports(members, place, protocol) -> None:
    """With TLS the map has the TLS ports, also where a server tells the plain ones only."""
    ports, certificate = members
    seeds = read_url(f"rediss+cluster://localhost:{ports[place] + DISTANCE}").urls
    options = Options(tls=TLS(ca_file=certificate), protocol=protocol)
    source = ClusterSource(ClusterSeeds.of(seeds), options, timeout=20, clock=time.monotonic)
    found = source()
    assert sorted(node.port for node in found.primaries) == sorted(
        port + DISTANCE for port in ports
    )
    assert source() == found
    # A redirect that names the plain port leads to the same member.
    owner = found.primary_of(slot_of(b"x"))
    assert found.node_at("127.0.0.1", owner.port - DISTANCE) is owner


def test_plain_ports(members) -> None:
    """Without TLS it has the plain ports."""
    ports, _ = members
    seeds = read_url(f"redis+cluster://127.0.0.1:{ports[0]}").urls
    source = ClusterSource(ClusterSeeds.of(seeds), Options(), timeout=20, clock=time.monotonic)
    assert sorted(node.port for node in source().primaries) == sorted(ports)


def give(ports: list[int], slot: int, to: int) -> None:
    """Give an empty slot to a member, as both then say."""
    with ExitStack() as stack:
        asked = [stack.enter_context(closing(redis.Redis(port=port))) for port in ports]
        identity = asked[to].execute_command("CLUSTER MYID")
        asked[to].execute_command("CLUSTER SETSLOT", slot, "STABLE")
        other = asked[1 - to].execute_command("CLUSTER MYID")
        asked[to].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", other)
        for one in (asked[to], asked[1 - to]):
            one.execute_command("CLUSTER SETSLOT", slot, "NODE", identity)


def test_calls_over_tls(members, colour) -> None:
    """All that a client sends goes over TLS, also where a redirect names a plain port."""
    ports, certificate = members
    keys = [f"key-{number}" for number in range(40)]
    seeds = f"rediss+cluster://localhost:{ports[0] + DISTANCE}"
    options = Options(tls=TLS(ca_file=certificate), discovery_interval=600.0)
    with colour(seeds, options=options, timeout=20, on_unavailable="raise") as cache:
        assert cache.set_many(dict.fromkeys(keys, "value")) == []
        assert cache.get_many(keys) == dict.fromkeys(keys, "value")
        assert cache.get_or_set("loaded", lambda: 1) == 1
        lock = cache.lock("job", ttl=30)
        assert lock.acquire(timeout=60)
        lock.release()
        # A slot moves, and the map that the client has is old.
        slot = cache.explain("moved").slot
        to = 1 if slot < 8192 else 0
        give(ports, slot, to)
        try:
            assert cache.set("moved", 1) is True
            assert cache.get("moved") == 1
            until(lambda: cache.explain("moved").shard.endswith(f":{ports[to] + DISTANCE}"))
            assert cache.delete("moved") is True
        finally:
            give(ports, slot, 1 - to)
        assert cache.get("moved") is None
        shards = cache.stats().shards
        assert all(name.endswith(tuple(str(p + DISTANCE) for p in ports)) for name in shards)
