"""The counter of reads: what it samples, and how keys become hot and cool."""

import random
import threading
from typing import Any

import pytest

from shardcache.policy.hot_keys import HALF_LIFE, HotKeyCounter


class World:
    """A counter with a clock of its own."""

    def __init__(self, capacity: int = 100, share: float = 0.0, sample: int = 1) -> None:
        self.now = 1000.0
        chance = random.Random(1)
        self.counter = HotKeyCounter(capacity, share, sample, lambda: self.now, chance.random)

    def read(self, key: bytes, times: int) -> None:
        """Read a key so often."""
        for _ in range(times):
            self.counter.read(key)

    def counts(self) -> dict[bytes, int]:
        """Return how often each key was read."""
        return {key: round(reads.upper) for key, reads, _, _ in self.counter.estimates()}

    def hot(self) -> frozenset[bytes]:
        """Count all reads; return the keys that are hot."""
        list(self.counter.estimates())
        return self.counter.hot

    def rates(self) -> dict[bytes, float]:
        """Return how often each key is read in a second."""
        return {key: rate for key, _, rate, _ in self.counter.estimates()}


def test_all_reads_count_without_sampling() -> None:
    """With a sample of one in one the counts are exact, and the hottest key comes first."""
    world = World()
    world.read(b"a", 3)
    world.read(b"b", 100)
    world.counter.read_many([b"a", b"c"])
    assert list(world.counts().items()) == [(b"b", 100), (b"a", 4), (b"c", 1)]
    assert [share for *_, share in world.counter.estimates()] == [100 / 105, 4 / 105, 1 / 105]


@pytest.mark.parametrize("many", [False, True])
def test_sample(many: bool) -> None:
    """One read in 16 is counted, and stands for 16, also where keys are read in a fixed order."""
    world = World(sample=16)
    page = [b"%d" % number for number in range(16)]
    for _ in range(5000):
        if many:
            world.counter.read_many(page)
        else:
            for key in page:
                world.counter.read(key)
    counts = world.counts()
    assert sorted(counts) == sorted(page)
    assert all(abs(times - 5000) < 1200 for times in counts.values())


def test_keys_cool() -> None:
    """A read counts half after a half-life; a key that nobody reads is gone in the end."""
    world = World()
    world.read(b"a", 64)
    world.now += HALF_LIFE
    assert world.counts() == {b"a": 32}
    assert world.counts() == {b"a": 32}
    world.read(b"b", 40)
    assert list(world.counts().items()) == [(b"b", 40), (b"a", 32)]
    world.now += 1e9
    assert world.counts() == {}


@pytest.mark.parametrize("seconds", [10, 600])
def test_rate(seconds: int) -> None:
    """What is read five times a second has this rate, from the beginning and later."""
    world = World()
    for _ in range(seconds):
        world.now += 1
        world.read(b"a", 5)
    assert world.rates()[b"a"] == pytest.approx(5, rel=0.1)


def test_hot_and_cool() -> None:
    """A key is hot from its share on, and until it has less than half of that."""
    world = World(share=0.5)
    cooled: list[list[bytes]] = []
    world.counter.cooled = cooled.append
    world.read(b"a", 7)
    assert not world.hot()  # too few to say so
    world.read(b"a", 13)
    assert world.hot() == {b"a"}
    world.read(b"b", 50)
    assert world.hot() == {b"a", b"b"}
    world.read(b"b", 50)
    assert world.hot() == {b"b"}
    assert cooled == [[b"a"]]
    world.now += 10 * HALF_LIFE
    assert world.hot() == frozenset()
    assert cooled == [[b"a"], [b"b"]]


def test_fork() -> None:
    """A forked child begins anew."""
    world = World(share=0.1)
    world.read(b"a", 100)
    assert world.hot()
    world.counter.after_fork()
    assert (world.counts(), world.hot()) == ({}, frozenset())


def test_read_in_the_middle_of_counting() -> None:
    """A read by a signal handler, in the middle of it all, waits for nothing and breaks nothing."""
    world = World(capacity=4, share=0.1)
    inner = 0

    def handler() -> float:
        nonlocal inner
        if inner < 200:
            inner += 1
            world.counter.read(b"inner")
        return world.now

    world.counter._clock = handler
    world.read(b"outer", 200)
    world.counter._clock = lambda: world.now
    counts = world.counts()
    assert counts.keys() <= {b"inner", b"outer"}
    assert all(0 < times <= 200 for times in counts.values())


def test_threads() -> None:
    """Threads that read at once break nothing, and lose a few reads at most."""
    world = World(capacity=16)
    threads = [
        threading.Thread(target=lambda key=b"%d" % number: world.read(key, 5000))  # type: ignore[misc]
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = world.counts()
    assert len(counts) == 4
    assert all(0 < times <= 5000 for times in counts.values())


def test_read_of_many_in_the_middle_of_a_sample() -> None:
    """Another thread, or a signal handler, may read while a sample is taken."""

    def chance() -> float:
        if reads:
            reads.pop()([])
        return 0.0

    reads: list[Any] = []
    counter = HotKeyCounter(10, 0.0, 1, lambda: 1000.0, chance)
    reads.append(counter.read_many)
    counter.read(b"a")
    assert [(key, round(reads.upper)) for key, reads, _, _ in counter.estimates()] == [(b"a", 1)]
