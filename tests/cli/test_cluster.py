"""The commands on a Redis Cluster: `where`, `ring`, `ping`, and those that ask every master."""

import argparse
import json
import re
import time
import uuid
from collections.abc import Iterator

import pytest
import redis

from shardcache.cli import cluster as shown
from shardcache.cli import main
from shardcache.cli.connect import open_client
from shardcache.embedded import LocalCluster
from shardcache.topology.cluster_map import ClusterMap, ClusterNode, ClusterShard
from shardcache.topology.slots import slot_of


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Three masters, each with a replica; the tests leave it as it is."""
    with LocalCluster(3, replicas=1, timeout=60) as cluster:
        yield cluster


@pytest.fixture
def url(cluster, monkeypatch) -> str:
    monkeypatch.delenv("SHARDCACHE_URL", raising=False)
    return f"{cluster.url}?timeout=40&namespace={uuid.uuid4().hex}"


def name_of(server) -> str:
    return f"127.0.0.1:{server.port}"


def replicas_of(cluster, master) -> list[str]:
    found = []
    for one in cluster.replicas:
        with redis.Redis(port=one.port) as plain:
            if plain.info("replication")["master_port"] == master.port:
                found.append(name_of(one))
    return found


def told(out: str) -> dict[str, str]:
    """Return the lines under the drawing, by their first words."""
    lines = out.splitlines()
    return {
        name: text.strip()
        for name, text in (line.split("  ", 1) for line in lines[lines.index("") + 1 :])
    }


def test_where(cluster, url, capsys):
    """It says slot, master and replicas, and what the master has; the key is drawn beside it."""
    slot = slot_of(f"{url.rpartition('=')[2]}:user:1".encode())
    master = cluster.owner(slot)
    assert main(["set", "--url", url, "user:1", "hello"]) == 0
    capsys.readouterr()
    assert main(["where", "--url", url, "user:1"]) == 0
    out = capsys.readouterr().out
    lines = told(out)
    assert (lines["slot"], lines["master"]) == (str(slot), name_of(master))
    assert lines["replicas"].split(", ") == replicas_of(cluster, master)
    assert lines["value"].startswith("6 bytes, ")
    drawing = out[: out.index("\n\n")].splitlines()
    assert len(drawing) == 3
    assert [line.split()[0] for line in drawing if "<- user:1" in line] == [name_of(master)]


def test_where_offline(cluster, url, capsys):
    """With --offline the map is asked for, and no master is asked about the key."""
    assert main(["where", "--url", url, "--offline", "k"]) == 0
    lines = told(capsys.readouterr().out)
    assert lines["master"] in {name_of(one) for one in cluster.masters}
    assert lines["value"] == "not asked (--offline)"


def test_where_as_json(cluster, url, capsys):
    """--json has slot and replicas; no node is next, for replicas take over."""
    slot = slot_of(f"{url.rpartition('=')[2]}:k".encode())
    master = cluster.owner(slot)
    assert main(["where", "--url", url, "--json", "k"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["slot"], found["shard"]) == (slot, name_of(master))
    assert (found["replicas"], found["next"]) == (replicas_of(cluster, master), [])


def test_where_reads_go(cluster, url, capsys):
    """It says so where replicas are read from, and asks the master for what it has all the same."""
    assert main(["set", "--url", url, "user:2", "hello"]) == 0
    capsys.readouterr()
    assert main(["where", "--url", f"{url}&read_from=replica", "user:2"]) == 0
    lines = told(capsys.readouterr().out)
    assert lines["reads"] == "the replicas in turns"
    assert lines["value"].startswith("6 bytes, ")
    assert main(["where", "--url", f"{url}&read_from=nearest", "--json", "user:2"]) == 0
    assert json.loads(capsys.readouterr().out)["read_from"] == "nearest"
    assert main(["where", "--url", url, "--json", "user:2"]) == 0
    assert json.loads(capsys.readouterr().out)["read_from"] == "primary"


@pytest.mark.parametrize("offline", [False, True])
def test_where_nobody_serves_the_slot(offline, capsys, unserved):
    """A key whose slot nobody serves is code 3, and the slots are named, unless nobody is asked."""
    assert main(["where", "k", *(["--offline"] if offline else [])]) == (0 if offline else 3)
    out = capsys.readouterr().out
    assert told(out)["master"] == "no node serves this slot"
    assert ("no node serves the slots 100-16383" in out) is not offline
    assert re.search(r"^nobody +16,284 slots +99.39%", out, re.MULTILINE)


def test_ring(cluster, url, capsys):
    """Each master is drawn with its slots, its share and its replicas, in the order of slots."""
    assert main(["ring", "--url", url]) == 0
    rows = [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == [name_of(cluster.owner(slot)) for slot in (0, 5461, 10922)]
    assert [row[1] for row in rows] == ["5,461 slots", "5,461 slots", "5,462 slots"]
    assert {(row[2][:2], row[3]) for row in rows} == {("33", "1 replica")}
    assert all(len(row) == 5 for row in rows)


@pytest.mark.parametrize("change", [["--add", "x"], ["--remove", "x"], ["--weight", "x=2"]])
def test_ring_with_a_change(change, failing):
    """What a cluster's own tools do is refused before anybody is asked, and they are named."""
    code = main(["ring", "--url", "redis+cluster://127.0.0.1:1", *change])
    assert "redis-cli --cluster add-node" in failing(code, 2)


