"""Servers behind fault proxies, and values that say which key they belong to."""

import os
import random
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from shardcache import Options
from shardcache.embedded import LocalShards
from shardcache.testing import (
    Corrupt,
    Drop,
    Duplicate,
    Fault,
    FaultProxy,
    Replay,
    random_fault,
)
from tests.background import beside

# The number of faulty calls of a test is multiplied by this. `tox -e faults` raises it, for the
# figure in docs/guarantees.md.
SCALE = int(os.environ.get("SHARDCACHE_FAULT_SCALE", "1"))

# TCP delivers every byte, once, and as it was.
BROKEN = (Corrupt, Drop, Duplicate, Replay)
# Nothing is kept away from: every call meets its fault.
NO_BREAKER = Options(max_out=0)
# For faults that TCP itself excludes: bytes that a broken proxy sends twice.
MARKED = Options(max_out=0, echo_check=True)


def value_of(key: str) -> str:
    """Return the only right value of ``key``: it has the key in it, and a middle of its own."""
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
        """Check a call after one under a fault, whose connection it may get; it does not count."""
        self.check(key, got)
        self.calls -= 1

    def check_many(self, keys: list[str], got: dict[str, object]) -> None:
        """Every hit of a batch must be right, and be one that was asked for."""
        self.calls += 1
        self.wrong += [
            (key, value) for key, value in got.items() if key not in keys or value != value_of(key)
        ]


@contextmanager
def trouble(
    proxies: Collection[FaultProxy],
    rng: random.Random,
    pause: float,
    may: Callable[[Fault], bool],
    act: Callable[[random.Random], object] = lambda _: None,
) -> Iterator[None]:
    """Break connections at random, from another thread, while the block runs.

    ``pause``: seconds between two faults.
    ``may``: whether a fault may be used.
    ``act``: what else is done before each.
    """

    def strike(stop: threading.Event) -> None:
        while not stop.wait(pause):
            act(rng)
            proxy = rng.choice(list(proxies))
            fault = random_fault(rng, 400, seconds=0.002)
            if may(fault):
                proxy.arm(fault)
            if rng.random() < 0.05:
                proxy.kill(reset=rng.random() < 0.5)
            if rng.random() < 0.5:
                proxy.clear()

    with beside(strike):
        yield


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
