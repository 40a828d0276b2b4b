"""The command line on keys that a terminal cannot show."""

import os
import subprocess
import sys
import uuid

import pytest

from shardcache import ShardCache
from shardcache.cli import main


@pytest.fixture
def url(shards, monkeypatch) -> str:
    """The URL of a namespace of its own, in the environment."""
    url = f"{shards.url}&namespace={uuid.uuid4().hex}"
    monkeypatch.setenv("SHARDCACHE_URL", url)
    return url


# dbx #149, redis-ui #28, redis-cli #8561
def test_keys_that_are_no_text(url, capsys) -> None:
    """A key of bytes that are no text is read, written, placed, listed and deleted as typed."""
    typed = "k" + os.fsdecode(b"\xff\xfe")
    assert main(["set", typed, "v"]) == 0
    with ShardCache.from_url(url) as cache:
        assert cache.get(b"k\xff\xfe") == "v"
    capsys.readouterr()
    assert (main(["get", typed]), capsys.readouterr().out) == (0, "v\n")
    assert (main(["keys", typed + "*"]), capsys.readouterr().out) == (0, "k\\xff\\xfe\n")
    assert (main(["where", typed]), main(["del", typed])) == (0, 0)
    assert capsys.readouterr().out.endswith("\n1\n")


# redis-cli #3803
def test_a_terminal_that_knows_ascii_only(url) -> None:
    """In the locale "C", too, a key is the bytes that were typed."""
    with ShardCache.from_url(url) as cache:
        cache.set("π", "3.14")
    environment = {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "SHARDCACHE_URL": url,
    }
    done = subprocess.run(
        [sys.executable, "-m", "shardcache", "get", "π".encode()],
        env={**os.environ, **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"3.14\n", b"")


# RedisDesktopManager #3496
def test_keys_that_a_terminal_would_act_on(url, capsys) -> None:
    """Nothing that a key holds reaches the terminal as a command to it."""
    key = "evil\x1b]0;owned\x07\nline"
    with ShardCache.from_url(url) as cache:
        cache.set(key, 1)
    assert [main(["keys"]), main(["where", key]), main(["get", key + "!"])] == [0, 0, 1]
    said = capsys.readouterr()
    assert not {"\x1b", "\x07"} & set(said.out + said.err)
