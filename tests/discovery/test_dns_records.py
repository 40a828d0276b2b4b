"""Nodes out of DNS: what a real server answers, and how it fails."""

import random
import socket
import sys
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache import errors, nodes_from_dns
from shardcache.discovery import MemberSource
from shardcache.discovery.dns_records import relative_weights
from shardcache.discovery.name_server import NameServer
from shardcache.topology.nodes import members

SRV = ("_redis._tcp.test", "SRV")


needs_dnspython = pytest.mark.skipif(
    find_spec("dns") is None, reason="the extra dns is not installed"
)


def of(server: Any, name: str = "redis.test", **settings: Any) -> Any:
    return nodes_from_dns(name, nameserver=server.address, timeout=10.0, **settings)


def shown(nodes: Any) -> list[tuple[str, float, str]]:
    return [(node.name, node.weight, node.url) for node in nodes]


def test_addresses(server) -> None:
    """Each address is a node that is called by it, with the port that was given."""
    server.records["redis.test", "A"] = ["10.0.0.2", "10.0.0.1"]
    assert shown(of(server, port=7000)()) == [
        ("10.0.0.1:7000/0", 1.0, "redis://10.0.0.1:7000"),
        ("10.0.0.2:7000/0", 1.0, "redis://10.0.0.2:7000"),
    ]
    assert server.asked == [("redis.test", "A")]


def test_ipv6(server) -> None:
    """AAAA records where asked for; those of the other family do not count."""
    server.records["redis.test", "A"] = ["10.0.0.1"]
    server.records["redis.test", "AAAA"] = ["2001:db8::1"]
    assert shown(of(server, ipv6=True)()) == [
        ("[2001:db8::1]:6379/0", 1.0, "redis://[2001:db8::1]:6379")
    ]
    [member] = members(of(server, ipv6=True)())
    assert (member.address.host, member.named) == ("2001:db8::1", True)


def test_url_as_template(server) -> None:
    """Scheme, login, database and settings come from the URL, the address from DNS."""
    server.records["redis.test", "A"] = ["10.0.0.1"]
    source = of(server, "rediss://me:s%40cret@redis.test:7001/3?ssl_cert_reqs=none")
    [member] = members(source())
    assert (member.node.name, member.address.host, member.address.port) == (
        "10.0.0.1:7001/3",
        "10.0.0.1",
        7001,
    )
    assert (member.address.username, member.address.password) == ("me", "s@cret")
    assert member.tls is not None
    assert member.tls.verify is False
    assert "cret" not in repr(source) + repr(source()) + repr(members(source()))


def test_services(server) -> None:
    """An SRV record is a node called by host and port: its address may change."""
    server.records[SRV] = ["0 33 6379 b.redis.test.", "0 33 6380 A.redis.test."]
    server.records["a.redis.test", "A"] = ["10.0.0.1"]
    server.records["b.redis.test", "A"] = ["10.0.0.3", "10.0.0.2"]
    source = of(server, "_redis._tcp.test")
    assert shown(source()) == [
        ("a.redis.test:6380/0", 1.0, "redis://10.0.0.1:6380"),
        ("b.redis.test:6379/0", 1.0, "redis://10.0.0.2:6379"),
    ]
    server.records["a.redis.test", "A"] = ["10.0.0.9"]
    assert shown(source())[0] == ("a.redis.test:6380/0", 1.0, "redis://10.0.0.9:6380")
    del server.records["a.redis.test", "A"]  # gone: whoever connects to it says so
    assert shown(source())[0] == ("a.redis.test:6380/0", 1.0, "redis://a.redis.test:6380")


def test_services_by_the_system(server, monkeypatch) -> None:
    """Where the system is asked, the hosts of the records are those that are connected to."""
    source = nodes_from_dns("redis://:secret@_redis._tcp.test/2")
    monkeypatch.setattr(source, "_server", NameServer(server.address, 10.0))
    server.records[SRV] = ["0 0 6379 a.test."]
    assert shown(source()) == [("a.test:6379/2", 1.0, "redis://:secret@a.test:6379/2")]
    assert server.asked == [SRV]


