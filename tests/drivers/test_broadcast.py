"""The sync broadcast on real servers.

Connections with overdue replies, the order of requests, and trials of a shard that comes back.
"""

import threading
import time

import pytest

from shardcache import ShardCache
from shardcache.drivers.sync.broadcast import run_broadcast
from shardcache.embedded import LocalShards
from shardcache.errors import ClientClosed, ShardOut, ShardTimeout, ShardUnavailable
from shardcache.flows.steps import Batch, Broadcast
from shardcache.policy.breaker import State


@pytest.fixture
def servers():
    with LocalShards(2) as started:
        yield started


@pytest.fixture
def cache(servers):
    with ShardCache(servers.urls, timeout=5) as client:
        yield client


def ask(cache, *commands, places=(0, 1), enough=2, timeout=5.0, undo=False):
    """Send commands to the shards at ``places``; return the outcomes until ``enough`` came."""
    found = {}

    def take(at, outcome, run):
        found[places[at]] = outcome
        return len(found) >= enough

    shards = cache._driver.shards
    # Commands that the library itself never sends, so nothing is known of their replies.
    batches = [
        Batch(place, list(commands), True, lambda _: True, compensates=undo) for place in places
    ]
    run_broadcast(shards, Broadcast(batches, take if enough else None, timeout), time.monotonic)
    return found


def server_of(servers, cache, place):
    return next(
        server for server in servers.servers if server.name == cache._driver.shards[place].name
    )


def test_all_answer(cache) -> None:
    """Every outcome is the list of its replies, and the connections are kept."""
    assert ask(cache, (b"ECHO", b"x"), (b"ECHO", b"y")) == {0: [b"x", b"y"], 1: [b"x", b"y"]}
    assert [len(shard.pool) + len(shard.overdue) for shard in cache._driver.shards] == [1, 1]


def test_what_nobody_waited_for_is_never_another_reply(cache) -> None:
    """A reply that comes late is not taken for that of the next request."""
    for number in range(200):
        word = b"%d" % number
        found = ask(cache, (b"ECHO", word), enough=number % 3)
        assert set(map(tuple, found.values())) <= {(word,)}


