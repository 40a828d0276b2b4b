"""`hot`: the keys that servers are asked for most, and what it says where they cannot tell."""

import json
import threading
import uuid
from collections.abc import Iterator

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from shardcache.cli import main
from shardcache.cli.monitor import keys_read
from shardcache.client import ShardCache
from shardcache.embedded import LocalShards
from tests.waiting import until

DEAD = "redis://:s3cret@127.0.0.1:1?name=gone"


@pytest.fixture(scope="module")
def counting() -> Iterator[LocalShards]:
    """Two servers that count accesses."""
    with LocalShards(2) as servers:
        for url in servers.urls.values():
            with redis.Redis.from_url(url) as one:
                one.config_set("maxmemory-policy", "allkeys-lfu")
        yield servers


@pytest.fixture
def counted(counting: LocalShards) -> str:
    return f"{counting.url}&timeout=20&namespace={uuid.uuid4().hex}"


def test_by_the_counts_of_the_servers(counted: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Under an LFU policy the servers' own counters decide; the namespace is left out."""
    with ShardCache.from_url(counted) as cache:
        cache.set_many({f"k{number}": number for number in range(30)})
        for _ in range(3000):
            cache.get("k7")
        shard = cache.explain("k7").shard
    assert main(["hot", "--url", counted, "--limit", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["by"], len(found["keys"]), found["not_counted"]) == ("lfu", 3, {})
    assert (found["keys"][0]["key"], found["keys"][0]["shard"]) == ("k7", shard)
    assert found["keys"][0]["freq"] > found["keys"][1]["freq"]
    assert main(["hot", "--url", counted]) == 0
    head, first, *rest = capsys.readouterr().out.splitlines()
    assert (head.split(), first.split()[:2]) == (["KEY", "SHARD", "FREQ"], ["k7", shard])
    assert len(rest) == 9


def test_servers_that_do_not_count(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is named with its policy, and what can be done; the code is 1."""
    assert main(["hot", "--url", url]) == 1
    out = capsys.readouterr().out
    assert out.count("counts no accesses, its maxmemory-policy is noeviction") == 2
    assert "shardcache hot --monitor 5" in out


def test_a_dead_shard(counted: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named with the reason, others are shown, the code is 3."""
    with ShardCache.from_url(counted) as cache:
        cache.set("k", 1)
    for more in ([], ["--monitor", "0.1"]):
        assert main(["hot", "--url", f"{counted},{DEAD}", *more]) == 3
        out = capsys.readouterr().out
        assert "gone: cannot " in out
        assert "s3cret" not in out


def test_by_listening(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With --monitor the reads of the namespace are counted, by whatever client."""
    done = threading.Event()

    def read() -> None:
        with ShardCache.from_url(url) as cache:
            while not done.is_set():
                cache.get_many(["hot", "cool"])
                cache.get("hot")
                cache.get_or_set(b"\xff\n", 1)

    def hottest() -> list[str]:
        assert main(["hot", "--url", url, "--monitor", "0.2", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["by"], found["seconds"], found["errors"]) == ("monitor", 0.2, {})
        assert sum(one["share"] for one in found["keys"]) in (0, pytest.approx(1))
        return [one["key"] for one in found["keys"]]

    reader = threading.Thread(target=read)
    reader.start()
    try:
        until(lambda: hottest()[:1] == ["hot"])
        until(lambda: set(hottest()) == {"hot", "cool", "\\xff\n"})
        assert main(["hot", "--url", url, "--monitor", "0.2", "--limit", "1"]) == 0
        assert capsys.readouterr().out.count("\n") <= 2
    finally:
        done.set()
        reader.join()


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4))
def test_lines(keys: list[bytes]) -> None:
    """Every key of a line is read as it was, and only reads of clients of the database count."""
    escapes = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 92: "\\\\"}
    words = b" ".join(
        b'"%b"'
        % "".join(
            escapes.get(one) or (chr(one) if 32 <= one < 127 else f"\\x{one:02x}") for one in key
        ).encode()
        for key in keys
    )

    def line(client: bytes, name: bytes) -> bytes:
        return b'1795819965.083862 [3 %b] "%b" %b' % (client, name, words)

    assert keys_read(line(b"[::1]:5000", b"mget"), 3, b"") == keys
    assert keys_read(line(b"unix:socket", b"GET"), 3, b"") == keys[:1]
    assert keys_read(line(b"127.0.0.1:5000", b"GET"), 3, keys[0]) == keys[:1]
    assert keys_read(line(b"127.0.0.1:5000", b"GET"), 3, keys[0] + b":") == []
    assert keys_read(line(b"127.0.0.1:5000", b"GET"), 0, b"") == []
    assert keys_read(line(b"127.0.0.1:5000", b"SET"), 3, b"") == []
    assert keys_read(line(b"lua", b"GET"), 3, b"") == []


@pytest.mark.parametrize("line", [b"", b"OK", b'1.1 [0 1.1.1.1:1] "PING"', b'1 [0 a] "GET"'])
def test_other_lines(line: bytes) -> None:
    """What names no key is no read."""
    assert keys_read(line, 0, b"") == []