def test_first_priority_counts(server) -> None:
    """Records of a later priority stand in for others: they are no nodes."""
    server.records[SRV] = ["10 5 6379 a.test.", "20 5 6379 b.test.", "10 10 6379 c.test."]
    assert [(name, weight) for name, weight, _ in shown(of(server, "_redis._tcp.test")())] == [
        ("a.test:6379/0", 1.0),
        ("c.test:6379/0", 2.0),
    ]


def test_record_that_comes_twice(server) -> None:
    """The same host and port with two weights is one node, with the greater one."""
    server.records[SRV] = ["0 5 6379 a.test.", "0 15 6379 a.test.", "0 5 6379 b.test."]
    assert [(name, weight) for name, weight, _ in shown(of(server, "_redis._tcp.test")())] == [
        ("a.test:6379/0", 3.0),
        ("b.test:6379/0", 1.0),
    ]


def test_more_than_a_packet(server) -> None:
    """An answer that does not fit into a packet comes by TCP, whole."""
    server.records["redis.test", "A"] = [f"10.0.{n // 200}.{n % 200 + 1}" for n in range(400)]
    assert len(of(server)()) == 400
    assert server.tcp == 1


def test_order_does_not_matter(server) -> None:
    """DNS shuffles: the same addresses are the same answer."""
    texts = [f"10.0.0.{n}" for n in range(1, 21)]
    server.records["redis.test", "A"] = texts
    source = MemberSource(of(server))
    first = source()
    for _ in range(5):
        random.shuffle(texts)
        assert source() == first


@pytest.mark.parametrize(
    ("mood", "why"),
    [
        pytest.param("servfail", "NoNameservers", id="servfail"),
        pytest.param("silent", "LifetimeTimeout", id="silent"),
        pytest.param("liar", "LifetimeTimeout|NoNameservers", id="liar"),
        pytest.param("garbage", "LifetimeTimeout|NoNameservers", id="garbage"),
    ],
)
def test_server_that_fails(server, mood, why) -> None:
    """An answer that is none is an error, within the time that a question may take."""
    server.records["redis.test", "A"] = ["10.0.0.1"]
    server.records[SRV] = ["0 0 6379 a.test."]
    server.mood = mood
    for name in ("redis.test", "_redis._tcp.test"):
        source = nodes_from_dns(name, nameserver=server.address, timeout=0.2)
        with pytest.raises(errors.DiscoveryFailed, match=why):
            source()


@pytest.mark.parametrize(
    ("records", "why"),
    [
        pytest.param({}, "there is no such name", id="nothing"),
        pytest.param({("redis.test", "TXT"): ["x"], (SRV[0], "TXT"): ["x"]}, "no", id="other-kind"),
        pytest.param(
            {("redis.test", "A"): ["0.0.0.0"], SRV: ["0 0 0 ."]},
            "no server can be|has no SRV records",
            id="not-available",
        ),
        pytest.param(
            {("redis.test", "A"): ["224.0.0.1", "10.0.0.1"], SRV: ["0 0 0 a.test."]},
            "no server can be|where no server is",
            id="no-server",
        ),
        pytest.param(
            {("redis.test", "A"): ["255.1.1.1", "0.0.0.0"], SRV: [r"0 0 6379 a\064b\032c.test."]},
            "no server can be|where no server is",
            id="no-host",
        ),
    ],
)
def test_answers_that_are_no_nodes(server, records, why) -> None:
    """No such name, no records of the kind, addresses and hosts that no server has."""
    server.records.update(records)
    for name in ("redis.test", "_redis._tcp.test"):
        with pytest.raises(errors.DiscoveryFailed, match=why):
            of(server, name)()


def test_system_resolver(monkeypatch) -> None:
    """Without a name server the system is asked, for one family."""
    asked = []

    def getaddrinfo(*args: Any, **settings: Any) -> list[Any]:
        asked.append((args, settings["family"]))
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.2", 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.2", 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    found = nodes_from_dns("redis.svc.local", port=6380)()
    assert [node.name for node in found] == ["10.0.0.1:6380/0", "10.0.0.2:6380/0"]
    assert asked == [(("redis.svc.local", None), socket.AF_INET)]


