"""Many values that are read and kept near: what is asked, and what is kept of it."""

from collections.abc import Iterable
from math import inf
from typing import Any

from shardcache import NearCache
from shardcache.errors import ShardUnavailable
from shardcache.flows.near_reads import fetch_kept
from shardcache.flows.steps import Batch, Outcome
from shardcache.policy.near_store import Life, NearStore
from shardcache.topology.current import CurrentTopology
from shardcache.topology.nodes import members
from shardcache.topology.snapshot import Topology

KEYS = ["a", "b", "c"]
WIRES = [b"a", b"b", b"c"]


class Reading:
    """A call for many keys that is under way over one shard.

    ``unheard``: whether nothing tells of invalidations.
    """

    def __init__(self, *, unheard: bool = False, **settings: Any) -> None:
        self.current = CurrentTopology(Topology.of(members(["redis://h"]), "ring"))
        self.near = NearStore(NearCache(**settings), self.current, lambda: 0.0)
        life = None if unheard else Life(0, self.current.now, inf)
        self.near.life_of = lambda _: life
        self._flow = fetch_kept(KEYS, self.near, self.current.now, WIRES, lambda shard: shard)
        step: Any = next(self._flow)
        self.batch: Batch = step.batches[0]

    def answer(self, outcome: Outcome) -> list[Any]:
        """Return what the call returns for this outcome."""
        try:
            self._flow.send([outcome])
        except StopIteration as end:
            return list(end.value)
        raise AssertionError

    def kept(self) -> Iterable[bytes]:
        """Return the keys of which the value is in memory."""
        return [wire for wire in WIRES if self.near.find(wire) is not None]


def test_time_left_is_asked_for() -> None:
    """Behind the values stand the times of all keys; absent values and dead ones are not kept."""
    reading = Reading()
    assert reading.batch.commands == [(b"MGET", *WIRES), *[(b"PTTL", wire) for wire in WIRES]]
    assert reading.batch.validate is not None
    assert reading.batch.validate([[b"1", None, b"3"], 5000, -2, -1])
    assert not reading.batch.validate([[b"1", None, b"3"], 5000, b"-2", -1])
    assert reading.answer([[b"1", None, b"3"], 5000, -2, 0]) == [b"1", None, b"3"]
    assert reading.kept() == [b"a"]
    assert reading.near.look(b"a") == [b"1", 5000]


def test_invalidation_that_passes_wins() -> None:
    """What was written while the reply was under way is not kept."""
    reading = Reading()
    reading.near.drop([b"b"])
    assert reading.answer([[b"1", b"2", b"3"], -1, -1, -1]) == [b"1", b"2", b"3"]
    assert reading.kept() == [b"a", b"c"]


def test_only_what_is_wanted_is_timed() -> None:
    """A key that is not to be kept costs nothing, nor does any before the shard is heard."""
    assert Reading(keys="b").batch.commands == [(b"MGET", *WIRES), (b"PTTL", b"b")]
    assert Reading(unheard=True).batch.commands == [(b"MGET", *WIRES)]


def test_failure_leaves_nothing() -> None:
    """A shard that does not answer leaves no places behind."""
    reading, error = Reading(), ShardUnavailable("h", "gone")
    assert reading.answer(error) == [error] * 3
    assert reading.near.stats().items == 0
