"""The plugin of pytest with servers in containers: they start, fail, come back and are gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import containers_required
from .servers import BACKENDS, engine_problem

TESTS = """
import pathlib
import pytest
from shardcache import ShardCache

@pytest.fixture(scope="session", autouse=True)
def own(shardcache_shards):
    servers = map(shardcache_shards.server, shardcache_shards.names)
    pathlib.Path("own").write_text(" ".join(one._container.id for one in servers))

@pytest.mark.parametrize("how", ["kill", "pause", "cut_off"])
def test_outage(shardcache_shards, shardcache_outage, how):
    with ShardCache(shardcache_shards.urls, timeout=30, on_unavailable="raise") as cache:
        key = next(k for k in map(str, range(99)) if cache.explain(k).shard == "shard-1")
        assert cache.get(key) is None
        assert cache.set(key, how)
        with getattr(shardcache_outage, how)("shard-1"):
            with ShardCache(shardcache_shards.urls, timeout=0.5) as other:
                assert other.get(key) is None
    with ShardCache(shardcache_shards.urls, timeout=30, on_unavailable="raise") as cache:
        assert cache.get(key) == (None if how == "kill" else how)
"""
VARIABLES = {
    "redis-container": ("SHARDCACHE_REDIS_IMAGE", "redis:7"),
    "valkey-container": ("SHARDCACHE_VALKEY_IMAGE", "valkey/valkey:8"),
}


@pytest.mark.parametrize("name", [one.name for one in BACKENDS if one.in_container])
def test_containers(tmp_path: Path, name: str) -> None:
    """What holds for local servers holds for them, and none is left."""
    variable, default = VARIABLES[name]
    image = os.environ.get(variable) or default
    if problem := engine_problem(image):
        if containers_required():
            pytest.fail(problem, pytrace=False)
        pytest.skip(problem)
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (tmp_path / "test_it.py").write_text(TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    command += ["--shardcache-engine=containers", "--shardcache-shards=2"]
    done = subprocess.run(
        [*command, f"--shardcache-image={image}"],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        text=True,
        timeout=110,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    own = set((tmp_path / "own").read_text(encoding="utf-8").split())
    assert len(own) == 2
    assert not own & containers()


def containers() -> set[str]:
    """Return all containers of this machine, running or not."""
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--no-trunc"],
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
    )
    return set(listed.stdout.split())
