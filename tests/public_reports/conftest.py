"""Servers, both clients and programs for trials that other projects' bug reports led to."""

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from shardcache import ShardCache
from shardcache.embedded import LocalShards

PATIENCE = 20.0  # seconds: the deadline of calls that are not about time


@pytest.fixture(scope="session")
def shards() -> Iterator[LocalShards]:
    """Three servers that no test stops."""
    with LocalShards(3) as servers:
        yield servers


@pytest.fixture
def is_async(colour: Any) -> bool:
    """Whether the colour under test is the asyncio one."""
    return colour is not ShardCache


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test has."""
    return uuid.uuid4().hex


@pytest.fixture
def cache(make: Callable[..., Any]) -> Any:
    """A client with a namespace of its own."""
    return make()


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
