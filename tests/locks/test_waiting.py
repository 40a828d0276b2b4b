"""How long a caller waits for a lock without a timeout of its own, and that this is logged."""

import logging
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from shardcache.errors import LockConflict, QuorumUnavailable
from shardcache.flows.lock import acquisition
from tests.waiting import until

ENDS = r"without a timeout a majority is waited for as long as the ttl, 0\.4 s"


def entered(lock):
    """Enter and leave a ``with``."""
    with lock:
        return True


@pytest.fixture
def begin():
    """Call something in the background; return its future."""
    with ThreadPoolExecutor(8) as pool:
        yield pool.submit


def outage(servers) -> None:
    """Let two of five voters live."""
    for server in servers.servers[:3]:
        server.kill()


def test_acquire_takes_the_handles_timeout(cache, monkeypatch) -> None:
    """A handle made with a timeout waits no longer; a call's own timeout goes before it."""
    monkeypatch.setattr(acquisition, "_LAST_LOOK", 20.0)  # on a busy machine voters are late
    cache.lock("held", ttl=60).acquire()
    lock = cache.lock("held", ttl=60, timeout=0.05)
    assert (lock.acquire(), lock.acquire(timeout=0.01), lock.acquire(blocking=False)) == (
        False,
        False,
        False,
    )
    with pytest.raises(LockConflict):
        entered(lock)
    several = cache.lock_many(["held", "other"], ttl=60, timeout=0.05)
    assert (several.acquire(), several.acquire(timeout=0.01)) == (False, False)
    with pytest.raises(LockConflict):
        entered(several)


def test_minus_one_has_no_end(cache, begin, events) -> None:
    """-1 waits on, though the handle has a timeout: until somebody lets go."""
    holder = cache.lock("held", ttl=60)
    holder.acquire()
    waiting = begin(cache.lock("held", ttl=60, timeout=0.01).acquire, timeout=-1)
    until(lambda: any(event.kind == "lock_waiting" for event in events))
    assert waiting.done() is False
    holder.release()
    assert waiting.result() is True


@pytest.mark.parametrize("way", ["acquire", "with", "several", "with several"])
def test_an_outage_ends_the_wait(make, mortal, way) -> None:
    """Without a majority a wait without a timeout ends after the ttl, and the error says so."""
    outage(mortal)
    cache = make(mortal.urls)
    lock = cache.lock_many(["a", "b"], ttl=0.4) if "several" in way else cache.lock("a", ttl=0.4)
    with pytest.raises(QuorumUnavailable, match=ENDS):
        entered(lock) if "with" in way else lock.acquire()


def test_an_outage_ends_all_waits_of_a_process_together(make, mortal) -> None:
    """Waiters in one process' queue wait one ttl together, not one after the other."""
    outage(mortal)
    cache = make(mortal.urls)
    with ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(cache.lock("a", ttl=1.0).acquire) for _ in range(20)]
        late = wait(calls, timeout=14).not_done  # one after the other would be 20 s
        errors = [call.exception() for call in calls]
    assert ({type(error) for error in errors}, late) == ({QuorumUnavailable}, set())


def test_a_wait_is_told(cache, begin, events, caplog) -> None:
    """After a second hook and log hear once why a caller waits, in the local queue too."""
    caplog.set_level(logging.INFO, "shardcache")
    holder = cache.lock("held", ttl=60)
    holder.acquire()
    calls = [begin(entered, cache.lock("held", ttl=60, timeout=30)) for _ in range(2)]
    until(lambda: len(events) == 2)
    assert [(event.kind, event.operation, type(event.error)) for event in events] == [
        ("lock_waiting", "lock", LockConflict)
    ] * 2
    assert sorted("others in this process" in str(event.error) for event in events) == [False, True]
    found = [record for record in caplog.records if record.name == "shardcache.locks"]
    assert {record.levelname for record in found} == {"INFO"}
    assert all(
        record.getMessage().startswith("still waiting for lock 'held': ") for record in found
    )
    cache.lock("held").force_release()
    assert [call.result() for call in calls] == [True, True]


def test_an_outage_is_told(make, mortal, events, caplog) -> None:
    """A wait for voters that do not answer is a warning."""
    outage(mortal)
    cache = make(mortal.urls)
    with pytest.raises(QuorumUnavailable):
        cache.lock("a", ttl=5.0).acquire()
    told = [event for event in events if event.kind == "lock_waiting"]
    assert [type(event.error) for event in told] == [QuorumUnavailable]
    [record] = [record for record in caplog.records if record.name == "shardcache.locks"]
    assert (record.levelname, "too many of the 5 voters cannot vote" in record.getMessage()) == (
        "WARNING",
        True,
    )


@pytest.mark.parametrize("timeout", ["1", True, -2, float("nan"), float("inf"), 10**12])
def test_a_timeout_that_is_none(cache, timeout) -> None:
    """What cannot be waited is refused, by the handle and by the call."""
    for ask in (
        lambda: cache.lock("a", timeout=timeout),
        lambda: cache.lock("a").acquire(timeout=timeout),
    ):
        with pytest.raises(
            ValueError,
            match=r"timeout must be a number of seconds from 0 to .*, -1 for no end, or None",
        ):
            ask()
