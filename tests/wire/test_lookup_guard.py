"""A fork waits for a look-up that has just begun, and not for one that hangs."""

import os
import socket
import threading
import time

import pytest

from shardcache.wire import endpoint, lookup_guard
from shardcache.wire.lookup_guard import BEGINS, STEP, LookupGuard, wait_for_beginnings

LONG = 20.0


class Clock:
    """Time passes only while somebody sleeps. ``at``: what is done after how many sleeps."""

    def __init__(self, at=None) -> None:
        self.now = 1000.0
        self.slept = 0
        self._at = at or {}

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += 1
        self._at.get(self.slept, lambda: None)()


def test_nothing_under_way() -> None:
    """A fork costs nothing then."""
    clock = Clock()
    with LookupGuard(clock):
        pass
    wait_for_beginnings(clock, clock.sleep)
    assert clock.slept == 0


def test_a_look_up_that_ends() -> None:
    """It is waited for, and no longer."""
    guard = LookupGuard(clock := Clock({3: lambda: guard.__exit__(None, None, None)}))
    guard.__enter__()
    wait_for_beginnings(clock, clock.sleep)
    assert clock.slept == 3


def test_a_look_up_that_hangs() -> None:
    """It is past the moments in which it holds locks, so it does not hold up the fork."""
    clock = Clock()
    with LookupGuard(clock):
        wait_for_beginnings(clock, clock.sleep)
        assert clock.slept == pytest.approx(BEGINS / STEP, abs=2)
        before = clock.slept
        wait_for_beginnings(clock, clock.sleep)
        assert clock.slept == before


def test_look_ups_without_end() -> None:
    """As many as there may be, the fork comes."""
    guards = []

    def another() -> None:
        guards.append(LookupGuard(clock))
        guards[-1].__enter__()

    clock = Clock(dict.fromkeys(range(1000), another))
    another()
    wait_for_beginnings(clock, clock.sleep)
    for guard in guards:
        guard.__exit__(None, None, None)
    assert clock.slept == pytest.approx(2 * BEGINS / STEP, abs=2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_real_fork(monkeypatch) -> None:
    """The child comes when the look-up has ended."""
    begun, reached = threading.Event(), []

    def look_up(*_arguments: object, **_named: object) -> list[object]:
        begun.set()
        time.sleep(0.05)
        reached.append("end")
        return [(socket.AF_INET, 1, 6, "", ("10.0.0.1", 0))]

    monkeypatch.setattr(lookup_guard, "BEGINS", LONG)
    monkeypatch.setattr(endpoint.socket, "getaddrinfo", look_up)
    thread = threading.Thread(target=endpoint.look_up, args=["name"])
    thread.start()
    assert begun.wait(LONG)
    child = os.fork()
    if not child:
        os._exit(len(reached))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    thread.join(LONG)
