"""Nodes: every form that a caller may give, and what is refused."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache import AddressAsNameWarning, AsyncShardCache, Node, ShardCache
from shardcache.errors import InvalidArgument, InvalidNode, InvalidURL
from shardcache.options import TLS
from shardcache.topology.nodes import members
from shardcache.urls import parse_url


def shown(nodes) -> list[tuple[str, float, str, int]]:
    return [
        (one.node.name, one.node.weight, one.address.host, one.address.port)
        for one in members(nodes)
    ]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("redis://h1:1,h2:2/3", [("h1:1/3", 1.0, "h1", 1), ("h2:2/3", 1.0, "h2", 2)]),
        (
            ["redis://h1", "redis://h2:7,h3"],
            [
                ("h1:6379/0", 1.0, "h1", 6379),
                ("h2:7/0", 1.0, "h2", 7),
                ("h3:6379/0", 1.0, "h3", 6379),
            ],
        ),
        (["redis://h1?name=a&weight=2.5"], [("a", 2.5, "h1", 6379)]),
        (
            {"a": "redis://h1", "b": "redis://h2?weight=3"},
            [("a", 1.0, "h1", 6379), ("b", 3.0, "h2", 6379)],
        ),
        ({"a": "redis://h1?name=a"}, [("a", 1.0, "h1", 6379)]),
        (
            [Node("a", 2, "redis://h1"), "redis://h2?name=b"],
            [("a", 2, "h1", 6379), ("b", 1.0, "h2", 6379)],
        ),
        ([parse_url("redis://h1?name=a")], [("a", 1.0, "h1", 6379)]),
        (iter(["redis://h1"]), [("h1:6379/0", 1.0, "h1", 6379)]),
        ("redis://[::1]:7", [("[::1]:7/0", 1.0, "::1", 7)]),
    ],
    ids=[
        "text",
        "list",
        "query",
        "mapping",
        "same name twice",
        "nodes",
        "parsed",
        "iterator",
        "ipv6",
    ],
)
def test_forms(nodes, expected) -> None:
    """Text, list, mapping and Node objects come to the same."""
    assert shown(nodes) == expected


def test_unix_socket() -> None:
    """A socket's node is called by its path and database."""
    [one] = members("unix:///run/v.sock?db=2")
    assert (one.node.name, one.address.path, one.node.url) == (
        "/run/v.sock/2",
        "/run/v.sock",
        "unix:///run/v.sock/2",
    )


@pytest.mark.parametrize(
    ("nodes", "kind", "says"),
    [
        ([], InvalidNode, "at least one"),
        ({}, InvalidNode, "at least one"),
        ("", InvalidURL, "expected URLs"),
        (None, InvalidNode, "got NoneType"),
        (5, InvalidNode, "got int"),
        (b"redis://h", InvalidNode, "got bytes"),
        ([b"redis://h"], InvalidNode, "got bytes"),
        ([None], InvalidNode, "got NoneType"),
        ([Node("a")], InvalidNode, "'a' has no url"),
        ({"a": None}, InvalidURL, "'a'.*got NoneType"),
        ({1: "redis://h"}, InvalidNode, "non-empty str, got 1"),
        ({"": "redis://h"}, InvalidNode, "non-empty str, got ''"),
        ({"a": "redis://h?name=b"}, InvalidNode, "'a' has another name in its URL: 'b'"),
        (["redis://h1?name=a", "redis://h2?name=a"], InvalidNode, "'a' more than once"),
        ("redis://h1,h2?name=a", InvalidNode, "'a' more than once"),
        ("redis://h,h", InvalidNode, "more than once"),
        ("redis://h?weight=heavy", InvalidNode, "weight must be a number, got 'heavy'"),
        ("redis://h?weight=nan", InvalidNode, "weight must be a number, got 'nan'"),
        ("redis://h?weight=inf", InvalidNode, "weight must be a number, got 'inf'"),
        ("redis://h?weight=0", InvalidNode, "above 0 and at most 1000, got 0"),
        ("redis://h?weight=-1", InvalidNode, "above 0 and at most 1000, got -1"),
        ("redis://h?weight=1001", InvalidNode, "at most 1000, got 1001"),
        (
            "redis://h?wieght=2",
            InvalidURL,
            r"unknown setting, 'wieght' \(did you mean 'weight'\?\); allowed are name, weight, db",
        ),
        (
            "redis://h?timeout=2",
            InvalidURL,
            "'timeout', which is one for the whole client: give it as timeout=…",
        ),
        (
            "redis://h?max_idle=2",
            InvalidURL,
            r"give it as options=Options\(max_idle=…\), or make the client by from_url",
        ),
        ("redis://h?name=", InvalidNode, "empty name"),
        ("rediss://h?ssl_cert_reqs=optional", InvalidURL, "'required' or 'none', got 'optional'"),
        ("rediss://h?ssl_check_hostname=maybe", InvalidURL, "'true' or 'false', got 'maybe'"),
    ],
)
def test_refused(nodes, kind, says) -> None:
    """What cannot be placed or reached is refused; the message says what came and is allowed."""
    with pytest.raises(kind, match=says):
        members(nodes)


