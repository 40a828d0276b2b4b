"""The topology in service: swaps that meet each other all take effect, one after the other."""

import threading

import pytest

from shardcache.topology.current import CurrentTopology
from shardcache.topology.nodes import members
from shardcache.topology.snapshot import Topology

THREADS, SWAPS = 4, 60


def following(names: str, former: Topology | None = None) -> Topology:
    return Topology.of(members({name: f"redis://h-{name}" for name in names}), "ring", former)


@pytest.fixture
def current() -> CurrentTopology:
    return CurrentTopology(following("ab"))


def test_swap_returns_both(current) -> None:
    """A swap returns the former topology and the new one, which is in service then."""
    first = current.now
    former, new = current.swap(lambda now: following("abc", now))
    assert (former, new, new.version) == (first, current.now, 1)


def test_swap_that_changes_nothing(current) -> None:
    """A maker that returns the former topology leaves it in service."""
    first = current.now
    assert current.swap(lambda now: now) == (first, first)
    assert current.now is first


def test_swap_within_a_swap(current) -> None:
    """A signal handler that swaps while a swap is being made has its way, and the other one too."""
    inner: list[tuple[Topology, Topology]] = []

    def make(now: Topology) -> Topology:
        if not inner:
            inner.append(current.swap(lambda now: following("abx", now)))
        return following("".join(now.number_of) + "y", now)

    former, new = current.swap(make)
    assert inner == [(inner[0][0], former)]
    assert (current.now, new.version, list(new.number_of)) == (new, 2, ["a", "b", "x", "y"])


def test_swaps_of_many_threads(current) -> None:
    """No swap of several threads at once is lost, and no number means two names."""
    pairs: list[tuple[Topology, Topology]] = []
    begin = threading.Barrier(THREADS)

    def work(me: int) -> None:
        begin.wait()
        for at in range(SWAPS):
            names = "ab" + chr(ord("c") + me) * (at % 2)
            pairs.append(current.swap(lambda now, names=names: following(names, now)))

    threads = [threading.Thread(target=work, args=(me,)) for me in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(new.version for _, new in pairs) == list(range(1, THREADS * SWAPS + 1))
    assert all(former.version == new.version - 1 for former, new in pairs)
    assert current.now.version == THREADS * SWAPS
    assert all(new.names == current.now.names[: len(new.names)] for _, new in pairs)
