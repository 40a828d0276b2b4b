"""A lease that goes to another thread, task or process; and locks that one owner may take again."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shardcache.errors import InvalidArgument, InvalidOption, LockLost, LockNotHeld
from tests.waiting import until


def test_to_another_handle(cache, plain) -> None:
    """What one handle hands over another adopts, token and all; the lock is never free."""
    first, second = cache.lock("l", 30), cache.lock("l", 30)
    first.acquire()
    fence, token, text = first.fencing_token, first.token, first.handover()
    assert (first.held, len(plain.having(first)) >= 3) == (False, True)
    second.adopt(text)
    assert (second.held, second.fencing_token, 0 < second.remaining() < 30) == (True, fence, True)
    assert second.token != token
    with pytest.raises(LockNotHeld):
        first.release()
    second.release()
    assert cache.lock("l").acquire(blocking=False) is True


def test_inside_a_block(cache) -> None:
    """The end of the block that handed a lease over does not take it from its new holder."""
    with cache.lock("l") as first:
        second = cache.lock("l")
        second.adopt(first.handover())
    assert second.extend() is True


def test_to_another_process(cache, voters, namespace) -> None:
    """A text is all that another process needs."""
    lock = cache.lock("l", 30)
    lock.acquire()
    fence = lock.fencing_token
    program = (
        "import sys; from shardcache import ShardCache\n"
        "urls = dict(zip(sys.argv[3::2], sys.argv[4::2]))\n"
        "with ShardCache(urls, namespace=sys.argv[1], timeout=20) as cache:\n"
        "    lock = cache.lock('l', 30); lock.adopt(sys.argv[2])\n"
        "    print(lock.fencing_token, lock.held); lock.release()"
    )
    words = [word for pair in voters.urls.items() for word in pair]
    done = subprocess.run(
        [sys.executable, "-c", program, namespace, lock.handover(), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{fence} True\n", "")
    assert cache.lock("l").acquire(blocking=False) is True


def test_renewal_goes_with_the_lease(cache) -> None:
    """Who handed over renews no more; who adopted does, if it is to."""
    first, second = cache.lock("l", 2.0, auto_renew=True), cache.lock("l", 2.0, auto_renew=True)
    first.acquire()
    second.adopt(first.handover())
    lease = second._holder.hold.lease
    end = lease.valid_until
    until(lambda: lease.valid_until > end)
    assert (cache.lock("l").acquire(blocking=False), second.held, first.lost.is_set()) == (
        False,
        True,
        False,
    )
    second.release()
    first.acquire(timeout=20)
    first.handover()
    assert cache.lock("l").acquire(timeout=20) is True


def test_too_late(cache, plain) -> None:
    """A lease that has ended cannot be adopted, nor handed over."""
    first, second = cache.lock("l"), cache.lock("l")
    first.acquire()
    text = first.handover()
    plain.wipe(first)
    with pytest.raises(LockLost, match="the lease that was handed over has ended"):
        second.adopt(text)
    first.acquire()
    first._holder.hold.lease.until[:] = [0.0] * 5
    with pytest.raises(LockLost):
        first.handover()


def test_without_a_lease(cache) -> None:
    """Nothing can be handed over by who has nothing."""
    with pytest.raises(LockNotHeld, match="has no token"):
        cache.lock("l").handover()


def test_of_several_adopters_one_gets_it(cache, make) -> None:
    """A handed-over text that arrives twice, in processes or threads, gives one lease."""
    for _ in range(5):
        first = cache.lock("l", 30)
        first.acquire(timeout=20)
        text = first.handover()
        locks = [client.lock("l", 30) for client in (cache, make()) for _ in range(5)]

        def adopts(lock, text: str = text) -> bool:
            try:
                lock.adopt(text)
            except LockLost:
                return False
            return True

        with ThreadPoolExecutor(10) as pool:
            found = list(pool.map(adopts, locks))
        assert (found.count(True), [lock.held for lock in locks]) == (1, found)
        with pytest.raises(LockLost, match="somebody else has adopted it"):
            cache.lock("l").adopt(text)
        [heir] = [lock for lock in locks if lock.held]
        assert heir.extend() is True
        heir.release()


def test_a_token_is_not_to_be_adopted(cache) -> None:
    """Only what was handed over can be adopted: a token that is merely read is refused."""
    lock = cache.lock("l")
    lock.acquire()
    with pytest.raises(InvalidArgument, match="adopt takes the text that `handover` gave, got"):
        cache.lock("l").adopt(lock.token)
    assert lock.held is True


def test_handed_on_again(cache) -> None:
    """An heir may hand over in his turn; the first text is of no use then."""
    locks = [cache.lock("l", 30) for _ in range(3)]
    locks[0].acquire()
    texts = [locks[0].handover()]
    locks[1].adopt(texts[0])
    texts.append(locks[1].handover())
    with pytest.raises(LockLost):
        locks[2].adopt(texts[0])
    locks[2].adopt(texts[1])
    assert [lock.held for lock in locks] == [False, False, True]


@pytest.mark.parametrize(
    "token",
    [
        "",
        ":",
        "x",
        "1",
        "1:",
        "x:y",
        "²:y",
        "-1:y",
        b"1:y",
        1,
        None,
        "handover:",
        "handover:1:",
        "handover:x:y",
        "1:y",
    ],
    ids=repr,
)
def test_no_token(cache, token) -> None:
    """A text that no handover gave is refused."""
    with pytest.raises(InvalidArgument, match="adopt takes the text that `handover` gave, got"):
        cache.lock("l").adopt(token)


def test_not_reentrant_unless_asked(cache) -> None:
    """By default a holder that takes the lock again competes with itself."""
    lock = cache.lock("l")
    lock.acquire()
    assert lock.acquire(blocking=False) is False
    assert lock.held is True


@pytest.mark.parametrize(
    "owner", ["me", 7, ("job", 3), frozenset("ab")], ids=["text", "number", "tuple", "set"]
)
def test_reentrant(cache, plain, owner) -> None:
    """The same owner may take the lock again, and must release it as often."""
    lock = cache.lock("l", reentrant=True, owner=owner)
    assert (lock.acquire(), lock.acquire(blocking=False), lock.acquire(timeout=0)) == (
        True,
        True,
        True,
    )
    fence = lock.fencing_token
    for _ in range(2):
        lock.release()
        assert (lock.held, lock.fencing_token) == (True, fence)
    with lock:
        assert lock.held is True
    assert lock.held is True
    lock.release()
    assert lock.held is False


def test_reentrant_with_blocks(cache) -> None:
    """Nested blocks release once, at the end of the outermost."""
    lock = cache.lock("l", reentrant=True, owner="me")
    with lock:
        with lock:
            pass
        assert lock.held is True
    assert lock.held is False


def test_reentrant_after_a_loss(cache, plain) -> None:
    """Who has lost the lock does not enter it once more as if nothing had happened."""
    lock = cache.lock("l", reentrant=True, owner="me")
    lock.acquire()
    lock._holder.hold.lease.until[:] = [0.0] * 5
    with pytest.raises(LockLost):
        lock.acquire()


def test_reentrant_for_another_owner(cache) -> None:
    """Another owner neither enters nor releases."""
    first, found = cache.lock("l", reentrant=True), []
    if hasattr(first, "_target"):
        pytest.skip("each call of the wrapped client is a task of its own")
    first.acquire()

    def other() -> None:
        found.append(first.acquire(blocking=False))
        try:
            first.release()
        except LockNotHeld as error:
            found.append(error.reason)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [False, "is held by another owner"]
    first.release()


def test_owner_that_cannot_be_hashed(cache) -> None:
    """An owner must be hashable, all the way down."""
    with pytest.raises(InvalidOption, match="owner must be hashable: unhashable type: 'list'"):
        cache.lock("l", owner=([],))


def test_released_by_another_thread(cache) -> None:
    """A lock that is not re-entrant may be released by any thread, as a threading.Lock may."""
    lock = cache.lock("l")
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert lock.held is False


def test_one_handle_for_several_threads(cache) -> None:
    """Threads that share a handle with `with` each release what they got."""
    lock, found = cache.lock("l", 30, timeout=60), []

    def work() -> None:
        for _ in range(5):
            with lock:
                found.append(lock.fencing_token)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(found), found == sorted(set(found)), lock.held) == (20, True, False)
