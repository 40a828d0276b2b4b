"""Foreign code in the middle of ours: nothing stays stuck, and nothing ends the process.

The code is a handler that raises, or a handler or finalizer that calls the client.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shardcache.embedded import LocalShards

PROGRAM = Path(__file__).with_name("interrupted_program.py")
NOTHING = {"flights": 0, "places": 0, "lines": 0, "states": ["closed"], "held": [], "loads": []}


@pytest.mark.long
@pytest.mark.parametrize("how", ["raise", "handler", "collector"])
def test_nothing_is_left_behind(how: str) -> None:
    """After a few seconds of it every lock, key and place is free, and the process still lives."""
    with LocalShards(3) as shards:
        done = subprocess.run(
            [sys.executable, PROGRAM, how, "4", *shards.urls.values()],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["done"]["hits" if how == "raise" else "inside"] > 20, found
    assert found["left"] == NOTHING, found
