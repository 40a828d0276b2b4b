"""A process that forks in the middle of a call: what the call has taken is the parent's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shardcache.embedded import LocalShards

PROGRAM = str(Path(__file__).parent / "forked_program.py")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.mark.parametrize(
    ("what", "outcomes"),
    [
        # A child that leaves by an exception undoes nothing of what its parent has taken.
        ("acquire, leave", {"parent"}),
        # Of two processes that go on with the call, the parent alone has the lock.
        ("acquire, go on", {"parent"}),
        ("load, leave", {"LoadWaitTimeout, stored LoadWaitTimeout"}),
        # Nor does it remember for the key that its copy of the loader has failed.
        ("load, refuse", {"LoadWaitTimeout, stored LoadWaitTimeout"}),
    ],
)
def test_the_call_is_the_parents(what: str, outcomes: set[str]) -> None:
    """Wherever the fork happens, one process has the lock or the load, and it is the parent."""
    with LocalShards(3) as shards:
        urls = shards.urls.values()
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", PROGRAM, what, *urls],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert set(found) == outcomes
    assert sum(found.values()) > 20 or "load" in what
