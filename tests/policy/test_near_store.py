"""The table of near values: what is served, and what no longer is."""

import random
import sys
import threading
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache import NearCache
from shardcache.policy.hot_keys import HALF_LIFE, HotKeyCounter
from shardcache.policy.near_store import Life, NearStore
from shardcache.topology.current import CurrentTopology
from shardcache.topology.nodes import members
from shardcache.topology.snapshot import Topology

KEYS = [b"a", b"b", b"c"]


class World:
    """A store with a clock of its own, and one shard that is tracked."""

    def __init__(self, **settings: Any) -> None:
        self.now = 100.0
        self.current = CurrentTopology(Topology.of(members(["redis://h"]), "ring"))
        self.store = NearStore(NearCache(**settings), self.current, lambda: self.now)
        self.life: Life | None = Life(0, self.current.now, inf)
        self.store.life_of = lambda _: self.life

    def begin(self, key: str | bytes) -> Any:
        """Make the place for the value of a key."""
        wire = key.encode() if isinstance(key, str) else key
        return self.store.begin(key, wire, 0, self.current.now)

    def read(self, key: bytes, raw: bytes | None, pttl: int = -1) -> None:
        """Read a key of the server, from beginning to end."""
        self.store.keep(self.begin(key), key, [raw, pttl])

    def served(self, key: bytes) -> bytes | None:
        """Return what is in memory."""
        entry = self.store.find(key)
        return None if entry is None else entry.raw


def test_invalidation_that_passes_the_reply_wins() -> None:
    """A reply that comes after the invalidation of its key is not stored."""
    world = World()
    entry = world.begin("a")
    world.store.drop([b"a"])
    assert world.store.fill(entry, b"a", [b"old", -1]) == b"old"
    assert (world.served(b"a"), world.store.stats().bytes) == (None, 0)


def test_lost_connection_drops_its_part() -> None:
    """What was read in a life that is over is not served; a new life begins empty."""
    world = World()
    world.read(b"a", b"1")
    pending = world.begin("b")
    world.store.end(world.life, "h")
    world.life = Life(0, world.current.now, inf)
    world.store.fill(pending, b"b", [b"old", -1])
    assert [world.served(key) for key in KEYS] == [None] * 3
    world.read(b"a", b"2")
    assert (world.served(b"a"), world.store.stats().flushes) == (b"2", {"h": 1})


def test_nothing_is_stored_without_a_life() -> None:
    """As long as the server does not track, reads leave nothing behind."""
    world = World()
    world.life = None
    assert world.begin("a") is None


def test_other_topology() -> None:
    """Once other nodes are in service, nothing that was read before is served."""
    world = World()
    world.read(b"a", b"1")
    world.current.swap(
        lambda former: Topology.of(members(["redis://h", "redis://i"]), "ring", former)
    )
    assert world.served(b"a") is None


@pytest.mark.parametrize(("pttl", "lasts"), [(-1, 60), (5000, 5), (90_000, 60)])
def test_ttl(pttl: int, lasts: int) -> None:
    """The ttl here and that of the server both bound it; `look` tells what the server would."""
    world = World(ttl=60)
    world.read(b"a", b"1", pttl)
    world.now += lasts - 1
    left = -1 if pttl < 0 else pttl - (lasts - 1) * 1000
    assert (world.served(b"a"), world.store.look(b"a")) == (b"1", [b"1", left])
    world.now += 1
    assert (world.served(b"a"), world.store.look(b"a")) == (None, None)


def test_absent_and_failed_leave_nothing() -> None:
    """A key that is not there takes no place."""
    world = World()
    world.read(b"a", None, -2)
    assert (world.store.stats().items, world.store.stats().misses) == (0, 1)


def test_used_entries_stay() -> None:
    """The one that was used since it was looked at last is evicted last."""
    world = World(max_items=2)
    world.read(b"a", b"1")
    world.read(b"b", b"2")
    world.store.find(b"a")
    world.read(b"c", b"3")
    assert [world.served(key) for key in KEYS] == [b"1", None, b"3"]


def test_dropped_values_are_freed() -> None:
    """A value that is dropped takes no memory, although its key is in the queue."""
    world, raw = World(), bytes(1000)
    before = sys.getrefcount(raw)
    world.read(b"a", raw)
    assert sys.getrefcount(raw) > before
    world.store.drop([b"a"])
    assert (sys.getrefcount(raw), world.store.stats().bytes) == (before, 0)


def test_only_hot_keys_are_kept() -> None:
    """With a counter of reads, what is not hot is not kept; what has cooled is dropped."""
    world = World()
    counter = HotKeyCounter(10, 0.5, 1, lambda: world.now, random.random)
    counter.cooled = world.store.drop
    world.store.hot_keys = counter
    world.read(b"a", b"1")
    assert world.store.stats().items == 0
    counter.read_many([b"a"] * 20)
    list(counter.estimates())
    assert world.store.begin_many(["b"], [b"b"], world.current.now) == ({}, {})
    world.read(b"a", b"1")
    world.read(b"b", b"2")
    assert [world.served(key) for key in KEYS] == [b"1", None, None]
    world.now += 10 * HALF_LIFE
    list(counter.estimates())
    assert world.store.stats().items == 0


