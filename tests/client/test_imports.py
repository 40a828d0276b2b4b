"""What a client imports: memory and time that each process of a site pays for."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.long

# What a client of real servers has no use for.
UNUSED = ("shardcache.bench", "shardcache.cli", "shardcache.embedded", "shardcache.testing", "rich")
PROGRAM = """
import json, sys
from shardcache import ShardCache
with ShardCache({"a": "redis://127.0.0.1:1"}) as cache:
    cache.get("k")
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize("name", UNUSED)
def test_not_imported(name: str) -> None:
    """A client of real servers imports nothing that starts local ones, nor the tools."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert f'"{name}"' not in done.stdout
