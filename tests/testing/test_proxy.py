"""The fault proxy on real sockets, in front of an echo server."""

import os
import random
import socket
import socketserver
import threading
import warnings
from collections.abc import Iterator
from typing import Self

import pytest

from shardcache import errors
from shardcache.testing import (
    BlackHole,
    Corrupt,
    Cut,
    Delay,
    Drop,
    Duplicate,
    FaultProxy,
    Refuse,
    Replay,
    Split,
    Stall,
    Traffic,
)
from shardcache.urls import parse_url
from tests.waiting import until

LONG_TIMEOUT = 20.0  # seconds after which a test has failed; nothing waits that long
MESSAGE = b"0123456789"


class Echo(socketserver.BaseRequestHandler):
    """Send back whatever comes."""

    def handle(self) -> None:
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except OSError:
            pass


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """The URL of an echo server."""
    with EchoServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo) -> Iterator[FaultProxy]:
    with FaultProxy(echo) as proxy:
        yield proxy


class Peer:
    """A client's socket with the little that the tests ask of it."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.sock = socket.create_connection(("127.0.0.1", proxy.port), timeout=LONG_TIMEOUT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def exactly(self, count: int) -> bytes:
        """Read so many bytes, or what there is before the end."""
        data = b""
        while len(data) < count and (more := self.sock.recv(count - len(data))):
            data += more
        return data

    def rest(self) -> bytes | str:
        """Read to the end: the bytes, or "reset" if the connection was reset before any."""
        data = b""
        try:
            while more := self.sock.recv(65536):
                data += more
        except ConnectionResetError:
            return data or "reset"
        return data

    def silent(self) -> bool:
        """Whether nothing is there to be read."""
        self.sock.setblocking(False)
        try:
            return self.sock.recv(1) is None
        except BlockingIOError:
            return True
        finally:
            self.sock.settimeout(LONG_TIMEOUT)


def handshake(peer: Peer) -> None:
    """Exchange some bytes that no fault is meant for."""
    peer.send(b"hello")
    assert peer.exactly(5) == b"hello"


def is_reset(proxy: FaultProxy) -> bool:
    """Whether a new connection is reset: while it is made, or when it is read."""
    try:
        with Peer(proxy) as peer:
            return peer.rest() == "reset"
    except ConnectionResetError:
        return True


def test_passes_everything_on(proxy):
    """Without a fault the proxy is transparent both ways, also for a slow reader."""
    data = random.Random(1).randbytes(3_000_000)
    with Peer(proxy) as peer:
        sender = threading.Thread(target=peer.send, args=(data,))
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sender.start()
        until(lambda: proxy.traffic().request_bytes > 2_000_000)
        received = peer.exactly(len(data))
        sender.join()
        assert received == data
        assert proxy.traffic() == Traffic(1, 1, len(data), len(data), 0)


def test_end_of_stream_passes_both_ways(proxy):
    """A client that closes its sending half still gets its answer, then the end."""
    with Peer(proxy) as peer:
        peer.send(MESSAGE)
        peer.sock.shutdown(socket.SHUT_WR)
        assert peer.rest() == MESSAGE


@pytest.mark.parametrize("at", range(len(MESSAGE) + 1))
def test_cut_at_every_offset(proxy, at):
    """Exactly ``at`` bytes of the reply arrive, then the end; the handshake does not count."""
    with Peer(proxy) as peer:
        handshake(peer)
        proxy.arm(Cut(at))
        peer.send(MESSAGE)
        assert peer.rest() == MESSAGE[:at]
    with Peer(proxy) as peer:
        handshake(peer)
    assert proxy.traffic().faults == 1


def test_cut_with_reset(proxy):
    """A cut may look like a crash: the client sees a reset."""
    with Peer(proxy) as peer:
        handshake(peer)
        proxy.arm(Cut(0, reset=True))
        peer.send(MESSAGE)
        assert peer.rest() == "reset"


@pytest.mark.parametrize("at", range(len(MESSAGE)))
def test_stall_at_every_offset_then_late(proxy, at):
    """Exactly ``at`` bytes arrive; the rest, and later replies, come in order when resumed."""
    with Peer(proxy) as peer:
        handshake(peer)
        proxy.arm(Stall(at))
        peer.send(MESSAGE)
        assert peer.exactly(at) == MESSAGE[:at]
        peer.send(b"more")
        until(lambda: proxy.traffic().reply_bytes == 5 + len(MESSAGE) + 4)
        assert peer.silent()
        proxy.resume()
        assert peer.exactly(len(MESSAGE) - at + 4) == MESSAGE[at:] + b"more"
        handshake(peer)


@pytest.mark.parametrize("at", range(len(MESSAGE)))
def test_corrupt_at_every_offset(proxy, at):
    """Exactly one byte changes."""
    with Peer(proxy) as peer:
        handshake(peer)
        proxy.arm(Corrupt(at, 0x80))
        peer.send(MESSAGE)
        expected = MESSAGE[:at] + bytes([MESSAGE[at] ^ 0x80]) + MESSAGE[at + 1 :]
        assert peer.exactly(len(MESSAGE)) == expected
        handshake(peer)


@pytest.mark.parametrize("at", range(len(MESSAGE)))
def test_duplicate_at_every_offset(proxy, at):
    """Exactly the range arrives twice."""
    with Peer(proxy) as peer:
        handshake(peer)
        proxy.arm(Duplicate(at, len(MESSAGE)))
        peer.send(MESSAGE)
        assert peer.exactly(2 * len(MESSAGE) - at) == MESSAGE + MESSAGE[at:]
        handshake(peer)


def test_split_into_single_bytes(proxy):
    """The stream arrives whole, in pieces that a reader sees one by one."""
    with Peer(proxy) as peer:
        handshake(peer)
        proxy.arm(Split(tuple(range(1, len(MESSAGE))), pause=0.02))
        peer.send(MESSAGE)
        pieces = []
        while sum(map(len, pieces)) < len(MESSAGE):
            pieces.append(peer.sock.recv(100))
        assert b"".join(pieces) == MESSAGE
        # A busy machine may read two at once; one piece would mean that nothing was split.
        assert len(pieces) > 1


def test_delay_ends_by_itself(proxy):
    """The proxy wakes up for what it has delayed."""
    proxy.set(Delay(0.005))
    with Peer(proxy) as peer:
        handshake(peer)
        handshake(peer)
    assert proxy.traffic().faults == 1


def test_replay_comes_late(proxy):
    """The copy of a reply arrives behind the next reply, when resumed."""
    with Peer(proxy) as peer:
        handshake(peer)
        proxy.arm(Replay())
        peer.send(b"first")
        assert peer.exactly(5) == b"first"
        peer.send(b"second")
        assert peer.exactly(6) == b"second"
        assert peer.silent()
        proxy.resume()
        assert peer.exactly(5) == b"first"


def test_replay_by_time(proxy):
    """The copy comes by itself when its time has come."""
    with Peer(proxy) as peer:
        proxy.arm(Replay(0.001))
        peer.send(MESSAGE)
        assert peer.exactly(2 * len(MESSAGE)) == 2 * MESSAGE


@pytest.mark.parametrize("at", [0, 1, 9])
def test_drop_of_a_request(proxy, at):
    """The server gets exactly the first bytes; the connection stays open."""
    with Peer(proxy) as peer:
        handshake(peer)
        proxy.arm(Drop(at))
        peer.send(MESSAGE)
        assert peer.exactly(at) == MESSAGE[:at]
        until(lambda: proxy.traffic().request_bytes == 5 + len(MESSAGE))
        proxy.clear()
        handshake(peer)


def test_cut_of_a_request(proxy):
    """A request can be cut like a reply."""
    with Peer(proxy) as peer:
        handshake(peer)
        proxy.arm(Cut(0, on="request"))
        peer.send(MESSAGE)
        assert peer.rest() == b""
    assert proxy.traffic().reply_bytes == 5


def test_armed_faults_go_in_order_and_once(proxy):
    """Each armed fault is for one connection, the one over which bytes come next."""
    proxy.arm(Corrupt(0, 1))
    proxy.arm(Cut(3), times=2)
    with Peer(proxy) as idle, Peer(proxy) as first, Peer(proxy) as second, Peer(proxy) as third:
        first.send(b"aaaa")
        assert first.exactly(4) == b"`aaa"
        for peer in (second, third):
            peer.send(b"bbbb")
            assert peer.rest() == b"bbb"
        handshake(idle)
    assert proxy.traffic().faults == 3


def test_set_reaches_open_and_new_connections_until_cleared(proxy):
    """A set fault counts from the setting on open connections, from the first byte on new ones."""
    with Peer(proxy) as old, Peer(proxy) as third:
        handshake(old)
        proxy.set(Cut(2))
        old.send(MESSAGE)
        assert old.rest() == b"01"
        with Peer(proxy) as new:
            new.send(MESSAGE)
            assert new.rest() == b"01"
        proxy.clear()
        handshake(third)


def test_plan_decides_per_connection(echo):
    """The plan is asked once for each connection, by its number."""
    with (
        FaultProxy(echo, plan=lambda info: Cut(info.index) if info.index % 2 else None) as proxy,
        Peer(proxy) as zero,
        Peer(proxy) as one,
        Peer(proxy) as two,
    ):
        handshake(zero)
        one.send(MESSAGE)
        assert one.rest() == b"0"
        handshake(two)


def test_plan_that_fails_is_not_swallowed(echo):
    """An error in the plan comes out of close(); the connection is refused meanwhile."""

    def plan(info):
        raise LookupError(info.index)

    proxy = FaultProxy(echo, plan=plan)
    assert is_reset(proxy)
    with pytest.raises(LookupError):
        proxy.close()


def test_refuse_resets_new_connections_only(proxy):
    """A refused connection is reset; open ones go on."""
    with Peer(proxy) as old:
        handshake(old)
        proxy.set(Refuse())
        assert is_reset(proxy)
        handshake(old)


def test_black_hole(proxy):
    """A black hole accepts, reads and says nothing; its connections are known and can be killed."""
    with Peer(proxy) as other:
        handshake(other)
        proxy.arm(BlackHole())
        handshake(other)
    with Peer(proxy) as peer, Peer(proxy) as other:
        peer.send(MESSAGE)
        until(lambda: proxy.traffic().request_bytes == 10 + len(MESSAGE))
        proxy.clear()
        peer.send(MESSAGE)
        handshake(other)
        assert peer.silent()
        proxy.kill()
        assert peer.rest() == b""
    assert proxy.traffic().open == 0


@pytest.mark.parametrize(("reset", "seen"), [(False, b""), (True, "reset")], ids=["end", "reset"])
def test_kill_closes_all(proxy, reset, seen):
    """All open connections are closed at once; new ones work."""
    with Peer(proxy) as first, Peer(proxy) as second:
        handshake(first)
        handshake(second)
        proxy.kill(reset=reset)
        assert [first.rest(), second.rest()] == [seen, seen]
        assert proxy.traffic().open == 0
    with Peer(proxy) as peer:
        handshake(peer)


def test_down_and_up(proxy):
    """Down, the port truly refuses; up again, it is the same port."""
    with Peer(proxy) as peer:
        handshake(peer)
        proxy.down()
        assert peer.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        Peer(proxy)
    proxy.up()
    proxy.up()
    with Peer(proxy) as peer:
        handshake(peer)


def test_dead_upstream_resets():
    """Where no server listens, clients are reset, and the proxy lives on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with FaultProxy(f"redis://127.0.0.1:{port}/0") as proxy:
        assert [is_reset(proxy), is_reset(proxy)] == [True, True]