def test_bytes_are_bounded() -> None:
    """What does not fit evicts what was read first."""
    world = World(max_bytes=5000)
    for number in range(100):
        world.read(b"%d" % number, bytes(500))
    assert world.store.stats().bytes <= 5000
    assert [world.served(b"99"), world.served(b"0")] == [bytes(500), None]


def test_value_larger_than_memory() -> None:
    """It is not kept, and nothing else has to go for it."""
    world = World(max_bytes=4096)
    world.read(b"a", b"1")
    world.read(b"b", b"x" * 4096)
    assert (world.served(b"a"), world.served(b"b")) == (b"1", None)


def test_interrupted_work_takes_no_room_for_good() -> None:
    """Bytes that nobody counts any more, since a signal handler broke that off, are noticed."""
    world = World(max_bytes=2000)
    world.store._bytes = 5000
    for key in (b"a", b"b"):
        world.read(key, b"1")
    assert world.served(b"b") == b"1"


def test_key_in_two_forms_counts_once() -> None:
    """The bytes of a value that one call reads twice are counted once."""
    world = World()
    entry = world.begin("a")
    for _ in range(2):
        world.store.keep(entry, b"a", [b"1", -1])
    world.store.drop([b"a"])
    assert world.store.stats().bytes == 0


def test_no_sign_of_life() -> None:
    """Nothing is served past the time up to which invalidations are known to arrive."""
    world = World()
    world.life = Life(0, world.current.now, 105.0)
    world.read(b"a", b"1")
    world.now = 104.9
    assert world.served(b"a") == b"1"
    world.now = 105.0
    assert world.served(b"a") is None
    world.life.until = 107.0
    assert world.served(b"a") == b"1"


def test_shard_of_a_former_topology() -> None:
    """What is read from a shard that a key may just have left is not kept."""
    world = World()
    former = world.current.now
    world.current.swap(lambda _: Topology.of(members(["redis://h", "redis://i"]), "ring", former))
    world.life = Life(0, world.current.now, inf)
    assert world.store.begin("a", b"a", 0, former) is None
    assert world.begin("a") is not None
    world.life = Life(0, former, inf)
    assert world.begin("a") is None


def test_which_keys() -> None:
    """A glob or a function chooses by the caller's key."""
    for keys in ("user:*", lambda key: key.startswith("user:")):
        world = World(keys=keys)
        assert world.begin("user:1")
        assert world.begin(b"user:1")
        assert world.begin("page:1") is None


STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "send", "reply", "hear", "lose"]), st.sampled_from(KEYS)),
    max_size=60,
)


@given(STEPS)
def test_never_older_than_what_was_heard(steps: list[tuple[str, bytes]]) -> None:
    """Whatever comes in whatever order: nothing is older than the last invalidation that arrived.

    A read sees the server's value when it is sent; its reply, and each invalidation in order, come
    later. A lost connection loses the invalidations under way.
    """
    world = World(max_items=2)
    server = dict.fromkeys(KEYS, 0)
    heard = dict(server)
    sent: list[tuple[bytes, Any, int]] = []
    under_way: list[tuple[bytes, int]] = []
    for step, key in steps:
        if step == "write":
            server[key] += 1
            under_way.append((key, server[key]))
        elif step == "send":
            sent.append((key, world.begin(key), server[key]))
        elif step == "reply" and sent:
            wire, entry, value = sent.pop(0)
            world.store.keep(entry, wire, [b"%d" % value, -1])
        elif step == "hear" and under_way:
            wire, heard[wire] = under_way.pop(0)
            world.store.drop([wire])
        elif step == "lose":
            world.store.end(world.life, "h")
            under_way.clear()
            heard = dict(server)
            world.life = Life(0, world.current.now, inf)
        for one in KEYS:
            found = world.served(one)
            assert found is None or int(found) >= heard[one]
    for one in KEYS:
        world.store.drop([one])
    assert (world.store.stats().bytes, world.store.stats().items) == (0, 0)


def test_bytes_are_counted_right_by_threads() -> None:
    """Whatever threads do to the same keys at once, no bytes are counted for ever."""
    world = World(max_items=20)
    interval = sys.getswitchinterval()

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(2000):
            key = b"%d" % rng.randrange(40)
            world.read(key, bytes(rng.randrange(100)))
            if rng.random() < 0.5:
                world.store.drop([b"%d" % rng.randrange(40)])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    # Two more than fit: all that came before leaves the queue.
    for number in range(3 * 20 + 18):
        world.read(b"last-%d" % number, b"x")
    assert world.store.stats().items == 20
    world.store.drop(None)
    assert world.store.stats().bytes == 0
