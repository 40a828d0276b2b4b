"""Locks on a real cluster: their voters are slots, which move, and are asked where they are."""

import sys
import threading
from typing import Any

import pytest

from shardcache import QuorumLock, ShardCache
from shardcache.cli import main
from shardcache.embedded import LocalCluster
from shardcache.errors import InvalidArgument, InvalidOption
from shardcache.flows.lock.slot_voters import voter_slots
from shardcache.locks.list_locks import held_locks
from shardcache.locks.voter_nodes import change_voters, voter_nodes
from tests.waiting import until


def slots_of_lock(namespace: str, name: str) -> tuple[int, ...]:
    return voter_slots(f"{namespace}:{name}".encode())


def another(cluster: LocalCluster, slot: int) -> Any:
    """Return a master that does not have the slot."""
    owner = cluster.owner(slot)
    return next(one for one in cluster.masters if one is not owner)


def test_one_has_it_at_a_time(make, namespace) -> None:
    """Taken, refused to others, extended, given back; tokens grow; five slots vote."""
    first, second = make(), make()
    lock, other = first.lock("report", ttl=30), second.lock("report", ttl=30)
    assert lock.acquire()
    token = lock.fencing_token
    assert not other.acquire(blocking=False)
    assert lock.extend(60)
    assert lock.remaining() > 30
    assert list(lock.voters) == [f"slot-{slot}" for slot in slots_of_lock(namespace, "report")]
    assert lock.owner().remaining > 30
    lock.release()
    assert other.acquire(blocking=False)
    assert other.fencing_token > token
    other.release()
    assert not lock.locked()


def test_a_release_wakes_who_waits(make) -> None:
    """A client that waits gets the lock with the release of another one."""
    lock, other = make().lock("report", ttl=300), make().lock("report", ttl=300)
    lock.acquire()
    got = threading.Thread(target=lambda: other.acquire(timeout=60))
    got.start()
    until(got.is_alive)
    lock.release()
    got.join(60)
    assert not got.is_alive()
    assert other.held
    other.release()


def test_a_lock_is_kept_while_its_slots_move(make, cluster, namespace) -> None:
    """Held with renewal while each voter's slot moves; nobody else gets it; then it is free."""
    lock = make().lock("report", ttl=2, auto_renew=True)
    other = make().lock("report", ttl=2)
    lock.acquire()
    for slot in slots_of_lock(namespace, "report"):
        for _ in cluster.slot_migration(slot, another(cluster, slot), batch=1):
            assert not other.acquire(blocking=False)
        cluster.wait_until_ok(timeout=60)
    lock.ensure_held()
    token = lock.fencing_token
    lock.release()
    assert other.acquire(timeout=60)
    assert other.fencing_token > token
    other.release()


def test_clients_with_an_old_map_ask_the_same(make, cluster, namespace) -> None:
    """Two clients know where the slots were; they move; both ask where they are now."""
    first, second = make(), make()
    for cache in (first, second):  # both have a map
        with cache.lock("other", ttl=30):
            pass
    for slot in slots_of_lock(namespace, "report"):
        cluster.migrate_slot(slot, another(cluster, slot))
    lock, other = first.lock("report", ttl=30), second.lock("report", ttl=30)
    assert lock.acquire(timeout=60)
    assert not other.acquire(blocking=False)
    lock.release()
    assert other.acquire(timeout=60)
    other.release()


@pytest.mark.parametrize("slots", [2, pytest.param(5, marks=pytest.mark.long)])
def test_slots_under_way_have_no_vote(make, cluster, namespace, slots) -> None:
    """With two of five slots in the middle of a move the lock works; with all it waits."""
    cache = make()
    with cache.lock("report", ttl=30):  # the voters are known
        pass
    moves = []
    for slot in slots_of_lock(namespace, "report")[:slots]:
        steps = cluster.slot_migration(slot, another(cluster, slot))
        next(steps)
        next(steps)
        moves.append(steps)
    # Where all slots move, what an attempt has left behind may stay for its ttl.
    lock = cache.lock("report", ttl=30 if slots == 2 else 3)
    took = lock.acquire(timeout=60) if slots == 2 else None
    if took is None:
        got = threading.Thread(target=lambda: lock.acquire(timeout=60))
        got.start()
    # One by one: of moves at the same time two new owners may take the same epoch, and then a third
    # node may see the former owner for good.
    for steps in moves:
        for _ in steps:
            pass
        cluster.wait_until_ok(timeout=60)
    if took is None:
        got.join(60)
    assert lock.held
    lock.release()


