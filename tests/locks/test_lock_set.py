"""Several locks at once: all or none, in one order."""

import threading

import pytest

from shardcache.errors import LockConflict, LockLost, LockNotHeld
from tests.waiting import until


def test_all(cache) -> None:
    """All are held, each with a fencing token of its own."""
    locks = cache.lock_many(["b", "a", b"c"], 30)
    assert locks.acquire() is True
    tokens = locks.fencing_tokens()
    assert (list(tokens), all(tokens.values()), 0 < locks.remaining() < 30) == (
        ["a", "b", b"c"],
        True,
        True,
    )
    locks.ensure_held()
    assert [cache.lock(name).acquire(blocking=False) for name in ("a", "b", "c")] == [False] * 3
    locks.release()
    assert [cache.lock(name).acquire(blocking=False) for name in ("a", "b", "c")] == [True] * 3


def test_none(cache, plain) -> None:
    """If one cannot be had, none is kept."""
    held = cache.lock("b", 30)
    held.acquire()
    locks = cache.lock_many(["a", "b", "c"], 30)
    assert (locks.acquire(blocking=False), locks.remaining()) == (False, 0.0)
    until(lambda: plain.having(locks.locks["a"]) == [])
    assert (plain.having(locks.locks["c"]), held.extend()) == ([], True)


def test_very_many(cache, plain) -> None:
    """All are released, and given back: what a connection cannot take at once waits its turn."""
    names = [f"n{number:03}" for number in range(1000)]
    last = cache.lock(max(names), 600)
    locks = cache.lock_many(names, 600)

    def left() -> int:
        keys = [lock._holder.plan.keys.lock for lock in list(locks.locks.values())[:-1]]
        return sum(server.exists(*keys) for server in plain.by_name.values())

    locks.acquire()
    locks.release()
    last.acquire()
    until(lambda: left() == 0)
    assert locks.acquire(blocking=False) is False
    until(lambda: left() == 0)
    assert last.extend() is True


def test_with_says_who_stands_in_the_way(cache) -> None:
    """The error names the lock that could not be had."""
    locks = cache.lock_many(["a", "b"], 30, timeout=0)
    with cache.lock("b", 30), pytest.raises(LockConflict, match="lock 'b'"), locks:
        pass


def test_same_name_twice(cache) -> None:
    """A name that comes twice, as text and as bytes, is one lock: it does not wait for itself."""
    with cache.lock_many(["a", b"a", "a"], 30, timeout=0) as locks:
        assert list(locks.locks) == ["a"]


def test_opposite_orders(cache) -> None:
    """Sets that overlap in opposite orders never wait for each other for ever."""
    done = []

    def work(names: list[str]) -> None:
        for _ in range(8):
            with cache.lock_many(names, 30, timeout=60):
                done.append(names)

    threads = [
        threading.Thread(target=work, args=(names,))
        for names in (["a", "b", "c"], ["c", "b", "a"], ["b", "a"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 24


def test_one_is_lost(cache, plain) -> None:
    """A lost one is told of, and the others are released all the same."""
    locks = cache.lock_many(["a", "b"], 30)
    locks.acquire()
    plain.wipe(locks.locks["b"])
    with pytest.raises(LockLost, match="lock 'b'"):
        locks.release()
    assert cache.lock("a").acquire(blocking=False) is True


def test_one_was_released_alone(cache) -> None:
    """One that was let go of alone keeps the set from nothing but a clean release."""
    with (
        pytest.raises(LockNotHeld, match="lock 'b'"),
        cache.lock_many(["a", "b", "c"], 30) as locks,
    ):
        token = locks.locks["b"].handover()
    other = cache.lock("b")
    other.adopt(token)
    other.release()
    assert [cache.lock(name).acquire(blocking=False) for name in "ac"] == [True, True]


def test_ensure_held(cache) -> None:
    """One that is not held is enough."""
    locks = cache.lock_many(["a", "b"])
    with pytest.raises(LockNotHeld):
        locks.ensure_held()
    assert locks.remaining() == 0.0


def test_error_of_the_block(cache, plain) -> None:
    """An error in the block is not hidden."""
    with pytest.raises(KeyError), cache.lock_many(["a", "b"], 30) as locks:
        plain.wipe(locks.locks["a"])
        raise KeyError


def test_renewed(cache) -> None:
    """Settings are those of each lock: here each is renewed by itself."""
    locks = cache.lock_many(["a", "b"], 3.0, auto_renew=True)
    locks.acquire()
    leases = [lock._holder.hold.lease for lock in locks.locks.values()]
    ends = [lease.valid_until for lease in leases]
    until(lambda: all(lease.valid_until > end for lease, end in zip(leases, ends, strict=True)))
    locks.release()


def test_alone(alone, voters, namespace) -> None:
    """A set can stand on URLs as well, and closes what it opened."""
    kind = __import__("shardcache").locks
    made = alone.like(kind.AsyncLockSet) if hasattr(alone, "like") else kind.LockSet
    names = [f"{namespace}-{letter}" for letter in "ab"]
    locks = made(names, nodes=voters.urls)
    assert locks.acquire() is True
    locks.release()
    locks.close()
