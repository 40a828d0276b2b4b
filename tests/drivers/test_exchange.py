"""The sync exchange on real servers: hung, slow, dead and restarted ones, and interruptions.

An exchange waits for every answer; what has none by its deadline is a failure of its shard.
"""

import time
from collections.abc import Iterator

import pytest

from shardcache import Options, ShardCache
from shardcache.drivers.sync import broadcast, checkout
from shardcache.drivers.sync.broadcast import run_broadcast, run_exchange
from shardcache.drivers.sync.overdue import OverdueConnections
from shardcache.embedded import LocalShards
from shardcache.errors import OutOfStep, ShardOut, ShardTimeout, ShardUnavailable
from shardcache.flows.steps import Batch, Broadcast
from shardcache.policy.breaker import State
from shardcache.testing import FaultProxy, Split
from shardcache.wire import Pool, Transfer
from tests.interruptions import Calls


@pytest.fixture
def servers() -> Iterator[LocalShards]:
    with LocalShards(3) as started:
        yield started


@pytest.fixture(scope="module")
def unharmed() -> Iterator[LocalShards]:
    """Servers of all tests that do nothing to them."""
    with LocalShards(3) as started:
        yield started


def client_of(servers: LocalShards) -> ShardCache:
    options = Options(first_probe=50, max_probe=50)  # no prober gets in the way
    return ShardCache(servers.urls, timeout=5, options=options)


@pytest.fixture
def cache(servers) -> Iterator[ShardCache]:
    with client_of(servers) as client:
        yield client


@pytest.fixture
def calm(unharmed) -> Iterator[ShardCache]:
    with client_of(unharmed) as client:
        yield client


def echo(cache, word: bytes = b"x", *, timeout: float = 5.0, idempotent: bool = True, fit=None):
    """Have every shard say a word, in one exchange."""
    shards = cache._driver.shards
    batches = [
        Batch(place, [(b"ECHO", word)], idempotent, fit or (lambda _: True))
        for place in range(len(shards))
    ]
    return run_exchange(shards, batches, timeout, time.monotonic)


def kinds(outcomes) -> list[type]:
    return [type(outcome) for outcome in outcomes]


def idle(cache) -> list[int]:
    return [shard.idle() for shard in cache._driver.shards]


def test_all_answer(calm) -> None:
    """Each outcome is the list of its replies; the connections go back."""
    assert (echo(calm), echo(calm, b"y")) == ([[b"x"]] * 3, [[b"y"]] * 3)
    assert idle(calm) == [1, 1, 1]


def test_restarted_servers(cache, servers) -> None:
    """Connections that died while they were idle cost nothing."""
    echo(cache)
    for server in servers.servers[:2]:
        server.restart()
    assert echo(cache, idempotent=False) == [[b"x"]] * 3
    shards = cache._driver.shards
    assert [(shard.tally.retries, shard.tally.failures) for shard in shards] == [(0, 0)] * 3


def test_dead_connections_that_look_alive(cache, servers, monkeypatch) -> None:
    """Connections that are found dead only in use: two second tries, one failure each."""
    monkeypatch.setattr("shardcache.wire.Connection.stale", lambda _: False)
    echo(cache)
    for server in servers.servers[:2]:
        server.restart()
    assert echo(cache) == [[b"x"]] * 3
    shards = cache._driver.shards
    assert [(shard.tally.retries, shard.tally.failures) for shard in shards] == [
        (1, 0),
        (1, 0),
        (0, 0),
    ]
    for server in servers.servers[:2]:
        server.restart()
    found = echo(cache, idempotent=False)
    assert kinds(found) == [ShardUnavailable, ShardUnavailable, list]
    assert [shard.tally.failures for shard in shards] == [1, 1, 0]


def test_dead_server(cache, servers) -> None:
    """A server that is gone is an error of its own, and hinders nobody."""
    echo(cache)
    servers.servers[0].kill()
    assert kinds(echo(cache)) == [ShardUnavailable, list, list]


def test_hung_server(cache, servers) -> None:
    """A server that hangs is out when the deadline is over; its connection is closed, not kept."""
    echo(cache)
    servers.servers[1].pause()
    assert kinds(echo(cache, timeout=0.1)) == [list, ShardTimeout, list]
    hung = cache._driver.shards[1]
    assert (hung.breaker.state, hung.idle(), len(hung.overdue)) == (State.OPEN, 0, 0)
    assert kinds(echo(cache)) == [list, ShardOut, list]


