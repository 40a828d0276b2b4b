"""Servers behind fault proxies, and values that say which key they belong to."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from shardcache import Options
from shardcache.embedded import LocalShards
from shardcache.testing import FaultProxy

# The faulty calls of a test are multiplied by this: `tox -e faults` raises it for the figure in docs/guarantees.md.
SCALE = int(os.environ.get("SHARDCACHE_FAULT_SCALE", "1"))

# Nothing is kept away from: every call meets its fault.
NO_BREAKER = Options(max_out=0)
# For faults that TCP itself excludes: bytes that a broken proxy sends twice.
MARKED = Options(max_out=0, echo_check=True)


def value_of(key: str) -> str:
    """Return the only right value of ``key``: it carries the key, and no two have a common middle."""
    return f"<{key}|" + "".join(f"{key}.{i};" for i in range(8)) + f"|{key}>"


class Count:
    """Calls made under a fault, and how many of them told a lie."""

    def __init__(self) -> None:
        self.calls = 0
        self.wrong: list[tuple[str, object]] = []

    def check(self, key: str, got: object) -> None:
        """A right answer is the value or nothing."""
        self.calls += 1
        if got is not None and got != value_of(key):
            self.wrong.append((key, got))

    def check_next(self, key: str, got: object) -> None:
        """Check a call that follows one under a fault, and may inherit its connection; it does not count itself."""
        self.check(key, got)
        self.calls -= 1

    def check_many(self, keys: list[str], got: dict[str, object]) -> None:
        """Every hit of a batch must be right, and be one that was asked for."""
        self.calls += 1
        self.wrong += [
            (key, value) for key, value in got.items() if key not in keys or value != value_of(key)
        ]


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalShards]:
    """Three servers of this module."""
    with LocalShards(3) as shards:
        yield shards


@pytest.fixture
def proxies(servers: LocalShards) -> Iterator[dict[str, FaultProxy]]:
    """A proxy in front of each server, by the server's name."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(FaultProxy(url)) for name, url in servers.urls.items()}


TOTAL = Count()


@pytest.fixture
def count() -> Iterator[Count]:
    """A fresh count, added to the total of the run."""
    mine = Count()
    yield mine
    TOTAL.calls += mine.calls
    TOTAL.wrong += mine.wrong


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker of a parallel run: send the count home."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["faults"] = (TOTAL.calls, [key for key, _ in TOTAL.wrong])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add up what the workers sent."""
    calls, wrong = getattr(node, "workeroutput", {}).get("faults", (0, []))
    TOTAL.calls += calls
    TOTAL.wrong += [(key, None) for key in wrong]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many calls met a fault, and how many of them told a lie."""
    if TOTAL.calls:
        terminalreporter.write_line(
            f"{TOTAL.calls} calls under faults, {len(TOTAL.wrong)} wrong answers"
        )
