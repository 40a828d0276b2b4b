"""Voters that hang, die, restart, forget, or hold something else under the lock's keys."""

from contextlib import ExitStack

import pytest

from shardcache import Options
from shardcache.embedded import LocalShards
from shardcache.errors import QuorumUnavailable
from shardcache.testing import Cut, FaultProxy
from tests.waiting import until

pytestmark = pytest.mark.long

QUIET = Options(first_probe=60, max_probe=60)  # who is out stays out


def calls(server) -> int:
    """Return how many scripts a server has run."""
    return server.info("commandstats").get("cmdstat_eval", {}).get("calls", 0)


def stop(mortal, names):
    for server in mortal.servers:
        if server.name in names:
            server.pause()


def go_on(mortal):
    for server in mortal.servers:
        server.resume()


def test_hung_minority(make, meet, mortal, look) -> None:
    """With two of five voters stopped the lock works, and nothing more is sent to those two."""
    cache, plain = make(mortal.urls, options=QUIET), look(mortal)
    lock = cache.lock("l", 30, voter_timeout=2)
    meet(cache)
    hung = lock.voters[3:]
    stop(mortal, hung)
    while any(cache.stats().shards[name].state == "closed" for name in hung):
        with lock:
            assert lock.held is True
    sent = calls(plain[lock.voters[0]])
    for _ in range(30):
        with lock:
            assert lock.held is True
    stats = cache.stats().shards
    assert [stats[name].state for name in lock.voters] == ["closed"] * 3 + ["open"] * 2
    assert calls(plain[lock.voters[0]]) >= sent + 60
    go_on(mortal)
    assert [calls(plain[name]) <= sent + 2 for name in hung] == [True, True]


def test_hung_from_the_start(make, mortal) -> None:
    """Two that hang before the first connection hinder nobody, once the others' age is enough."""
    cache = make(mortal.urls)
    lock = cache.lock("l", 10, voter_timeout=2)
    # What they might have forgotten is waited for, since not all can say that they are fresh: only
    # as long as this ttl here, not the minute for longer ones of clients that none of them heard.
    lock._holder.backend.planner.registry.unsure = 0.0
    stop(mortal, lock.voters[:2])
    assert lock.acquire(timeout=60) is True
    lock.release()
    for _ in range(3):
        assert lock.acquire(timeout=20) is True
        lock.release()
    assert all(cache.stats().shards[name].state != "closed" for name in lock.voters[:2])
    go_on(mortal)


def test_what_was_over(make, mortal) -> None:
    """A voter that hangs from the start has its own time in the error, not that of the call."""
    cache = make(mortal.urls, options=QUIET)
    lock = cache.lock("l", 600, voter_timeout=0.3)
    stop(mortal, lock.voters)
    with pytest.raises(QuorumUnavailable) as caught:
        lock.acquire(blocking=False)
    go_on(mortal)
    said = [vote.reason for vote in caught.value.votes if "connection" in str(vote.reason)]
    assert all("within the 0.3 s that" in why or "or less in a step" in why for why in said)
    assert "within the deadline" not in str(caught.value)


@pytest.mark.parametrize("way", ["pause", "kill"])
def test_majority_is_out(make, meet, mortal, way) -> None:
    """Without a majority acquire says so once its time is over, and names who is out and why."""
    cache = make(mortal.urls, options=QUIET)
    lock = cache.lock("l", 30, voter_timeout=0.2)
    meet(cache)
    out = lock.voters[:3]
    for server in mortal.servers:
        if server.name in out:
            getattr(server, way)()
    for wait in ({"timeout": 0.3}, {"blocking": False}):
        with pytest.raises(
            QuorumUnavailable, match="lock 'l': too many of the 5 voters cannot vote: "
        ) as caught:
            lock.acquire(**wait)
        kinds = {vote.voter: vote.kind for vote in caught.value.votes}
        assert [kinds[name] in ("timeout", "unreachable") for name in out] == [True] * 3
        assert [f"{name}: {kinds[name]} (" in str(caught.value) for name in out] == [True] * 3
    with pytest.raises(QuorumUnavailable, match="too few of the 5 voters answer"):
        lock.owner()
    with pytest.raises(QuorumUnavailable):
        lock.force_release()
    go_on(mortal)


def test_late_grants_are_released(make, meet, mortal, look) -> None:
    """Voters that resume after a failed acquire do not keep the key: its release came behind it."""
    cache, plain = make(mortal.urls, options=QUIET), look(mortal)
    lock = cache.lock("l", 600, voter_timeout=0.3)
    meet(cache)
    before = {name: calls(plain[name]) for name in lock.voters}
    hung = lock.voters[2:]
    stop(mortal, hung)
    with pytest.raises(QuorumUnavailable):
        lock.acquire(blocking=False)
    until(lambda: plain.having(lock, lock.voters[:2]) == [])
    go_on(mortal)
    for name in hung:
        until(lambda name=name: calls(plain[name]) >= before[name] + 2)
    assert plain.having(lock) == []