def test_late_reply_is_not_the_next_one(cache, servers) -> None:
    """What a hung server answers when it wakes up is no reply to a later request."""
    cache._driver.shards[1].breaker._may_open = lambda: False
    echo(cache)
    for word in (b"1", b"2", b"3"):
        servers.servers[1].pause()
        assert kinds(echo(cache, word, timeout=0.05))[1] is ShardTimeout
        servers.servers[1].resume()
        assert echo(cache, word + b"!") == [[word + b"!"]] * 3


def test_dripping_server(servers) -> None:
    """A reply that comes byte by byte comes whole, and spoils nobody else's."""
    with FaultProxy(servers.urls["shard-2"]) as proxy:
        proxy.set(Split(tuple(range(1, 2000))))
        urls = {**servers.urls, "shard-2": proxy.url}
        with ShardCache(urls, timeout=20) as cache:
            for word in (b"abc", b"d" * 50):
                assert echo(cache, word, timeout=20) == [[word]] * 3


def test_reply_of_another_kind(calm) -> None:
    """Replies that do not fit are no replies: only their connection is closed."""
    fits = iter([True, False, True])
    found = echo(calm, fit=lambda _: next(fits))
    assert sorted(kinds(found), key=str) == [list, list, OutOfStep]
    assert sorted(idle(calm)) == [0, 1, 1]


def test_error_of_this_process(calm) -> None:
    """What is no shard's doing comes out, and leaves neither connection nor place on trial."""

    def broken(_: object) -> bool:
        raise MemoryError

    echo(calm)
    for shard in calm._driver.shards:
        half_open(shard)
    with pytest.raises(MemoryError):
        echo(calm, fit=broken)
    assert [shard.breaker.trials for shard in calm._driver.shards] == [0, 0, 0]
    for shard in calm._driver.shards:
        half_open(shard)
    assert echo(calm) == [[b"x"]] * 3


def half_open(shard) -> None:
    """Put a shard on trial."""
    shard.breaker.state = State.OPEN
    shard.probe_succeeded()
    shard.breaker.allowance = 8


INTERRUPTED = {
    broadcast._Round: ("_ask", "_send", "_note_turn", "_note"),
    checkout.Checkout: ("acquire", "succeed"),
    Transfer: ("start", "wait", "_advance"),
}


@pytest.mark.parametrize("at", range(1, 45))
def test_interrupted_at_each_step(calm, monkeypatch, at) -> None:
    """A KeyboardInterrupt at any step of an exchange leaves no connection and no place behind."""
    shards = calm._driver.shards
    echo(calm)
    for shard in shards:
        half_open(shard)
    calls = Calls(monkeypatch, INTERRUPTED, at)
    try:
        echo(calm)
    except KeyboardInterrupt:
        pass
    else:
        assert 0 < calls.made < at
    monkeypatch.undo()
    assert [shard.breaker.trials for shard in shards] == [0, 0, 0]
    for shard in shards:
        open_now = [known for known in shard.pool._connections if known.sock.fileno() >= 0]
        assert len(open_now) == shard.idle() + len(shard.overdue.broken_off)
    assert echo(calm, b"y") == [[b"y"]] * 3


@pytest.mark.parametrize("owner", [Pool, OverdueConnections], ids=["pool", "overdue"])
def test_interrupted_when_a_connection_has_been_given_back(calm, monkeypatch, owner) -> None:
    """It is the pool's by then: another call may have it already, so nobody closes it."""
    name = "release" if owner is Pool else "keep"
    real = getattr(owner, name)
    echo(calm)

    def give_back(*args):
        real(*args)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, give_back)
    on_reply = (lambda *_: True) if owner is Pool else None
    step = Broadcast([Batch(0, [(b"ECHO", b"x")], True, lambda _: True)], on_reply, 5.0)
    with pytest.raises(KeyboardInterrupt):
        run_broadcast(calm._driver.shards, step, time.monotonic)
    shard = calm._driver.shards[0]
    known = [*shard.pool._idle, *(kept.connection for kept in shard.overdue.by_thread.values())]
    assert [one.sock.fileno() >= 0 for one in known] == [True]