def test_commands_of_one_thread_keep_their_order(cache, servers) -> None:
    """What is sent behind an unanswered request takes effect behind it, from any thread."""
    pool = cache._driver.shards[0].pool
    for connection in [pool.open(time.monotonic() + 5) for _ in range(2)]:
        pool.release(connection)
    server = server_of(servers, cache, 0)
    server.pause()
    steps = [threading.Event() for _ in range(2)]

    def work(key: bytes, mine: int, theirs: int) -> None:
        ask(cache, (b"SET", key, b"1"), places=(0,), enough=0)
        steps[mine].set()
        steps[theirs].wait(20)
        ask(cache, (b"DEL", key), places=(0,), enough=0)

    threads = [threading.Thread(target=work, args=one) for one in ((b"a", 0, 1), (b"b", 1, 0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.resume()
    while cache._driver.shards[0].overdue:
        ask(cache, (b"PING",), places=(0,), enough=1)
    assert ask(cache, (b"EXISTS", b"a", b"b"), places=(0,), enough=1) == {0: [0]}


def test_link_that_owes_is_left_to_its_thread(cache, servers) -> None:
    """A thread does not send behind another's overdue reply: requests might change their order."""
    pool = cache._driver.shards[0].pool
    for connection in [pool.open(time.monotonic() + 5) for _ in range(2)]:
        pool.release(connection)
    server_of(servers, cache, 0).pause()
    late = cache._driver.shards[0].overdue.by_thread
    ask(cache, (b"PING",), places=(0,), enough=0)
    mine = late[threading.get_ident()].connection
    thread = threading.Thread(
        target=ask, args=(cache, (b"PING",)), kwargs={"places": (0,), "enough": 0}
    )
    thread.start()
    thread.join()
    assert (len(late), late[threading.get_ident()].connection is mine) == (2, True)


def test_overdue_is_a_timeout(cache, servers) -> None:
    """A shard that still owes a reply when its time is over is called hung, and left alone."""
    ask(cache, (b"PING",))
    server_of(servers, cache, 0).pause()
    assert isinstance(ask(cache, (b"PING",), timeout=0.05)[0], ShardTimeout)
    shard = cache._driver.shards[0]
    assert (shard.breaker.state, len(shard.overdue)) == (State.CLOSED, 1)
    assert isinstance(ask(cache, (b"PING",), timeout=0.05)[0], ShardTimeout)
    assert (shard.breaker.state, len(shard.overdue)) == (State.OPEN, 0)
    assert isinstance(ask(cache, (b"PING",))[0], ShardOut)


def test_being_asked_again_does_not_put_off_the_due_time(cache, servers) -> None:
    """However often a hung shard is asked, it is found out when its first reply is overdue."""
    ask(cache, (b"PING",))
    server_of(servers, cache, 0).pause()
    shard = cache._driver.shards[0]
    ask(cache, (b"PING",), enough=0, timeout=0.2)
    [first] = shard.overdue.by_thread.values()
    for _ in range(5):
        ask(cache, (b"PING",), enough=0, timeout=50)
    [late] = shard.overdue.by_thread.values()
    assert (late.due, late.owed) == (first.due, 6)


def test_undoing_reaches_a_hung_shard(cache, servers) -> None:
    """A compensating command goes out behind its overdue request; no other command does."""
    ask(cache, (b"PING",))
    server = server_of(servers, cache, 0)
    for undo, left in ((True, 0), (False, 1)):
        server.pause()
        ask(cache, (b"SET", b"k", b"1"), places=(0,), enough=1, timeout=0.05)
        ask(cache, (b"DEL", b"k"), places=(0,), enough=1, undo=undo)
        server.resume()
        while cache._driver.shards[0].breaker.state is not State.CLOSED:
            ask(cache, (b"PING",))
        assert ask(cache, (b"EXISTS", b"k"))[0] == [left]


def test_dead_kept_link_is_replaced(cache, servers) -> None:
    """A server that restarted costs a retry, no failure, also where a reply was overdue."""
    for enough in (2, 0):
        ask(cache, (b"PING",), enough=enough)
        for server in servers.servers:
            server.restart()
        assert ask(cache, (b"ECHO", b"x")) == {0: [b"x"], 1: [b"x"]}
        assert [shard.tally.failures for shard in cache._driver.shards] == [0, 0]


def test_dead_server(cache, servers) -> None:
    """A server that is gone is an error of its own, and hinders nobody."""
    ask(cache, (b"PING",))
    server_of(servers, cache, 0).kill()
    found = ask(cache, (b"ECHO", b"x"))
    assert (type(found[0]), found[1]) == (ShardUnavailable, [b"x"])


@pytest.mark.parametrize("how", ["broadcast", "late broadcast", "listen"])
def test_trial_place_is_given_back(cache, how) -> None:
    """A shard on trial gets back into service by answers to votes and listeners, late ones too."""
    ask(cache, (b"PING",))
    shard = cache._driver.shards[0]
    shard.breaker.state, shard.breaker.allowance = State.HALF_OPEN, 1
    for _ in range(10):
        if how == "listen":
            assert shard.listen((b"BLPOP", b"nobody pushes", b"0.001"), 5) is None
        else:
            ask(cache, (b"PING",), places=(0,), enough=int(how == "broadcast"))
            while any(not late.connection._poll(0) for late in shard.overdue.by_thread.values()):
                time.sleep(0.001)
    assert (shard.breaker.state, shard.breaker.trials) == (State.CLOSED, 0)


def test_error_of_take(cache) -> None:
    """What ``take`` raises comes out, and no place on trial and no connection is lost with it."""

    def take(place, outcome, run):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_broadcast(
            cache._driver.shards,
            Broadcast([Batch(0, [(b"PING",)], True)], take, 5.0),
            time.monotonic,
        )
    assert ask(cache, (b"ECHO", b"x"))[0] == [b"x"]


def test_closed(cache) -> None:
    """A closed client sends nothing and keeps nothing."""
    ask(cache, (b"PING",), enough=0)
    cache.close()
    assert [len(shard.overdue) for shard in cache._driver.shards] == [0, 0]
    with pytest.raises(ClientClosed):
        ask(cache, (b"PING",))
