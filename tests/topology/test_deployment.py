"""Deployments: which nodes find each other, and which stand alone."""

import pytest

from shardcache import Node
from shardcache.errors import InvalidURL
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.topology.deployment import deployment_of
from shardcache.topology.nodes import members
from shardcache.topology.sentinel_set import SentinelSet
from shardcache.url_options import read_url

CLUSTER = "redis+cluster://h1,h2"
SENTINEL = "redis+sentinel://s1,s2?masters=a"


@pytest.mark.parametrize(("text", "kind"), [(CLUSTER, ClusterSeeds), (SENTINEL, SentinelSet)])
def test_kinds(text: str, kind: type) -> None:
    """A text, what was read out of it, and the object itself say the same."""
    found = deployment_of(text)
    assert type(found) is kind
    assert deployment_of(read_url(text).urls) == found == deployment_of(found)


@pytest.mark.parametrize(
    "nodes",
    [
        "redis://h1,h2",
        read_url("redis://h1,h2").urls,
        {"a": "redis://h1"},
        {"a": CLUSTER},
        [CLUSTER],
        [],
        [Node("a")],
        None,
        b"x",
        list,
    ],
)
def test_independent_nodes(nodes: object) -> None:
    """Everything else is left to those who take independent nodes."""
    assert deployment_of(nodes) is None


@pytest.mark.parametrize(
    "text",
    [
        f"{CLUSTER},redis://h3",
        f"redis://h3,{SENTINEL}",
        f"{CLUSTER},{CLUSTER}",
        f"{CLUSTER},{SENTINEL}",
    ],
)
def test_not_alone(text: str) -> None:
    """Such a URL beside another one is refused."""
    with pytest.raises(InvalidURL, match=r"^redis\+(cluster|sentinel):// must be the only URL"):
        deployment_of(text)


@pytest.mark.parametrize(
    "nodes", [CLUSTER, [CLUSTER], {"a": CLUSTER}, [Node("a", 1, SENTINEL)], read_url(SENTINEL).urls]
)
def test_among_independent_nodes(nodes: object) -> None:
    """Among independent nodes it is refused as that."""
    with pytest.raises(InvalidURL, match=r"one server|all servers of a client"):
        members(nodes)  # type: ignore[arg-type]
