"""`where`: the drawing, what the shard has, and what is said when it cannot be asked."""

import json
import re
import time

import pytest
import redis

from shardcache.cli import main
from shardcache.client import ShardCache
from shardcache.policy import LoadPolicy


def lines_of(capsys) -> dict[str, str]:
    """Return the lines under the drawing, by their first words."""
    lines = capsys.readouterr().out.splitlines()
    return dict(line.split("  ", 1) for line in lines[lines.index("") + 1 :])


def test_value_that_is_there(url, capsys):
    """It shows shard, address, the next ones, and size and ttl of what is stored."""
    with ShardCache.from_url(url) as cache:
        cache.set("user:1", b"x" * 2000, ttl=None)
        place = cache.explain("user:1")
        size = len(cache._context.codec.encode(b"x" * 2000, place.wire_key))
    assert main(["where", "--url", url, "user:1"]) == 0
    told = {name: text.strip() for name, text in lines_of(capsys).items()}
    assert told == {
        "stored as": f"{place.wire_key.decode()}, hashed by all of it",
        "shard": f"{place.shard} at {place.address}",
        "next": place.successors[1],
        "value": f"{size:,} bytes, no expiry",
    }


def test_drawing(url, shards, capsys):
    """Every shard has a line with its share, and the key stands beside its own."""
    main(["where", "--url", url, "--offline", "user:1"])
    out = capsys.readouterr().out
    drawing = out[: out.index("\n\n")].splitlines()
    with ShardCache.from_url(url) as cache:
        owner = cache.explain("user:1").shard
    assert [line.split()[0] for line in drawing] == sorted(shards.urls)
    assert [line.split()[0] for line in drawing if "<- user:1" in line] == [owner]
    assert all("%" in line for line in drawing)


def test_ttl_and_tag(url, capsys):
    """A key with a tag says what is hashed, and a value that expires says when."""
    with ShardCache.from_url(url) as cache:
        cache.set("cart:{user:1}", "v", ttl=1000)
    assert main(["where", "--url", url, "cart:{user:1}"]) == 0
    told = lines_of(capsys)
    assert told["stored as"].endswith("hashed by its tag user:1")
    size, left = re.fullmatch(r"(\d+) bytes, ([\d.]+) s left", told["value"].strip()).groups()
    assert (size, 900 < float(left) <= 1000) == ("2", True)


def test_grace_is_not_ttl(url, capsys):
    """Of a value that may be served stale it says its ttl and grace; in JSON and when stale too."""
    policy = LoadPolicy.swr(600)
    with ShardCache.from_url(url) as cache:
        cache.get_or_set("fresh", lambda: "v", 100, policy=policy)
        cache.get_or_set("stale", lambda: "v", 0.02, policy=policy)
        while cache.ttl("stale"):
            time.sleep(0.005)
    assert main(["where", "--url", url, "fresh"]) == 0
    told = lines_of(capsys)["value"].strip()
    left, grace = re.fullmatch(
        r"\d+ bytes, ([\d.]+) s left, then ([\d.]+) s of grace", told
    ).groups()
    assert (0 < float(left) <= 100, float(grace)) == (True, 600.0)
    assert main(["where", "--url", url, "stale"]) == 0
    told = lines_of(capsys)["value"].strip()
    [grace] = re.fullmatch(r"\d+ bytes, stale, ([\d.]+) s of grace", told).groups()
    assert 0 < float(grace) <= 600
    assert main(["where", "--url", url, "fresh", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)["value"]
    assert (0 < value["ttl"] <= 100, value["grace"]) == (True, 600.0)


def test_no_value(url, capsys):
    """A key that is not there is code 1, and says so."""
    assert main(["where", "--url", url, "nobody"]) == 1
    assert lines_of(capsys)["value"].strip() == "not there"


def test_offline(capsys):
    """With --offline no server is asked, and it says so."""
    assert main(["where", "--url", "redis://127.0.0.1:1?name=gone", "--offline", "k"]) == 0
    assert lines_of(capsys)["value"].strip() == "not asked (--offline)"


def test_shard_that_is_out(capsys):
    """A shard that does not answer is code 3; where the key belongs is shown all the same."""
    assert main(["where", "--url", "redis://:s3cret@127.0.0.1:1?name=gone", "k"]) == 3
    out = capsys.readouterr()
    assert "unknown, the shard did not answer: " in out.out
    assert "shard      gone at redis://" in out.out
    assert "s3cret" not in out.out + out.err


def test_somebody_elses_hash(url, shards, capsys):
    """What is no string is named by its type."""
    with ShardCache.from_url(url) as cache:
        place = cache.explain("h")
    with redis.Redis.from_url(shards.urls[place.shard]) as plain:
        plain.hset(place.wire_key, "f", "v")
    assert main(["where", "--url", url, "h"]) == 0
    assert lines_of(capsys)["value"].strip() == "hash, no expiry"


@pytest.mark.parametrize("offline", [False, True])
def test_json(url, capsys, offline):
    """--json has all of it."""
    with ShardCache.from_url(url) as cache:
        cache.set("k", "text", ttl=None)
        place = cache.explain("k")
    assert main(["where", "--url", url, "--json", "k", *(["--offline"] if offline else [])]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "key": "k",
        "stored_as": place.wire_key.decode(),
        "hashed": place.wire_key.decode(),
        "shard": place.shard,
        "address": place.address,
        "next": list(place.successors[1:]),
        "slot": None,
        "replicas": [],
        "read_from": "primary",
        "asked": not offline,
        "value": None if offline else {"type": "string", "bytes": 5, "ttl": None, "grace": 0.0},
        "error": None,
    }
