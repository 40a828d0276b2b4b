"""Host names that hang, fail or move while a shard is used: real servers, both clients."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from shardcache import Event, Options
from shardcache.embedded import LocalShards
from shardcache.errors import ShardCacheError, ShardUnavailable
from tests.waiting import until


@pytest.fixture
def mortal() -> Iterator[LocalShards]:
    """Two servers of this test alone, on ports of this machine."""
    with LocalShards(2, tcp=True) as servers:
        yield servers


@pytest.fixture
def ports(mortal) -> list[int]:
    """The ports of the servers."""
    return [int(urlsplit(url).port or 0) for url in mortal.urls.values()]


@pytest.fixture
def named(make, host, events) -> Callable[..., Any]:
    """Make a client of one shard that has the name.

    It is looked up at each new connection, unless the test says otherwise.
    """

    def build(dns_ttl: float = 0, **settings: Any) -> Any:
        options = Options(dns_ttl=dns_ttl, on_event=events.append, first_probe=0.05)
        return make({"a": f"redis://{host}"}, on_unavailable="raise", options=options, **settings)

    return build


def eventually(condition: Callable[[], Any]) -> None:
    """Wait until something is so; what a call raises meanwhile does not matter."""

    def holds() -> Any:
        with suppress(ShardCacheError):
            return condition()
        return None

    until(holds)


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


@pytest.mark.parametrize("how", ["hangs", "fails"])
def test_connected(names, host, named, ports, events, how) -> None:
    """With a connection or a known address nothing is lost; what goes wrong is told once."""
    names.say(host, ("127.0.0.1", ports[0]))
    cache = named()
    assert cache.set("k", 1)
    if how == "hangs":
        names.hang(host)
    else:
        names.say(host, socket.gaierror(socket.EAI_AGAIN, "try again"))
    for _ in range(20):
        assert (cache.get("k"), cache.ping()["a"].error) == (1, None)
    if how == "fails":
        eventually(lambda: "lookup_failed" in kinds(events) or not cache.ping())
        assert cache.stats().shards["a"].failed_lookups >= 1
        names.say(host, ("127.0.0.1", ports[0]))
        eventually(lambda: cache.ping() and "lookup_back" in kinds(events))
        assert kinds(events) == ["lookup_failed", "lookup_back"]
    else:
        assert names.asked == [host] * 2
    assert cache.stats().shards["a"].failures == 0


@pytest.mark.parametrize("how", ["hangs", "fails"])
def test_restarted_at_its_address(names, host, named, mortal, ports, how) -> None:
    """It comes back without the resolver, which has one thread of ours at the most."""
    names.say(host, ("127.0.0.1", ports[0]))
    cache = named(timeout=1.0)
    cache.set("k", 1)
    if how == "hangs":
        names.hang(host)
    else:
        names.say(host, socket.gaierror(socket.EAI_AGAIN, "try again"))
    mortal.servers[0].kill()
    with pytest.raises(ShardUnavailable):
        cache.get("k")
    mortal.servers[0].start()
    eventually(lambda: cache.set("k", 2) and cache.get("k") == 2)
    if how == "hangs":
        assert names.asked == [host] * 2


def test_moved_while_the_former_server_lives(names, host, named, mortal, ports, events) -> None:
    """Connections to it are closed when they come back; nothing fails."""
    names.say(host, ("127.0.0.1", ports[0]))
    cache = named()
    cache.set("k", "former")
    names.say(host, ("127.0.0.1", ports[1]))
    eventually(lambda: cache.ping() and "shard_moved" in kinds(events))
    assert cache.get("k") is None
    assert cache.set("k", "new")
    with redis.Redis.from_url(mortal.urls["shard-1"]) as former:
        eventually(lambda: len(former.client_list()) == 1)
    assert (kinds(events), cache.stats().shards["a"].failures) == (["shard_moved"], 0)


# StackExchange.Redis #1015 and #1891, drogon #2548, redisson #1178: a name moves when its server
# is started elsewhere
def test_moved_when_the_former_server_died(names, host, named, mortal, ports) -> None:
    """The next call finds the new address, though the answer that it has is the former one."""
    names.say(host, ("127.0.0.1", ports[0]))
    cache = named(dns_ttl=3600)
    cache.set("k", "former")
    names.say(host, ("127.0.0.1", ports[1]))
    mortal.servers[0].kill()
    eventually(lambda: cache.set("k", "new") and cache.get("k") == "new")


def test_moved_from_a_server_that_hangs(names, host, named, mortal, ports) -> None:
    """It costs a deadline, and then the shard is served by the new address."""
    names.say(host, ("127.0.0.1", ports[0]))
    cache = named(dns_ttl=3600, timeout=1.0)
    cache.set("k", "former")
    names.say(host, ("127.0.0.1", ports[1]))
    mortal.servers[0].pause()
    eventually(lambda: cache.set("k", "new") and cache.get("k") == "new")
    mortal.servers[0].resume()


@pytest.mark.parametrize("seen", ["by a write", "by a new connection"])
def test_moved_to_the_new_primary(names, host, named, mortal, ports, events, seen) -> None:
    """A server that has become a replica refuses writes, and is none to connect to.

    Then the name is looked up, though the answer is young.
    """
    names.say(host, ("127.0.0.1", ports[0]))
    cache = named(dns_ttl=3600)
    cache.set("k", 1)
    names.say(host, ("127.0.0.1", ports[1]))
    with redis.Redis.from_url(mortal.urls["shard-1"]) as former:
        former.replicaof("127.0.0.1", ports[1])
        eventually(lambda: former.info("replication")["master_link_status"] == "up")
    if seen == "by a write":
        eventually(lambda: cache.set("k", 2))
    else:
        eventually(lambda: cache.ping() and "shard_moved" in kinds(events))
    assert "shard_moved" in kinds(events)
    eventually(lambda: cache.set("k", 3) and cache.get("k") == 3)


def test_one_of_many_addresses(names, host, named, ports) -> None:
    """Of several, some refuse, some are silent, and one serves: the call is answered."""
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        names.say(
            host,
            nobody.getsockname(),
            silent.getsockname(),
            nobody.getsockname(),
            ("127.0.0.1", ports[0]),
        )
        cache = named(timeout=8.0)
        assert (cache.set("k", 1), cache.get("k")) == (True, 1)


def test_unknown_at_first(names, host, named, ports, events) -> None:
    """A name that does not exist yet makes the shard unavailable, and is asked for again."""
    names.say(host, socket.gaierror(socket.EAI_NONAME, "no such name"))
    cache = named()
    with pytest.raises(ShardUnavailable, match="no such name"):
        cache.get("k")
    names.say(host, ("127.0.0.1", ports[0]))
    eventually(lambda: cache.set("k", 1))
    assert kinds(events)[0] == "lookup_failed"
    assert "lookup_back" in kinds(events)
