"""Clients whose nodes come out of DNS and out of files, with real servers behind them."""

import json
import os
from collections.abc import Iterator

import pytest

from shardcache import Options, nodes_from_dns, nodes_from_file
from shardcache.embedded import LocalShards
from tests.waiting import until

KEYS = [f"k{n}" for n in range(100)]


@pytest.fixture(scope="module")
def shards() -> Iterator[LocalShards]:
    with LocalShards(4, tcp=True) as servers:
        yield servers


def services(shards: LocalShards, number: int) -> list[str]:
    """Return SRV records for the first servers."""
    ports = [url.rpartition(":")[2].partition("/")[0] for url in shards.urls.values()]
    return [f"0 0 {port} node{at}.test." for at, port in enumerate(ports[:number])]


def test_dns_that_changes_vanishes_and_hangs(server, shards, make) -> None:
    """SRV records change, go, and are not answered: no call fails, and only owed keys miss."""
    for at in range(4):
        server.records[f"node{at}.test", "A"] = ["127.0.0.1"]
    server.records["_redis._tcp.test", "SRV"] = services(shards, 3)
    source = nodes_from_dns("_redis._tcp.test", nameserver=server.address, timeout=0.3)
    cache = make(source, on_unavailable="raise", options=Options(discovery_interval=0.02))
    cache.set_many(dict.fromkeys(KEYS, 1), ttl=None)
    assert {name.partition(".")[0] for name in cache.stats().shards} == {"node0", "node1", "node2"}
    # Its answer vanishes, is none, and does not come.
    for mood, records in (
        ("well", []),
        ("servfail", services(shards, 3)),
        ("silent", services(shards, 3)),
    ):
        server.records["_redis._tcp.test", "SRV"] = records
        server.mood = mood
        failures = cache.stats().discovery.failures
        until(lambda before=failures: cache.stats().discovery.failures > before)
        assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 1)
        assert cache.stats().topology_changes == 0
    # It changes, in another order, and then names one more.
    server.mood = "well"
    server.records["_redis._tcp.test", "SRV"] = services(shards, 3)[::-1]
    until(lambda: cache.stats().discovery.ok)
    assert cache.stats().topology_changes == 0
    before = {key: cache.explain(key).shard for key in KEYS}
    server.records["_redis._tcp.test", "SRV"] = services(shards, 4)
    until(lambda: cache.stats().topology_changes == 1)
    moved = {key for key in KEYS if cache.explain(key).shard != before[key]}
    assert {cache.explain(key).shard.partition(".")[0] for key in moved} == {"node3"}
    assert set(cache.get_many(KEYS)) == set(KEYS) - moved


def test_another_address_moves_no_key(server, shards, make) -> None:
    """The host of an SRV record gets another address: the same node, and every key is found."""
    urls = list(shards.urls.values())[:1]
    server.records["_redis._tcp.test", "SRV"] = services(shards, 1)
    server.records["node0.test", "A"] = ["127.0.0.9"]  # nobody listens there, as it may be
    source = nodes_from_dns("_redis._tcp.test", nameserver=server.address)
    cache = make(source, timeout=20.0, options=Options(discovery_interval=0.02, first_probe=0.01))
    cache.get("a")
    server.records["node0.test", "A"] = ["127.0.0.1"]
    until(lambda: cache.set("a", 1))
    assert cache.get("a") == 1
    assert cache.explain("a").address == urls[0].removesuffix("/0") + "/0"
    [name] = cache.stats().shards
    assert name.startswith("node0.test:")


@pytest.mark.parametrize("form", ["lines", "json"])
def test_file_that_changes(tmp_path, shards, make, form) -> None:
    """A file is rewritten, emptied, half written and removed: calls go on, and follow it."""
    path = tmp_path / "nodes"
    names = list(shards.urls)

    def write(number: int) -> None:
        some = {name: shards.urls[name] for name in names[:number]}
        lines = "".join(f"{url}?name={name}\n" for name, url in some.items())
        (tmp_path / "new").write_text(json.dumps(some) if form == "json" else lines)
        (tmp_path / "new").rename(path)

    write(3)
    cache = make(
        nodes_from_file(path), on_unavailable="raise", options=Options(discovery_interval=0.02)
    )
    cache.set_many(dict.fromkeys(KEYS, 1), ttl=None)
    for damage in (
        lambda: path.write_text(""),
        lambda: path.write_bytes(path.read_bytes() + b'{"a'),
        path.unlink,
    ):
        write(3)
        until(lambda: cache.stats().discovery.ok)
        failures = cache.stats().discovery.failures
        damage()
        until(lambda before=failures: cache.stats().discovery.failures > before)
        assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 1)
    assert cache.stats().topology_changes == 0
    write(4)
    until(lambda: cache.stats().topology_changes == 1)
    assert set(cache.stats().shards) == set(names)
    assert len(cache.get_many(KEYS)) < len(KEYS)
    os.unlink(path)
    assert cache.set("a", 1) is True