def test_ring_of_nodes(url, capsys):
    """--node draws a ring of independent nodes, whatever the URL is."""
    assert main(["ring", "--url", url, "--node", "a", "--add", "b"]) == 0
    assert "keys would change hands" in capsys.readouterr().out


def in_order(cluster):
    """The names of the masters in the order of their slots, as `ring` and `where` show them."""
    return [name_of(one) for one in sorted(cluster.masters, key=cluster.slots)]


def test_ping(cluster, url, capsys):
    """Masters come in the order of slots, each with its time, and before its replicas."""
    deadline = time.monotonic() + 60
    while True:
        assert main(["ping", "--url", url]) == 0
        rows = [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()]
        # A replica counts as "loading" until the members have heard how far it is.
        if all(row[2] != "loading" for row in rows) or time.monotonic() > deadline:
            break
    masters = {row[0]: row[2] for row in rows if row[1] == "master"}
    assert list(masters) == in_order(cluster)
    assert all(took.endswith(" ms") for took in masters.values())
    replicas = {row[0]: (row[1], row[2]) for row in rows if row[1] != "master"}
    assert {name: role for name, (role, _) in replicas.items()} == {
        replica: f"replica of {name_of(one)}"
        for one in cluster.masters
        for replica in replicas_of(cluster, one)
    }
    assert all(re.fullmatch(r"[\d,]+ bytes behind", lag) for _, lag in replicas.values())


def test_masters(unserved):
    """Masters come in the order of their slots; the lag is unknown where an offset is."""
    with open_client(argparse.Namespace(url=None)) as cache:
        assert shown.masters_of(cache) == [
            shown.Master("h2:1", 60, ()),
            shown.Master(
                "h1:1",
                40,
                (
                    shown.Replica("h3:1", "online", 5),
                    shown.Replica("h4:1", "loading", None),
                ),
            ),
        ]


def test_stats(cluster, url, capsys):
    """Every master has a row, though no call has asked for the map before."""
    assert main(["stats", "--url", url, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == in_order(cluster)
    assert {info["role"] for info in found.values()} == {"master"}


def test_keys_and_clear(url, capsys):
    """The keys of all masters are listed, and deleted."""
    keys = [f"k:{number}" for number in range(20)]
    for key in keys:
        assert main(["set", "--url", url, key, "v"]) == 0
    capsys.readouterr()
    assert main(["keys", "--url", url]) == 0
    assert sorted(capsys.readouterr().out.split()) == sorted(keys)
    assert main(["clear", "--yes", "--url", url]) == 0
    assert capsys.readouterr().out == "20\n"
    assert main(["keys", "--url", url]) == 0
    assert capsys.readouterr().out == ""


def test_locks(url, failing, capsys):
    """A lock is listed and shown with the slots that vote on it, and can be broken."""
    with open_client(argparse.Namespace(url=url)) as cache:
        assert cache.lock("x", ttl=600).acquire(timeout=60)
        assert main(["lock", "ls", "--url", url, "--json"]) == 0
        assert [held["name"] for held in json.loads(capsys.readouterr().out)] == ["x"]
        assert main(["lock", "show", "x", "--url", url, "--json"]) == 0
        voters = json.loads(capsys.readouterr().out)["voters"]
        assert all(re.fullmatch(r"slot-\d+", name) for name in voters)
        assert main(["lock", "break", "x", "--yes", "--url", url]) == 0
        capsys.readouterr()
    assert "nobody holds lock 'x'" in failing(main(["lock", "show", "x", "--url", url]), 1)
    assert "docs/locks.md" in failing(main(["lock", "voters", "--url", url]), 2)


@pytest.mark.parametrize("words", ["ping", "stats", "hot", "ring", "where k", "keys", "lock ls"])
def test_no_cluster_there(words, failing):
    """Where no seed answers, one line says so, without the login, and the code is 3."""
    url = "redis+cluster://:s3cret@127.0.0.1:1?timeout=20"
    line = failing(main([*words.split(), "--url", url]), 3)
    assert "no nodes from the Redis Cluster: " in line
    assert "s3cret" not in line


@pytest.fixture
def unserved(monkeypatch) -> None:
    """Have the cluster of the URL say that 100 slots are served, and the slot of "k" is not."""
    monkeypatch.setenv("SHARDCACHE_URL", "redis+cluster://h1:1?timeout=20")
    assert slot_of(b"k") >= 100
    found = ClusterMap.of(
        [
            ClusterShard(
                ClusterNode("a", "h1", 1, offset=9),
                (ClusterNode("b", "h3", 1, offset=4), ClusterNode("c", "h4", 1, "loading")),
                ((60, 99),),
            ),
            ClusterShard(ClusterNode("d", "h2", 1, offset=9), (), ((0, 59),)),
        ]
    )
    monkeypatch.setattr("shardcache.drivers.cluster_source.ClusterSource.__call__", lambda _: found)
