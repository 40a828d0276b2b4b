"""Seeds of a cluster: what their URL may say."""

import pytest

from shardcache.errors import InvalidURL
from shardcache.options import TLS
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.url_options import read_url
from shardcache.urls import Address, parse_many


def seeds(text: str) -> ClusterSeeds:
    return ClusterSeeds.of(read_url(text).urls)


def test_one_seed_or_many() -> None:
    """Each host is a seed, once; all have one login."""
    assert seeds("redis+cluster://h1").addresses == (Address("h1"),)
    assert seeds("valkey+cluster://u:p@h1,h2:7,h1:6379/0").addresses == (
        Address("h1", username="u", password="p"),
        Address("h2", 7, username="u", password="p"),
    )


def test_announced_node() -> None:
    """A node that the cluster announces has the login and the TLS of the seeds."""
    found = seeds("rediss+cluster://u:p@h1,h2").node("::1", 7)
    assert found == Address("::1", 7, tls=True, username="u", password="p")


def test_tls() -> None:
    """What the URL says of certificates is kept; nothing said leaves it to the options."""
    assert seeds("rediss+cluster://h1,h2").tls is None
    assert seeds("rediss+cluster://h1,h2?ssl_cert_reqs=none").tls == TLS(verify=False)


def test_settings_of_the_client() -> None:
    """The settings of the client stand in such a URL as in any other."""
    said = read_url("redis+cluster://h1,h2?namespace=shop&timeout=0.2&max_idle=3")
    assert (said.client, said.options) == ({"namespace": "shop", "timeout": 0.2}, {"max_idle": 3})
    assert ClusterSeeds.of(said.urls).addresses == (Address("h1"), Address("h2"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("redis+cluster://:p1@h1,:p2@h2", "several logins"),
        ("redis+cluster://h1?ssl_cert_reqs=none", r"not rediss\+cluster://"),
        ("redis+cluster://h1/1", "a cluster has only database 0"),
        ("redis+cluster://h1?db=1", "a cluster has only database 0"),
        ("redis+cluster://h1?weight=2", "unknown setting, 'weight'; allowed are db, ssl_ca_certs"),
        ("redis+cluster://h1?name=a", "unknown setting, 'name'"),
        ("redis+cluster://h1?masters=a", "unknown setting, 'masters'"),
    ],
)
def test_refused(text: str, says: str) -> None:
    """What cannot be said of a cluster is refused, with what can."""
    with pytest.raises(InvalidURL, match=says):
        seeds(text)


def test_setting_of_the_client_without_the_client() -> None:
    """Where only the servers are read, a setting of the whole client is refused by name."""
    with pytest.raises(InvalidURL, match="'timeout', which is one for the whole client"):
        ClusterSeeds.of(parse_many("redis+cluster://h1?timeout=1"))


def test_no_login_in_a_repr() -> None:
    """Neither user nor password is shown (G7)."""
    assert "hunter2" not in repr(seeds("redis+cluster://hunter2:hunter2@h1,h2"))
