"""Who holds a lock, and taking it away; names, namespaces and voters; locks without a client."""

import time

import pytest

from shardcache import Options
from shardcache.errors import ClientClosed, LockLost
from shardcache.flows.lock import membership
from tests.waiting import until


def test_owner(cache, plain) -> None:
    """The operator sees who holds the lock, since when, where, and for how long still."""
    lock = cache.lock("l", 30, label="nightly report")
    assert (lock.owner(), lock.locked()) == (None, False)
    before = time.time()
    lock.acquire()
    until(lambda: len(plain.having(lock)) == 5)
    seen = cache.lock("l").owner()
    assert (seen.label, list(seen.voters), dict(seen.out), seen.fence) == (
        "nightly report",
        list(lock.voters),
        {},
        lock.fencing_token,
    )
    assert before - 0.01 <= seen.since <= time.time()
    assert 0 < seen.remaining <= 30
    assert all(0 < left <= 30 for left in seen.voters.values())
    assert cache.lock("l").locked() is True


def test_default_label(cache) -> None:
    """Unless told otherwise, a holder says host, process and thread."""
    import os
    import socket

    lock = cache.lock("l", 30)
    lock.acquire()
    assert lock.owner().label.startswith(f"{socket.gethostname()}:{os.getpid()}:")


def test_foreign_holder(cache, plain) -> None:
    """A key that somebody else has written is a holder without a time."""
    lock = cache.lock("l", 30)
    for name in lock.voters:
        plain[name].set(lock._holder.plan.keys.lock, b"\xff not ours")
    seen = lock.owner()
    assert (seen.label, seen.since, seen.remaining, seen.fence) == (
        "\\xff not ours",
        None,
        float("inf"),
        0,
    )
    assert lock.acquire(blocking=False) is False


def test_minority_is_no_owner(cache, plain) -> None:
    """Keys on fewer than a majority are nobody's lock."""
    lock = cache.lock("l", 30)
    for name in lock.voters[:2]:
        plain[name].set(lock._holder.plan.keys.lock, b"x", px=30_000)
    assert (lock.owner(), lock.locked()) == (None, False)


def test_force_release(cache, plain) -> None:
    """The operator breaks the lock; the holder learns of it, and the next token is higher."""
    lock = cache.lock("l", 30)
    lock.acquire()
    fence = lock.fencing_token
    assert cache.lock("l").force_release() in (3, 4, 5)
    assert cache.lock("l").force_release() in (0, 1, 2)
    with pytest.raises(LockLost):
        lock.extend()
    other = cache.lock("l", 30)
    assert other.acquire(timeout=20) is True
    assert other.fencing_token > fence


NAMES = [
    "plain",
    "{tag}rest",
    "a{b}c",
    "{}",
    "}{",
    "with space",
    "ü",
    b"\xff\x00\n",
    "a::b",
    ":",
    "{a}{b}",
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_names(cache, plain, name) -> None:
    """Any key can name a lock: bytes, braces and all."""
    with cache.lock(name, 30) as lock:
        assert cache.lock(name).acquire(blocking=False) is False
        assert cache.lock(name).owner().fence == lock.fencing_token
        assert len(set(lock._holder.plan.keys)) == 4


def test_text_and_bytes_are_one_name(cache) -> None:
    """A name is its bytes."""
    with cache.lock("ü", 30):
        assert cache.lock("ü".encode()).acquire(blocking=False) is False


def test_namespaces(make, namespace) -> None:
    """A lock lives in its client's namespace."""
    here, there = make(), make(namespace=f"{namespace}-2")
    with here.lock("l", 30), there.lock("l", 30, timeout=0):
        pass


def test_lock_is_no_value(cache) -> None:
    """A lock and a value of the same name are independent, and clear() leaves locks alone."""
    cache.set("l", 1)
    with cache.lock("l", 30) as lock:
        cache.delete("l")
        cache.clear()
        assert lock.extend() is True


def test_voters_follow_from_name_and_nodes(cache, make, voters) -> None:
    """Five of the nodes vote, whatever their order and weights; with five or fewer all do."""
    assert set(cache.lock("l").voters) == set(voters.urls)
    assert (
        cache.lock("l").voters == make(dict(reversed(list(voters.urls.items())))).lock("l").voters
    )
    assert len(set(membership.voters_of(tuple(f"n{n}" for n in range(50)), b"l"))) == 5


def test_voters_on_request(cache, plain) -> None:
    """Only those named vote."""
    lock = cache.lock("l", 30, voters=["shard-2", "shard-4", "shard-5"])
    lock.acquire()
    until(lambda: plain.having(lock, voters_of(cache)) == ["shard-2", "shard-4", "shard-5"])
    lock.release()


def voters_of(cache) -> list[str]:
    return sorted(cache.lock("any").voters)


def test_one_voter(cache) -> None:
    """One voter is a majority of one."""
    with cache.lock("l", 30, voters=["shard-3"]) as lock:
        assert lock.voters == ("shard-3",)
        assert cache.lock("l", voters=["shard-3"]).acquire(blocking=False) is False


def test_alone(alone, voters, namespace) -> None:
    """A lock needs URLs and nothing else; others may share its connections."""
    lock = alone(namespace, 30, nodes=voters.urls)
    assert (lock.acquire(), lock.locked()) == (True, True)
    other = alone(namespace, 30, nodes=getattr(lock, "_target", lock))
    assert other.acquire(blocking=False) is False
    lock.release()
    assert other.acquire() is True
    other.release()
    other.close()
    assert lock.acquire() is True
    lock.release()
    lock.close()


def test_alone_leaves_nothing(alone, voters, namespace, plain) -> None:
    """A closed lock has closed its connections, and says so when used again."""

    def open_connections() -> int:
        return sum(
            one["name"] == namespace
            for server in plain.by_name.values()
            for one in server.client_list(_type="normal")
        )

    lock = alone(namespace, 30, nodes=voters.urls, options=Options(client_name=namespace))
    lock.acquire()
    assert open_connections() == 5
    lock.release()
    lock.close()
    with pytest.raises(ClientClosed):
        lock.acquire()
    until(lambda: open_connections() == 0)