def test_tls_settings(tmp_path: Path) -> None:
    """redis-py's own names say in the URL how TLS is checked; else the options do."""
    authority = tmp_path / "ca.pem"
    authority.touch()
    plain, said = members(
        [
            "rediss://h1",
            f"rediss://h2?ssl_ca_certs={authority}&ssl_cert_reqs=none&ssl_check_hostname=false",
        ]
    )
    assert (plain.tls, plain.address.tls) == (None, True)
    assert said.tls == TLS(ca_file=str(authority), verify=False, check_hostname=False)


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=4, max_size=20))
def test_credentials_are_hidden(password) -> None:
    """Neither the names, nor the reprs, nor the shown addresses hold the login."""
    [one] = members(f"redis://someuser:{password}pw@h:1/0")
    assert (f"{password}pw" in repr(one), "someuser" in repr(one), one.address.password) == (
        False,
        False,
        f"{password}pw",
    )


@given(
    st.one_of(
        st.text(),
        st.lists(st.text(), max_size=3),
        st.dictionaries(st.text(), st.text(), max_size=3),
    )
)
def test_anything_is_understood_or_refused(nodes) -> None:
    """No nodes make it raise anything but the library's own error."""
    with suppress(InvalidArgument):
        assert members(nodes)


QUIET = {
    "one": "redis://cache.example",
    "names": {"a": "redis://cache.example", "b": "redis://h2"},
    "names in URLs": "redis://cache.example?name=a,redis://h2?name=b",
    "the address as the name": {
        "cache.example:6379/0": "redis://cache.example",
        "h2:6379/0": "redis://h2",
    },
    "nodes": [Node("a", 1, "redis://cache.example"), Node("b", 1, "redis://h2")],
    "addresses": "redis://10.0.0.1,10.0.0.2,[::1],127.0.0.1:7",
    "localhost": "redis://localhost:1,localhost:2,a.localhost",
    "sockets": "unix:///a,/b",
}


@pytest.mark.parametrize("nodes", QUIET.values(), ids=QUIET)
def test_no_warning(nodes, colour) -> None:
    """A name, an IP address, a socket and a lone shard give no warning."""
    with colour(nodes):
        pass


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ("redis://cache.example,10.0.0.1", "1 of 2 shards have no name"),
        (["redis://h1", "redis://h2?name=b", "redis://h3"], "2 of 3 shards have no name"),
    ],
)
@pytest.mark.parametrize("kind", [ShardCache, AsyncShardCache])
@pytest.mark.parametrize("how", ["constructor", "from_url"])
def test_host_names_as_names(nodes, says, kind, how) -> None:
    """Host names that place keys are warned of once per client, without any login."""
    text = nodes if isinstance(nodes, str) else ",".join(nodes)
    with pytest.warns(AddressAsNameWarning, match=says) as caught:
        kind(nodes) if how == "constructor" else kind.from_url(text)
    [warning] = caught
    assert (warning.filename, "example" in str(warning.message)) == (__file__, False)
