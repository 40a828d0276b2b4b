"""What a signal handler raises comes out of the call that it interrupts, whatever its class."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shardcache.embedded import LocalShards

pytestmark = pytest.mark.long


def test_an_exception_of_a_handler_is_no_miss() -> None:
    """An `Exception` is not taken for broken input, nor for a damaged value (G6)."""
    program = Path(__file__).with_name("raising_program.py")
    with LocalShards(1) as servers:
        done = subprocess.run(
            [sys.executable, program, "2", *servers.urls.values()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    found = json.loads(done.stdout)
    assert found["raised"] > 0
    assert found["swallowed"] == 0