def test_close_twice_and_then_nothing(echo):
    """Close is idempotent, ends the thread, and everything after it does nothing."""
    proxy = FaultProxy(echo)
    peer = Peer(proxy)
    proxy.close()
    proxy.close()
    proxy.kill()
    proxy.up()
    proxy.clear()
    assert peer.rest() in (b"", "reset")  # its connection may not have been accepted yet
    peer.sock.close()
    assert f"shardcache fault proxy {proxy.port}" not in {
        thread.name for thread in threading.enumerate()
    }
    with pytest.raises(ConnectionRefusedError):
        Peer(proxy)


@pytest.mark.parametrize(
    ("upstream", "expected"),
    [
        ("redis://127.0.0.1:1/3?name=a", "redis://127.0.0.1:{port}/3?name=a"),
        ("redis://me:p%40ss@127.0.0.1:1/0", "redis://me:p%40ss@127.0.0.1:{port}/0"),
        ("rediss://:secret@127.0.0.1:1", "rediss://:secret@127.0.0.1:{port}/0"),
        ("unix:///tmp/some.sock?db=2&weight=3", "redis://127.0.0.1:{port}/2?weight=3"),
    ],
)
def test_url_is_the_upstreams_elsewhere(upstream, expected):
    """Database, login and query carry over; the address is the proxy's; no password shows."""
    with FaultProxy(upstream) as proxy:
        assert proxy.url == expected.format(port=proxy.port)
        assert parse_url(proxy.url).address.port == proxy.port
        assert repr(proxy) == f"<FaultProxy on 127.0.0.1:{proxy.port}>"


def test_nonsense_is_refused(proxy):
    """An upstream that is no URL, or no times at all, is an error at once."""
    with pytest.raises(errors.InvalidURL):
        FaultProxy("ftp://127.0.0.1:6379")
    with pytest.raises(errors.InvalidOption, match="times must be a whole number from 1, got 0"):
        proxy.arm(Cut(), times=0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
def test_fork_keeps_no_copy_of_a_connection(proxy, reset):
    """A cut ends the stream for the client also while a forked child lives."""
    with Peer(proxy) as peer:
        handshake(peer)
        stop_read, stop_write = os.pipe()
        with warnings.catch_warnings():
            # Fork with threads: that is the point here.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            os.close(stop_write)
            os.read(stop_read, 1)
            os._exit(0)
        try:
            proxy.arm(Cut(4, reset))
            peer.send(MESSAGE)
            assert peer.rest() == MESSAGE[:4]
            proxy.down()
            with pytest.raises(ConnectionRefusedError):
                Peer(proxy)
        finally:
            os.close(stop_write)
            os.close(stop_read)
            os.waitpid(child, 0)