def test_localhost() -> None:
    """The system's own file of hosts counts."""
    found = nodes_from_dns("localhost")()
    assert {ip_address(node.name.partition(":")[0]).is_loopback for node in found} == {True}


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "there is no such name"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "Temporary failure"),
        (UnicodeError("label too long"), "label too long"),
        (OSError(24, "Too many open files"), "Too many open files"),
    ],
)
def test_system_resolver_fails(monkeypatch, error, why) -> None:
    """What the system says is the reason."""

    def getaddrinfo(*args: Any, **settings: Any) -> list[Any]:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(errors.DiscoveryFailed, match=why):
        nodes_from_dns("redis.svc.local")()


@needs_dnspython
@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [
        pytest.param(None, {}, "must be a non-empty str", id="none"),
        pytest.param("", {}, "must be a non-empty str", id="empty"),
        pytest.param("a b", {}, "neither a name nor an IP", id="space"),
        pytest.param("a,b", {}, "got 2 servers", id="two"),
        pytest.param("10.0.0.1", {}, "got an IP address", id="address"),
        pytest.param("redis://[::1]:6379", {}, "got an IP address", id="address-6"),
        pytest.param("unix:///run/x.sock", {}, "got an IP address or a Unix", id="unix"),
        pytest.param("redis+cluster://h", {}, "one URL of one server", id="cluster"),
        pytest.param("redis://h?name=a", {}, "leave out name", id="name"),
        pytest.param("h:1", {"port": 2}, "not in both", id="two-ports"),
        pytest.param("redis://h", {"port": 2}, "not in both", id="port-of-a-url"),
        pytest.param("h", {"port": 0}, "port must be a whole number", id="port"),
        pytest.param("h", {"port": "6379"}, "port must be a whole number", id="port-text"),
        pytest.param("h", {"timeout": 0}, "timeout must be", id="timeout"),
        pytest.param("h", {"nameserver": "ns"}, "nameserver must be an IP", id="server-name"),
        pytest.param("h", {"nameserver": "1.1.1.1:0"}, "nameserver must be", id="server-port"),
        pytest.param("h", {"nameserver": 5}, "nameserver must be an IP", id="server-type"),
        pytest.param("_redis._tcp.test", {"port": 1}, "leave out port", id="srv-port"),
        pytest.param("redis://_redis._tcp.test?weight=2", {}, "leave out weight", id="srv-weight"),
    ],
)
def test_arguments_are_checked(name, settings, why) -> None:
    """What is wrong is said when the source is made, before anything is asked."""
    with pytest.raises(errors.InvalidArgument, match=why):
        nodes_from_dns(name, **settings)


@needs_dnspython
@pytest.mark.parametrize("server", ["10.0.0.1", "10.0.0.1:53", "::1", "[::1]:53", "[::1]"])
def test_name_servers(server) -> None:
    """The DNS server may be written with or without a port, in both families."""
    assert NameServer(server, 1.0)._server in (("10.0.0.1", 53), ("::1", 53))


def test_without_dnspython(monkeypatch) -> None:
    """Where the extra is missing, the error names it; addresses need none."""
    monkeypatch.setitem(sys.modules, "dns.resolver", None)
    for settings in ({"name": "_redis._tcp.test"}, {"name": "h", "nameserver": "127.0.0.1"}):
        with pytest.raises(errors.InvalidOption, match=r"shardcache\[dns\]"):
            nodes_from_dns(**settings)
    assert nodes_from_dns("localhost")()


@given(st.lists(st.integers(0, 65535), min_size=1))
def test_weights_are_relative(weights) -> None:
    """The smallest is 1, and equal ones are 1, whatever number stands for them."""
    found = relative_weights(weights)
    assert min(found) == 1.0
    assert (len(set(weights)) > 1) or set(found) == {1.0}
    assert sorted(found) == [found[at] for at in sorted(range(len(found)), key=weights.__getitem__)]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 1000))
def test_weights_do_not_depend_on_the_unit(weights, unit) -> None:
    """Weights that are all multiplied mean the same: who answers in percent moves no key."""
    assert relative_weights([weight * unit for weight in weights]) == relative_weights(weights)
