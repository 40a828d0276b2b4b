"""Loads on a real cluster: one load in the fleet, also while the key's slot moves."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shardcache import LoadPolicy
from shardcache.embedded import LocalCluster
from shardcache.flows.lock.slot_voters import load_voter_slots
from shardcache.topology.slots import slot_of

# None of this is about time: a busy machine may take long to move a slot.
PATIENT = LoadPolicy(lock_ttl=60, wait=60)


class Loader:
    """Counts its calls, and takes as long as it is told."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls: list[Any] = []
        self.seconds = seconds
        self.begun = threading.Event()

    def __call__(self, keys: Any = None) -> Any:
        self.calls.append(keys)
        self.begun.set()
        time.sleep(self.seconds)
        return "loaded" if keys is None else dict.fromkeys(keys, "loaded")


def another(cluster: LocalCluster, slot: int) -> Any:
    """Return a master that does not have the slot."""
    owner = cluster.owner(slot)
    return next(one for one in cluster.masters if one is not owner)


@pytest.fixture
def fleet(make) -> list[Any]:
    """Four clients, each as a process of its own would have it."""
    clients = [make() for _ in range(4)]
    for cache in clients:
        cache.contains("any")
    return clients


def each(fleet: list[Any], call: Callable[[Any], Any]) -> list[Any]:
    """Let all clients call at once."""
    with ThreadPoolExecutor(len(fleet)) as pool:
        return list(pool.map(call, fleet))


def test_one_loads_for_all(fleet) -> None:
    """Of four processes that miss one loads; the others get its value."""
    loader = Loader(0.3)
    assert (
        each(fleet, lambda cache: cache.get_or_set("k", loader, policy=PATIENT)) == ["loaded"] * 4
    )
    assert loader.calls == [None]
    assert fleet[0].get("k") == "loaded"


def test_many_are_loaded_once(fleet) -> None:
    """Each of a hundred keys in many slots is loaded once."""
    loader = Loader(0.3)
    keys = [f"key:{number}" for number in range(100)]
    found = each(fleet, lambda cache: cache.get_or_set_many(keys, loader, policy=PATIENT))
    assert found == [dict.fromkeys(keys, "loaded")] * 4
    assert sorted(key for call in loader.calls for key in call) == sorted(keys)


def test_a_load_ends_where_the_slot_has_moved_to(fleet, cluster, namespace) -> None:
    """The key's slot and a voter's move while it is loaded: it is stored, and loaded once."""
    loader = Loader(2.0)
    wire = f"{namespace}:k".encode()
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(cache.get_or_set, "k", loader, policy=PATIENT) for cache in fleet]
        loader.begun.wait(60)
        for slot in (slot_of(wire), load_voter_slots(wire)[0]):
            cluster.migrate_slot(slot, another(cluster, slot), batch=1)
        assert [call.result(60) for call in calls] == ["loaded"] * 4
    assert fleet[1].get("k") == "loaded"
    assert loader.calls == [None]


def test_a_load_begins_while_the_slot_is_under_way(fleet, cluster, namespace) -> None:
    """In the middle of a move the claim waits until the keys lie together again."""
    loader = Loader(0.2)
    slot = slot_of(f"{namespace}:k".encode())
    steps = cluster.slot_migration(slot, another(cluster, slot), batch=1)
    next(steps)
    next(steps)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(cache.get_or_set, "k", loader, policy=PATIENT) for cache in fleet]
        time.sleep(0.3)  # so that they meet it; nothing depends on it
        for _ in steps:
            pass
        cluster.wait_until_ok(timeout=60)
        assert [call.result(60) for call in calls] == ["loaded"] * 4
    assert loader.calls == [None]
    assert fleet[1].get("k") == "loaded"


def test_what_was_deleted_stays_deleted(fleet, cluster, namespace) -> None:
    """A load that began before a delete is not stored, though the slot moves in between."""
    loader = Loader(1.5)
    slot = slot_of(f"{namespace}:k".encode())
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(fleet[0].get_or_set, "k", loader, policy=PATIENT)
        loader.begun.wait(60)
        cluster.migrate_slot(slot, another(cluster, slot), batch=1)
        fleet[1].delete("k")
        assert call.result(60) == "loaded"
    assert fleet[1].get("k") is None