def test_a_failed_over_voter_waits(colour, program, namespace) -> None:
    """A replica takes over while the lock is held: it stays held, and then others get it."""
    with (
        LocalCluster(3, replicas=1, binary=program) as cluster,
        colour(cluster.url, namespace=namespace, timeout=20.0) as cache,
    ):
        lock, other = cache.lock("report", ttl=5, auto_renew=True), cache.lock("report", ttl=5)
        assert lock.acquire(timeout=60)
        slot = slots_of_lock(namespace, "report")[2]  # the only voter of its master
        master = cluster.owner(slot)
        [replica] = cluster.replicas_of(master)
        master.kill()
        cluster.fail_over(replica, force=True)
        assert not other.acquire(blocking=False)
        lock.ensure_held()
        token = lock.fencing_token
        lock.release()
        assert other.acquire(timeout=60)
        assert other.fencing_token > token
        other.release()


def test_locks_are_listed(cluster, namespace) -> None:
    """`lock ls` finds a lock once, with the slots that have its key."""
    with ShardCache(cluster.url, namespace=namespace, timeout=20.0) as cache:
        names = ["report", "{tag}x", "a}b"]
        locks = [cache.lock(name, ttl=30) for name in names]
        for lock in locks:
            lock.acquire()
        found, errors = held_locks(cache)
        assert errors == []
        assert sorted(one.name for one in found) == sorted(names)
        for one in found:
            assert (one.held, one.of, len(one.voters)) == (True, 5, 5)
            assert all(name.startswith("slot-") for name in one.voters)
        for lock in locks:
            assert lock.force_release() == 5


def test_voters_cannot_be_chosen(make) -> None:
    """Voters are slots for ever: naming or changing them is an error that says so."""
    cache = make()
    with pytest.raises(InvalidOption, match="slots"):
        cache.lock("report", voters=["a"])
    kind = getattr(cache, "_target", cache)
    for function in (voter_nodes, change_voters):
        with pytest.raises(InvalidArgument, match="slots vote"):
            function(kind)


def test_a_lock_of_a_client(cluster, namespace) -> None:
    """A lock that is made by itself shares the connections of a cluster's client."""
    with (
        ShardCache(cluster.url, namespace=namespace, timeout=20.0) as cache,
        QuorumLock("printer", ttl=30, nodes=cache) as lock,
    ):
        assert lock.held
        assert len(lock.voters) == 5


def test_the_command_line(cluster, namespace, capsys) -> None:
    """`lock run`, `ls`, `show` and `break` work; `voters` says that there is nothing to change."""
    url = f"{cluster.url}?namespace={namespace}&timeout=20"
    run = ["lock", "run", "job", "--url", url, "--ttl", "30", "--"]
    assert main([*run, sys.executable, "-c", "pass"]) == 0
    with ShardCache.from_url(url) as cache:
        cache.lock("job", ttl=60).acquire()
        assert main([*run, sys.executable, "-c", "pass"]) == 75
        assert main(["lock", "ls", "--url", url]) == 0
        assert "5 of 5" in capsys.readouterr().out
        assert main(["lock", "show", "job", "--url", url]) == 0
        assert "slot-" in capsys.readouterr().out
        assert main(["lock", "break", "job", "--yes", "--url", url]) == 0
        assert not cache.lock("job").locked()
    assert main(["lock", "voters", "--url", url]) != 0
    assert "slots vote" in capsys.readouterr().err