def test_late_grants_of_a_lock_that_was_had(make, mortal, look) -> None:
    """A minority that wakes up after the release does not keep the key either."""
    cache, plain = make(mortal.urls, options=QUIET), look(mortal)
    lock = cache.lock("l", 600, voter_timeout=5)
    with lock:
        pass
    hung = lock.voters[3:]
    before = {name: calls(plain[name]) for name in hung}
    stop(mortal, hung)
    with lock:
        pass
    go_on(mortal)
    for name in hung:
        until(lambda name=name: calls(plain[name]) >= before[name] + 2)
    assert plain.having(lock) == []


def test_release_without_a_quorum(make, meet, mortal, look, events) -> None:
    """A release that too few confirm raises, may be repeated, and is then no loss."""
    cache, plain = make(mortal.urls), look(mortal)
    lock = cache.lock("l", 600, voter_timeout=0.3)
    meet(cache)
    lock.acquire()
    until(lambda: len(plain.having(lock)) == 5)
    stop(mortal, lock.voters[:3])
    with pytest.raises(
        QuorumUnavailable, match="too few voters answered to be sure that it is released"
    ):
        lock.release()
    assert lock.held is False
    go_on(mortal)
    until(lambda: plain.having(lock) == [])
    until(
        lambda: (
            all(
                one.state == "closed" or cache.ping() is None
                for one in cache.stats().shards.values()
            )
            or True
        )
    )
    released = None
    while released is None:
        try:
            lock.release()
            released = True
        except QuorumUnavailable:
            continue
    assert (released, [event.kind for event in events if event.kind.startswith("lock")]) == (
        True,
        [],
    )


def test_block_that_cannot_release(make, meet, mortal, look, events) -> None:
    """At the end of a block an unconfirmed release is logged, not raised."""
    cache = make(mortal.urls)
    lock = cache.lock("l", 600, voter_timeout=0.3, reentrant=True, owner="me")
    meet(cache)
    with lock:
        stop(mortal, lock.voters[:3])
    assert [event.kind for event in events if event.kind == "lock_kept"] == ["lock_kept"]
    go_on(mortal)

    def again() -> bool:
        try:
            return lock.acquire(timeout=1)
        except QuorumUnavailable:
            return False

    until(again)
    lock.release()


def test_extend_without_a_quorum(make, meet, mortal) -> None:
    """An extension that too few confirm is no loss: the lease is what it was."""
    cache = make(mortal.urls)
    lock = cache.lock("l", 600, voter_timeout=0.3)
    meet(cache)
    lock.acquire()
    stop(mortal, lock.voters[:3])
    before = lock.remaining()
    assert (lock.extend(), 0 < lock.remaining() <= before, lock.lost.is_set()) == (
        False,
        True,
        False,
    )
    go_on(mortal)


def test_fresh_fleet(make, mortal) -> None:
    """Servers that have just been started for the first time lock at once."""
    assert make(mortal.urls).lock("l", 3600).acquire(blocking=False) is True


@pytest.mark.parametrize("known", [True, False], ids=["same process", "new process"])
def test_forgetful_majority(make, mortal, known) -> None:
    """Voters that restarted, and forgot the holder, do not grant: their peers remember them."""
    holder, cache = make(mortal.urls), make(mortal.urls)
    lock, other = holder.lock("l", 600), cache.lock("l", 600)
    if known:
        other.acquire()
        other.release()
    lock.acquire()
    forgot = lock.voters[:3]
    for server in mortal.servers:
        if server.name in forgot:
            server.restart()
    with pytest.raises(QuorumUnavailable, match="cannot vote or have restarted") as caught:
        until_heard(other)
    guarded = {vote.voter: vote.left for vote in caught.value.votes if vote.kind == "guarded"}
    assert sorted(guarded) == sorted(forgot)
    assert all(590 < left < 610 for left in guarded.values())
    assert lock.held is True


def until_heard(lock) -> None:
    """Try until nobody is called unreachable any more: a breaker may have opened at the restart."""
    while True:
        try:
            lock.acquire(blocking=False)
        except QuorumUnavailable as error:
            if not {"unreachable", "timeout"} & {vote.kind for vote in error.votes}:
                raise
        else:
            pytest.fail("the lock was granted twice")


