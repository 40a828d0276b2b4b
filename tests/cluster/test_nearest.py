"""`read_from="nearest"` by real distances: proxies delay the ways to a master and its replica."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from shardcache import Options
from shardcache.embedded import LocalCluster, LocalServer
from shardcache.policy import read_choice
from shardcache.testing.faults import Delay
from shardcache.testing.proxy import FaultProxy
from tests.replica_reads import ask, reads_of
from tests.waiting import until

FAR = Delay(0.05)  # seconds; a read over the other way takes less than a thousandth
IN_A_ROW = 10


@pytest.fixture(scope="module")
def cluster(program: str) -> Iterator[LocalCluster]:
    """A master with a replica."""
    with LocalCluster(1, replicas=1, binary=program) as cluster:
        until(lambda: all("loading" not in str(shards_of(one)) for one in cluster.servers))
        yield cluster


def shards_of(server: LocalServer) -> Any:
    """Return the map as a server has it: one that loads is not read from."""
    return ask(server, "CLUSTER", "SHARDS")


@pytest.fixture
def ways(cluster: LocalCluster) -> Iterator[dict[LocalServer, FaultProxy]]:
    """A proxy before each server."""
    with ExitStack() as stack:
        yield {
            one: stack.enter_context(FaultProxy(f"redis://127.0.0.1:{one.port}"))
            for one in cluster.servers
        }


@pytest.mark.parametrize("how", ["get", "get_many"])
def test_nearest_of_two(
    cluster: LocalCluster,
    ways: dict[LocalServer, FaultProxy],
    make: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """Reads go over the short way, and over the other one when that has become the shorter."""
    monkeypatch.setattr(read_choice, "INTERVAL", 1.0)
    [master] = cluster.masters
    [replica] = cluster.replicas
    reach = {("127.0.0.1", one.port): ("127.0.0.1", way.port) for one, way in ways.items()}
    options = Options(read_from="nearest", address_map=reach)
    cache = make(cluster.url, on_unavailable="raise", options=options)
    assert cache.set("k", 1) is True

    def read() -> bool:
        found = cache.get("k") if how == "get" else cache.get_many(["k"]).get("k")
        return bool(found == 1)

    def all_from(server: LocalServer) -> bool:
        before = reads_of(server)
        assert all(read() for _ in range(IN_A_ROW))
        return reads_of(server) - before == IN_A_ROW

    until(lambda: [read() for _ in range(IN_A_ROW)] == [True] * IN_A_ROW)
    for near, far in ((master, replica), (replica, master)):
        ways[near].clear()
        ways[far].set(FAR)
        until(lambda near=near: all_from(near))
