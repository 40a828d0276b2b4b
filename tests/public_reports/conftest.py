"""Servers, both clients and programs for trials that other projects' bug reports led to."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import redis

from shardcache.embedded import LocalShards


@pytest.fixture(scope="session")
def shards() -> Iterator[LocalShards]:
    """Three servers that no test stops."""
    with LocalShards(3) as servers:
        yield servers


@pytest.fixture
def plain(shards: LocalShards) -> Iterator[dict[str, redis.Redis]]:
    """Plain connections to the servers, by their names."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(redis.Redis.from_url(url))
            for name, url in shards.urls.items()
        }


@pytest.fixture
def program(shards: LocalShards, namespace: str) -> Callable[..., tuple[int, str, str]]:
    """Run a Python program against the servers; return its exit code and what it said."""

    def run(text: str, *flags: str, **environment: str) -> tuple[int, str, str]:
        head = f"URLS = {dict(shards.urls)!r}\nNAMESPACE = {namespace!r}\n"
        done = subprocess.run(
            [sys.executable, *flags, "-c", head + text],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PATH": "/usr/bin:/bin", **environment},
        )
        return done.returncode, done.stdout, done.stderr

    return run
