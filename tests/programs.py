"""The server programs that this machine has."""

import shutil
import subprocess
from typing import Any

import pytest

from shardcache.embedded import find_server

__all__ = ("is_before_7", "programs")


def programs() -> list[Any]:
    """Return parameters of tests: the default server program, and Debian's Redis.

    A path is None where the program is not installed; then the test is skipped. The second one is
    for one interpreter.
    """
    found = {"default": find_server(), "redis": shutil.which("redis-server")}
    marks = {"default": [], "redis": [pytest.mark.long]}
    return [
        pytest.param(
            path,
            id=name,
            marks=[*marks[name], pytest.mark.skipif(not path, reason="not installed")],
        )
        for name, path in found.items()
    ]


def is_before_7(program: str) -> bool:
    """Whether a server program is Redis 6, which has no CLUSTER SHARDS and announces no names."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return "Redis server v=6." in said