def test_forgetful_voters_vote_again(make, mortal) -> None:
    """When the longest ttl is over, what they forgot has expired, and their votes count."""
    cache = make(mortal.urls)
    lock = cache.lock("l", 0.8)
    lock.acquire()
    for server in mortal.servers[:3]:
        server.restart()
    assert make(mortal.urls).lock("l", 0.8).acquire(timeout=20) is True


def test_forgetful_minority(make, mortal) -> None:
    """Two that restarted hinder nobody: the other three are a majority."""
    cache = make(mortal.urls)
    lock = cache.lock("l", 600)
    with lock:
        before = lock.fencing_token
    for server in mortal.servers[:2]:
        server.restart()
    other = make(mortal.urls).lock("l", 600)
    assert (other.acquire(timeout=20), other.fencing_token > before) == (True, True)


@pytest.mark.parametrize("many", [1, 2, 3, 5])
def test_counters_are_lost(cache, plain, many) -> None:
    """Fencing tokens grow although counters are evicted between the acquisitions."""
    lock, found = cache.lock("l", 30), []
    for turn in range(12):
        with lock:
            found.append(lock.fencing_token)
        for place in range(many):
            plain[lock.voters[(turn + place) % 5]].delete(lock._holder.plan.keys.fence)
    assert found == sorted(set(found))


def test_counters_are_lost_while_it_is_held(cache, plain) -> None:
    """An eviction during a lease changes nothing about the next token."""
    lock = cache.lock("l", 30)
    with lock:
        before = lock.fencing_token
        for name in lock.voters[:4]:
            plain[name].delete(lock._holder.plan.keys.fence)
    with lock:
        assert lock.fencing_token > before


@pytest.mark.parametrize("key", ["lock", "fence"])
def test_something_else_under_the_key(cache, plain, key) -> None:
    """A key of another type makes a voter refuse; a majority of such voters is an error."""
    lock = cache.lock("l", 30)
    wrong = getattr(lock._holder.plan.keys, key)
    for name in lock.voters[:2]:
        plain[name].rpush(wrong, "x")
    with lock:
        assert lock.held is True
    plain[lock.voters[2]].delete(wrong)
    plain[lock.voters[2]].rpush(wrong, "x")
    with pytest.raises(QuorumUnavailable) as caught:
        lock.acquire(blocking=False)
    refused = [vote for vote in caught.value.votes if vote.kind == "refused"]
    assert [vote.voter for vote in refused] == list(lock.voters[:3])
    assert all("WRONGTYPE" in vote.reason for vote in refused)


def test_something_else_under_the_waiting_keys(cache, plain) -> None:
    """What stands under the keys that wake waiters can only make the waking slower."""
    lock, other = cache.lock("l", 0.5), cache.lock("l", 5)
    for name in lock.voters:
        plain[name].set(lock._holder.plan.keys.wake, "x")
        plain[name].rpush(lock._holder.plan.keys.waiting, "x")
    before = sum(calls(plain[name]) for name in lock.voters)
    lock.acquire()
    assert other.acquire(timeout=20) is True
    # It does not ask without a pause.
    assert sum(calls(plain[name]) for name in lock.voters) - before < 300
    other.release()


def test_dead_kept_connections(cache, plain) -> None:
    """Connections that the servers closed meanwhile are replaced, unseen."""
    lock = cache.lock("l", 30)
    with lock:
        pass
    for name in lock.voters:
        plain[name].client_kill_filter(_type="normal", skipme=True)
    assert lock.acquire(blocking=False) is True
    for name in lock.voters:
        plain[name].client_kill_filter(_type="normal", skipme=True)
    lock.release()


def test_connections_that_die_of_the_request(make) -> None:
    """A connection that dies before the reply is replaced; the request, sent twice, grants once."""
    with LocalShards(3) as servers, ExitStack() as stack:
        proxies = {name: stack.enter_context(FaultProxy(url)) for name, url in servers.urls.items()}
        cache = make({name: proxy.url for name, proxy in proxies.items()})
        lock = cache.lock("l", 30)
        with lock:
            before = lock.fencing_token
        for proxy in proxies.values():
            proxy.arm(Cut(reset=True))
        assert lock.acquire(blocking=False) is True
        assert lock.fencing_token == before + 1
        for proxy in proxies.values():
            proxy.arm(Cut())
        lock.release()


def test_servers_that_are_not_there(alone) -> None:
    """Voters that nobody answers for are named."""
    lock = alone("l", 10, nodes={"a": "redis://127.0.0.1:1", "b": "redis://127.0.0.1:1"})
    with pytest.raises(
        QuorumUnavailable,
        match=r"a: unreachable .* b: unreachable|b: unreachable .* a: unreachable",
    ):
        lock.acquire(blocking=False)
    lock.close()
