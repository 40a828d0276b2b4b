"""Sentinels and their masters: what their URL may say."""

import traceback
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache import Node
from shardcache.errors import InvalidArgument, InvalidNode, InvalidURL
from shardcache.options import TLS
from shardcache.topology.nodes import members
from shardcache.topology.sentinel_set import SentinelSet
from shardcache.url_options import read_url
from shardcache.urls import Address, parse_many


def sentinels(text: str) -> SentinelSet:
    return SentinelSet.of(read_url(text).urls)


def test_plain() -> None:
    """Each host is a Sentinel, at 26379 by default; the masters are the nodes of the ring."""
    found = sentinels("redis+sentinel://s1,s2:7/3?masters=a,b")
    assert found.sentinels == (Address("s1", 26379), Address("s2", 7))
    assert found.masters == (Node("a"), Node("b"))
    assert found.login == Address(db=3)


def test_weights() -> None:
    """A master may have a weight behind its name."""
    found = sentinels("redis+sentinel://s1?masters=a:2.5, b ,c.d_e-1:1")
    assert found.masters == (Node("a", 2.5), Node("b", 1.0), Node("c.d_e-1", 1.0))


def test_two_logins() -> None:
    """The login of the URL is that of the masters; the Sentinels have theirs in the query."""
    found = sentinels(
        "redis+sentinel://u:p@s1,s2?masters=a&sentinel_username=su&sentinel_password=s%2Bp"
    )
    assert {(one.username, one.password) for one in found.sentinels} == {("su", "s+p")}
    assert (found.login.username, found.login.password) == ("u", "p")


def test_no_login_of_sentinels() -> None:
    """The password of the masters is never sent to a Sentinel."""
    found = sentinels("redis+sentinel://u:p@s1?masters=a")
    assert [(one.username, one.password) for one in found.sentinels] == [(None, None)]


@pytest.mark.parametrize(
    ("text", "of_sentinels", "of_masters"),
    [
        ("redis+sentinel://s?masters=a", False, False),
        ("rediss+sentinel://s?masters=a", True, True),
        ("valkeys+sentinel://s?masters=a", True, True),
        ("rediss+sentinel://s?masters=a&sentinel_tls=no", False, True),
        ("redis+sentinel://s?masters=a&sentinel_tls=true", True, False),
    ],
)
def test_tls(text: str, of_sentinels: bool, of_masters: bool) -> None:
    """The scheme says it for both, unless the query says something else of the Sentinels."""
    found = sentinels(text)
    assert ([one.tls for one in found.sentinels], found.login.tls) == ([of_sentinels], of_masters)


def test_node_of_a_master() -> None:
    """A master at an address is a node with its name, weight, login, database and TLS."""
    found = sentinels("rediss+sentinel://u:p@s1/2?masters=a:3&ssl_cert_reqs=none")
    [node] = members([found.node(found.masters[0], "10.0.0.1", 7)])
    assert (node.node.name, node.node.weight, node.named) == ("a", 3.0, True)
    assert node.address == Address("10.0.0.1", 7, db=2, tls=True, username="u", password="p")
    assert (node.tls, found.tls) == (TLS(verify=False), TLS(verify=False))


def test_certificates_of_sentinels_alone() -> None:
    """Settings of certificates go to the Sentinels only, where only these are reached over TLS."""
    found = sentinels("redis+sentinel://s1?masters=a&sentinel_tls=yes&ssl_cert_reqs=none")
    [node] = members([found.node(found.masters[0], "10.0.0.1", 7)])
    assert (node.tls, found.tls) == (None, TLS(verify=False))


def test_settings_of_the_client() -> None:
    """The settings of the client stand in such a URL as in any other."""
    said = read_url("redis+sentinel://s1?masters=a&namespace=shop&timeout=0.2&max_idle=3")
    assert (said.client, said.options) == ({"namespace": "shop", "timeout": 0.2}, {"max_idle": 3})
    assert SentinelSet.of(said.urls).masters == (Node("a"),)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("redis+sentinel://s", InvalidURL, r"needs the names .*\?masters=a,b"),
        ("redis+sentinel://s?masters=", InvalidURL, "needs the names"),
        ("redis+sentinel://s?masters=a,", InvalidNode, "names joined by commas, .*got ''"),
        ("redis+sentinel://s?masters=a;b", InvalidNode, "got 'a;b'"),
        ("redis+sentinel://s?masters=a,a:2", InvalidNode, "'a' more than once"),
        ("redis+sentinel://s?masters=a:", InvalidNode, "weight of a master .*got ''"),
        ("redis+sentinel://s?masters=a:heavy", InvalidNode, "weight of a master .*got 'heavy'"),
        ("redis+sentinel://s?masters=a:nan", InvalidNode, "weight of a master .*got 'nan'"),
        ("redis+sentinel://s?masters=a:0", InvalidNode, "'a': weight must be above 0"),
        ("redis+sentinel://:p1@s1,:p2@s2?masters=a", InvalidURL, "several logins.*that of the mas"),
        ("redis+sentinel://s?masters=a&sentinel_username=u", InvalidURL, "without a sentinel_pass"),
        ("redis+sentinel://s?masters=a&sentinel_tls=maybe", InvalidURL, "or 'false', got 'maybe'"),
        ("redis+sentinel://s?masters=a&ssl_cert_reqs=none", InvalidURL, "nor has it sentinel_tls"),
        ("redis+sentinel://s?master=a", InvalidURL, "'master' .did you mean 'masters'"),
        ("redis+sentinel://s?master_name=a", InvalidURL, "did you mean 'masters'"),
        ("redis+sentinel://s?masters=a&weight=2", InvalidURL, "unknown setting, 'weight'"),
    ],
)
def test_refused(text: str, kind: type[Exception], says: str) -> None:
    """What is wrong is refused with what is allowed and what came."""
    with pytest.raises(kind, match=says):
        sentinels(text)


def test_setting_of_the_client_without_the_client() -> None:
    """Where only the servers are read, a setting of the whole client is refused by name."""
    with pytest.raises(InvalidURL, match="'timeout', which is one for the whole client"):
        SentinelSet.of(parse_many("redis+sentinel://s?masters=a&timeout=1"))


def test_no_login_in_a_repr() -> None:
    """Neither login is shown (G7)."""
    shown = repr(
        sentinels("redis+sentinel://hunter2:hunter2@s1?masters=a&sentinel_password=hunter2")
    )
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    "rest", ["&masters=b", "&sentinel_password=x", "#x", "&x", "&hunter2=1", "&hunter2=1&hunter2=1"]
)
def test_no_login_in_a_message(rest: str) -> None:
    """Whatever is wrong beside it, the password of the Sentinels is not quoted (G7)."""
    secret = "2retnuh"[::-1]  # the lines of this file stand in tracebacks
    with pytest.raises(InvalidURL) as caught:
        sentinels(f"redis+sentinel://s1?masters=a&sentinel_password={secret}{rest}")
    assert secret not in "".join(traceback.format_exception(caught.value))


@given(st.text())
def test_any_masters(text: str) -> None:
    """Any text for the masters is read or refused by the library's own error."""
    with suppress(InvalidArgument):
        sentinels(f"redis+sentinel://s?masters={text}")
