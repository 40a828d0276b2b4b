"""The plugin of pytest, as somebody uses it who tests an application of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

CLEAN = """
import pytest
from shardcache import AsyncShardCache

@pytest.mark.parametrize("again", [1, 2])
def test_empty(shardcache_client, again):
    assert "k" not in shardcache_client
    shardcache_client.set_many({"k": 1, **{str(n): n for n in range(50)}})
    assert shardcache_client.get("k") == 1
    with shardcache_client.lock("job", ttl=30):
        pass

@pytest.fixture(scope="session")
def first(shardcache_shards):
    return dict(shardcache_shards.urls)

@pytest.mark.parametrize("again", [1, 2])
def test_same_servers(shardcache_shards, first, again):
    assert shardcache_shards.urls == first
    assert shardcache_shards.names == ("shard-1", "shard-2", "shard-3")
    assert shardcache_shards.url.count("name=") == 3
"""

OUTAGES = """
import time
import pytest
from shardcache import ShardCache
from shardcache.errors import InvalidOption, ShardTimeout, ShardUnavailable

@pytest.fixture
def shardcache_settings():
    return {"timeout": 0.3, "on_unavailable": "raise"}

@pytest.fixture
def mine(shardcache_client):
    return next(k for k in map(str, range(99)) if shardcache_client.explain(k).shard == "shard-2")

def patient(urls):
    return ShardCache(urls, timeout=20, on_unavailable="raise")

@pytest.mark.parametrize("how", ["kill", "pause", "cut_off"])
def test_outage(shardcache_shards, shardcache_client, shardcache_outage, mine, how):
    shardcache_client.set(mine, 1)
    with getattr(shardcache_outage, how)("shard-2"):
        with pytest.raises((ShardTimeout, ShardUnavailable)):
            shardcache_client.get(mine)
    with patient(shardcache_shards.urls) as other:
        assert other.get(mine) == (None if how == "kill" else 1)
        assert other.set(mine, 2) and other.get(mine) == 2

def test_others_go_on(shardcache_client, shardcache_outage):
    keys = map(str, range(50))
    others = [key for key in keys if shardcache_client.explain(key).shard != "shard-2"]
    with shardcache_outage.kill("shard-2"):
        for key in others:
            assert shardcache_client.set(key, key)

def test_slow(shardcache_shards, shardcache_outage, mine):
    with patient(shardcache_shards.urls) as cache:
        cache.set(mine, 1)
        with shardcache_outage.slow("shard-2", 0.2):
            began = time.monotonic()
            assert cache.get(mine) == 1
            assert time.monotonic() - began >= 0.2

def test_wrong(shardcache_shards, shardcache_outage):
    for use in (shardcache_outage.kill, shardcache_outage.pause, shardcache_outage.cut_off):
        with pytest.raises(InvalidOption, match="no shard 'x'; there are shard-1, shard-2"):
            with use("x"):
                pass
    for seconds in (0, -1, "1", True, float("nan"), float("inf")):
        with pytest.raises(InvalidOption, match="seconds must be a number above 0"):
            with shardcache_outage.slow("shard-1", seconds):
                pass

def test_left_broken(shardcache_shards):
    shardcache_shards.proxy("shard-1").down()

def test_whole_again(shardcache_client):
    assert shardcache_client.set_many(dict.fromkeys(map(str, range(50)), 1)) == []
"""


def ran(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a file of tests in a process of its own."""
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n", encoding="utf-8")
    (folder / "test_it.py").write_text(text, encoding="utf-8")
    plain = {name: one for name, one in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    return subprocess.run(
        [*command, *options, "test_it.py"],
        capture_output=True,
        check=False,
        cwd=folder,
        env=plain,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize(("text", "number"), [(CLEAN, 4), (OUTAGES, 8)], ids=["clean", "outages"])
def test_fixtures(tmp_path: Path, text: str, number: int) -> None:
    """One set of servers, empty before each test, and outages that end with their block."""
    done = ran(tmp_path, text)
    assert f"{number} passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_two_workers(tmp_path: Path) -> None:
    """Each process of pytest-xdist has servers of its own."""
    done = ran(tmp_path, CLEAN, "-n", "2")
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_nothing_happens_unasked(tmp_path: Path) -> None:
    """A test that asks for no fixture starts no server, and has the client not imported."""
    done = ran(
        tmp_path,
        "import sys, threading\n"
        "def test_it():\n"
        "    assert not {'redis', 'shardcache.client', 'shardcache.embedded'} & set(sys.modules)\n"
        "    assert threading.active_count() == 1\n",
        "-p",
        "no:xdist",
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--shardcache-shards", "0"), "shards must be a whole number from 1 to 64, got 0"),
        (("--shardcache-image", "x"), "an image is for containers, and the engine is 'embedded'"),
        (("--shardcache-engine", "x"), "invalid choice: 'x'"),
    ],
)
def test_wrong_options(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    """The test fails with one line that says what is wrong."""
    done = ran(tmp_path, "def test_it(shardcache_client): pass\n", *options)
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode != 0
