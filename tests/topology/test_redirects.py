"""Error replies that name another node or moment, and what only looks like one."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.embedded import LocalCluster
from shardcache.resp import ErrorReply
from shardcache.topology.redirects import Redirect, redirect_of
from shardcache.topology.slots import slot_of


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("3999 127.0.0.1:6381", "127.0.0.1", 6381),
        ("3999 ::1:6381", "::1", 6381),
        ("3999 [2001:DB8::1]:6381", "2001:db8::1", 6381),
        ("3999 fe80::1%eth0:6381", "fe80::1%eth0", 6381),
        ("3999 Node-1.Example:6381", "node-1.example", 6381),
        ("3999 :6381", "", 6381),
        ("3999 ?:6381", "", 6381),
        ("3999 my_node:65535", "my_node", 65535),
    ],
)
def test_moved_and_ask(text, host, port) -> None:
    """Both name the slot and a node: by IP address, by host name, or as the host that answered."""
    for code, kind in (("MOVED", "moved"), ("ASK", "ask")):
        found = redirect_of(ErrorReply(f"{code} {text}"))
        assert found == Redirect(kind, code, 3999, host, port)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("TRYAGAIN Multiple keys request during rehashing of slot", "wait"),
        ("LOADING Redis is loading the dataset in memory", "wait"),
        ("LOADING Valkey is loading the dataset in memory", "wait"),
        ("CLUSTERDOWN The cluster is down", "refresh"),
        ("CLUSTERDOWN Hash slot not served", "refresh"),
        ("CLUSTERDOWN", "refresh"),
        (
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "refresh",
        ),
        ("READONLY You can't write against a read only replica.", "refresh"),
    ],
)
def test_another_moment(text, kind) -> None:
    """What names no node says to wait, or to ask for a new map as well."""
    assert redirect_of(ErrorReply(text)) == Redirect(kind, text.split()[0])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MOVED",
        "ASK",
        "MOVED 3999",
        "MOVED 3999 127.0.0.1",
        "MOVED 3999 127.0.0.1:",
        "MOVED 3999 127.0.0.1:0",
        "MOVED 3999 127.0.0.1:65536",
        "MOVED 3999 127.0.0.1:-1",
        "MOVED 16384 127.0.0.1:6381",
        "MOVED -1 127.0.0.1:6381",
        "MOVED x 127.0.0.1:6381",
        "MOVED ٣ 127.0.0.1:6381",
        "MOVED 1 127.0.0.1:٦٣",
        "MOVED 999999999999999999999 127.0.0.1:6381",
        "MOVED 3999 127.0.0.1:6381 ",
        "MOVED 3999 127.0.0.1:6381\r\nSET a b",
        "MOVED 3999 127.0.0.1:6381\n",
        "MOVED  3999 127.0.0.1:6381",
        "MOVED 3999 a b:6381",
        "MOVED 3999 a/b:6381",
        "MOVED 3999 user@host:6381",
        "MOVED 3999 [::1:6381",
        f"MOVED 3999 {'a' * 256}:6381",
        "moved 3999 127.0.0.1:6381",
        "ERR MOVED 3999 127.0.0.1:6381",
        "ASKING 3999 127.0.0.1:6381",
        "CROSSSLOT Keys in request don't hash to the same slot",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "ERR unknown command",
        "LOADINGS x",
    ],
)
def test_no_redirect(text) -> None:
    """What is not exactly a redirect is an error like any other."""
    assert redirect_of(ErrorReply(text)) is None


@given(
    st.one_of(
        st.text(),
        st.from_regex(r"(MOVED|ASK) [0-9]{0,6} ?[^ ]{0,9}:?[0-9]{0,6}", fullmatch=True),
    )
)
def test_whatever_the_text(text) -> None:
    """No text is an exception; a redirect always has a slot and a port that exist."""
    found = redirect_of(ErrorReply(text))
    if found is not None and found.port:
        assert (0 <= found.slot < 16384, 0 < found.port < 65536) == (True, True)
        assert not set(found.host) & set(" /@\r\n[]?")


@given(st.integers(0, 16383), st.ip_addresses(), st.integers(1, 65535))
def test_every_address(slot, ip, port) -> None:
    """Every slot, IP address and port comes back out."""
    found = redirect_of(ErrorReply(f"MOVED {slot} {ip}:{port}"))
    assert found == Redirect("moved", "MOVED", slot, str(ip), port)


class Member:
    """A connection to a node of a cluster that gives error replies back as they came."""

    def __init__(self, url: str) -> None:
        self.port = urlsplit(url).port
        self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        self._reader = hiredis.Reader(replyError=ErrorReply)

    def ask(self, *command: object) -> object:
        self._socket.sendall(hiredis.pack_command(tuple(str(word).encode() for word in command)))
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(65536)
            assert data, "the server hung up"
            self._reader.feed(data)
        return reply

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def members(program) -> Iterator[list[Member]]:
    """The members of a cluster; each serves a half of the slots."""
    with LocalCluster(2, binary=program) as cluster, ExitStack() as stack:
        yield [stack.enter_context(closing(Member(url))) for url in cluster.urls.values()]


def test_servers_redirect(members) -> None:
    """MOVED, ASK, TRYAGAIN and CROSSSLOT as real servers say them."""
    first, second = members
    slot = slot_of(b"a{x}")
    source, target = (first, second) if slot < 8192 else (second, first)
    here, there = (member.ask("CLUSTER", "MYID").decode() for member in (source, target))
    moved = redirect_of(target.ask("GET", "a{x}"))
    assert moved == Redirect("moved", "MOVED", slot, "127.0.0.1", source.port)
    assert source.ask("SET", "a{x}", 1) == b"OK"
    # The slot begins to migrate: a key that is not there may be on the other node.
    assert target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", here) == b"OK"
    assert source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", there) == b"OK"
    try:
        assert redirect_of(source.ask("GET", "b{x}")) == Redirect(
            "ask", "ASK", slot, "127.0.0.1", target.port
        )
        assert redirect_of(source.ask("MGET", "a{x}", "b{x}")) == Redirect("wait", "TRYAGAIN")
        assert redirect_of(target.ask("GET", "b{x}")).kind == "moved"
        assert target.ask("ASKING") == b"OK"
        assert target.ask("GET", "b{x}") is None
        assert redirect_of(target.ask("GET", "b{x}")).kind == "moved"  # it held for one command
    finally:
        for member in members:
            assert member.ask("CLUSTER", "SETSLOT", slot, "STABLE") == b"OK"
    crossed = source.ask("MGET", "a{x}", "a{y}")
    assert (str(crossed).split()[0], redirect_of(crossed)) == ("CROSSSLOT", None)


def test_servers_name_no_host(members) -> None:
    """A server that does not tell endpoints redirects to an empty host, or to "?"."""
    slot = slot_of(b"x")
    source, target = members if slot < 8192 else members[::-1]
    try:
        for kind in ("unknown-endpoint", "hostname"):
            assert target.ask("CONFIG", "SET", "cluster-preferred-endpoint-type", kind) == b"OK"
            assert redirect_of(target.ask("GET", "x")) == Redirect(
                "moved", "MOVED", slot, "", source.port
            )
    finally:
        target.ask("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")
