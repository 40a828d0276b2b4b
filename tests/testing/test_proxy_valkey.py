"""The fault proxy in front of a real server."""

import random
import socket
from collections.abc import Iterator

import pytest

from shardcache.embedded import LocalShards
from shardcache.testing import Cut, FaultProxy, random_fault

LONG_TIMEOUT = 20.0  # seconds after which a test has failed; nothing waits that long


@pytest.fixture(scope="module", params=["unix", "tcp"])
def valkey(request) -> Iterator[str]:
    """The URL of a real server."""
    with LocalShards(1, tcp=request.param == "tcp") as shards:
        yield shards.servers[0].url


PIPELINE = (
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n"
    b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
    b"*1\r\n$4\r\nPING\r\n"
)
REPLY = b"+OK\r\n$5\r\nvalue\r\n+PONG\r\n"


def connect(proxy: FaultProxy, timeout: float = LONG_TIMEOUT) -> socket.socket:
    """Connect to the proxy."""
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout)


def read(sock: socket.socket, count: int) -> bytes:
    """Read so many bytes, or what there is before the end."""
    data = b""
    while len(data) < count and (more := sock.recv(count - len(data))):
        data += more
    return data


@pytest.mark.parametrize("at", range(len(REPLY) + 1))
def test_cut_in_a_pipeline(valkey, at):
    """The reply of a real server to a pipeline is cut at exactly each offset."""
    with FaultProxy(valkey) as proxy, connect(proxy) as sock:
        sock.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert read(sock, 7) == b"+PONG\r\n"
        proxy.arm(Cut(at))
        sock.sendall(PIPELINE)
        assert read(sock, len(REPLY) + 1) == REPLY[:at]


def test_under_random_faults(valkey):
    """Whatever the fault, a connection made afterwards is sound, and none is left open."""
    rng = random.Random(11)
    with FaultProxy(valkey) as proxy:
        for _ in range(300):
            proxy.arm(random_fault(rng, len(REPLY), seconds=0.001))
            try:
                with connect(proxy, timeout=0.01) as sock:
                    sock.sendall(PIPELINE)
                    read(sock, len(REPLY))
            except OSError:
                pass
            proxy.clear()
            with connect(proxy) as sock:
                sock.sendall(PIPELINE)
                assert read(sock, len(REPLY)) == REPLY
        proxy.kill()
        assert proxy.traffic().open == 0
