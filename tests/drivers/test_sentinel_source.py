"""Masters asked of Sentinels that agree, disagree, lie, refuse, hang or are out."""

import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from shardcache import Options
from shardcache.drivers.sentinel_source import SentinelSource
from shardcache.errors import DiscoveryFailed
from shardcache.events import Event
from shardcache.topology.nodes import members
from shardcache.topology.sentinel_set import SentinelSet
from shardcache.url_options import read_url
from tests.hostile.sentinel import FakeSentinel
from tests.waiting import until

LONG = 20.0  # seconds: longer than anything takes
OLD, NEW = ("10.0.0.1", 1), ("10.0.0.2", 2)


@pytest.fixture
def sentinels() -> Iterator[Callable[..., FakeSentinel]]:
    """Make Sentinels that are ended at the end."""
    with ExitStack() as stack:
        yield lambda masters, **how: stack.enter_context(FakeSentinel(masters, **how))


def source_of(
    *asked: FakeSentinel,
    query: str = "masters=a",
    timeout: float = LONG,
    grace: float = LONG,
    scheme: str = "redis",
    login: str = "",
    **options: Any,
) -> SentinelSource:
    hosts = ",".join(f"{one.address.host}:{one.address.port}" for one in asked)
    urls = read_url(f"{scheme}+sentinel://{login}{hosts}/0?{query}").urls
    return SentinelSource(
        SentinelSet.of(urls),
        Options(**options),
        timeout=timeout,
        clock=time.monotonic,
        random=lambda: 0.0,
        grace=grace,
    )


def places(source: SentinelSource) -> dict[str, tuple[str, int]]:
    """Poll; return where each master is, as a client would have it."""
    found = members(source())
    return {one.node.name: (one.address.host, one.address.port) for one in found}


def masters(place: tuple[str, int], epoch: int, name: str = "a") -> dict[str, Any]:
    return {name: (*place, epoch)}


@pytest.mark.parametrize("resp3", [True, False])
def test_all_agree(sentinels: Any, resp3: bool) -> None:
    """Each master is a node with its name, at the address that the Sentinels say."""
    said = {"a": (*OLD, 1), "b": (*NEW, 4)}
    asked = [sentinels(said, resp3=resp3) for _ in range(3)]
    assert places(source_of(*asked, query="masters=a,b")) == {"a": OLD, "b": NEW}


def test_login_of_the_masters(sentinels: Any) -> None:
    """The nodes have the login and the database of the URL; the Sentinels hear none of it."""
    asked = sentinels(masters(OLD, 1))
    source = source_of(asked, login="u:hunter2@", query="masters=a:2")
    [node] = members(source())
    assert (node.address.username, node.address.password) == ("u", "hunter2")
    assert node.node.weight == 2
    assert not any(b"hunter2" in part for command in asked.asked for part in command)


@pytest.mark.parametrize("resp3", [True, False])
@pytest.mark.parametrize(
    ("login", "query"),
    [
        (("secret",), "sentinel_password=secret"),
        (("su", "secret"), "sentinel_username=su&sentinel_password=secret"),
    ],
)
def test_login_of_the_sentinels(sentinels: Any, resp3: bool, login: Any, query: str) -> None:
    """Sentinels with a password or a user are asked with their own login."""
    asked = sentinels(masters(OLD, 1), login=login, resp3=resp3)
    assert places(source_of(asked, query=f"masters=a&{query}")) == {"a": OLD}


def test_refused_login(sentinels: Any, events: list[Event]) -> None:
    """A refused login is an error that says where the right one stands, and one event each time."""
    asked = sentinels(masters(OLD, 1), login=("secret",))
    source = source_of(asked, query="masters=a&sentinel_password=hunter2", on_event=events.append)
    for _ in range(2):
        with pytest.raises(DiscoveryFailed, match=r"sentinel_password=… in the query") as caught:
            source()
        assert "hunter2" not in str(caught.value)
    told = ("auth_failed", f"Sentinel 127.0.0.1:{asked.address.port}")
    assert [(event.kind, event.shard) for event in events] == [told]
    # It is accepted, and refused once more.
    asked._login = (b"hunter2",)
    assert places(source) == {"a": OLD}
    asked._login = (b"secret",)
    with pytest.raises(DiscoveryFailed):
        source()
    assert [(event.kind, event.shard) for event in events] == [told] * 2


def test_leader_of_a_failover(sentinels: Any) -> None:
    """The Sentinel that knows of the failover first is followed, though the others are more."""
    asked = [sentinels(masters(OLD, 1)) for _ in range(3)]
    source = source_of(*asked)
    assert places(source) == {"a": OLD}
    asked[2].masters = masters(NEW, 2)
    assert places(source) == {"a": NEW}
    asked[0].masters = asked[1].masters = masters(NEW, 2)
    assert places(source) == {"a": NEW}


def test_minority_that_is_behind(sentinels: Any, events: list[Event]) -> None:
    """Where only Sentinels that are behind answer, the last good address stays; an event tells."""
    asked = [sentinels(masters(NEW, 2)) for _ in range(3)]
    source = source_of(*asked, on_event=events.append)
    assert places(source) == {"a": NEW}
    asked[0].masters = masters(OLD, 1)
    for one in asked[1:]:
        one.refuses.add((b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME"))
    for _ in range(2):
        assert places(source) == {"a": NEW}
    for one in asked[1:]:
        one.refuses.clear()
    assert places(source) == {"a": NEW}
    assert [(event.kind, event.shard) for event in events] == [
        ("discovery_failed", "a"),
        ("discovery_back", "a"),
    ]
    assert "are behind about 'a': they say 10.0.0.1:1; Sentinel 127.0.0.1" in str(events[0].error)


def test_no_word_of_the_majority(sentinels: Any) -> None:
    """Sentinels that were set up apart, as many of one kind as of the other, give no address."""
    asked = [sentinels(masters(OLD, 0)), sentinels(masters(NEW, 0))]
    with pytest.raises(DiscoveryFailed, match=r"disagree about 'a': 10.0.0.1:1, 10.0.0.2"):
        source_of(*asked)()
    asked.append(sentinels(masters(NEW, 0)))
    assert places(source_of(*asked)) == {"a": NEW}


def test_unknown_master(sentinels: Any) -> None:
    """A master that no Sentinel knows is named by the error."""
    asked = [sentinels(masters(OLD, 1)) for _ in range(2)]
    with pytest.raises(DiscoveryFailed, match=r"no Sentinel that answers knows a master 'b'"):
        source_of(*asked, query="masters=a,b")()


def test_removed_master(sentinels: Any, events: list[Event]) -> None:
    """A master that was known before keeps its address, and the others are followed."""
    asked = sentinels({"a": (*OLD, 1), "b": (*OLD, 1)})
    source = source_of(asked, query="masters=a,b", on_event=events.append)
    assert places(source) == {"a": OLD, "b": OLD}
    asked.masters = masters(NEW, 2)
    assert places(source) == {"a": NEW, "b": OLD}
    assert [(event.kind, event.shard) for event in events] == [("discovery_failed", "b")]


def test_one_knows_the_master(sentinels: Any) -> None:
    """It is enough if one of those that answer knows a master."""
    asked = [sentinels({}), sentinels(masters(OLD, 1)), sentinels({})]
    assert places(source_of(*asked)) == {"a": OLD}


def test_all_out(sentinels: Any) -> None:
    """If none answers, the error says why of each of them."""
    asked = [sentinels(masters(OLD, 1)) for _ in range(2)]
    source = source_of(*asked)
    asked[0].__exit__()
    asked[1].refuses.add((b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME"))
    with pytest.raises(DiscoveryFailed) as caught:
        source()
    said = str(caught.value).split("; ")
    assert f"Sentinel 127.0.0.1:{asked[0].address.port}: " in said[0]
    assert f"Sentinel 127.0.0.1:{asked[1].address.port}: NOPERM" in said[1]


def test_hung_minority(sentinels: Any) -> None:
    """One that hangs holds up the majority for a moment, and only once."""
    asked = [sentinels(masters(OLD, 1)) for _ in range(3)]
    asked[1].free.clear()
    source = source_of(*asked, timeout=3600.0, grace=0.05)
    assert places(source) == {"a": OLD}
    source._grace = 3600.0
    assert places(source) == {"a": OLD}
    asked[1].free.set()
    until(lambda: places(source) and not source._asked[1].silent)


def test_hung_majority(sentinels: Any) -> None:
    """Many that are out, and are still named by the others, cost a timeout once."""
    asked = [sentinels(masters(OLD, 1)) for _ in range(5)]
    for one in asked[2:]:
        one.free.clear()
    source = source_of(*asked, timeout=1.0)
    assert places(source) == {"a": OLD}
    source._timeout, source._grace = 3600.0, 0.05
    assert places(source) == {"a": OLD}


@pytest.mark.parametrize("how", ["silent", "plays dead"])
def test_all_hang(sentinels: Any, how: str) -> None:
    """If all hang, there is an error by the timeout."""
    asked = [sentinels(masters(OLD, 1)) for _ in range(3)]
    for one in asked:
        one.plays_dead = how == "plays dead"
        if how == "silent":
            one.free.clear()
    with pytest.raises(DiscoveryFailed, match="Sentinel 127"):
        source_of(*asked, timeout=0.2)()


def test_a_data_server(sentinels: Any) -> None:
    """A server that is no Sentinel is refused as that."""
    asked = sentinels(masters(OLD, 1))
    asked._hello = lambda command: b"%1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n"
    with pytest.raises(DiscoveryFailed, match="is a data server and no Sentinel"):
        source_of(asked)()


def test_other_sentinels(sentinels: Any) -> None:
    """Sentinels that are named by others are asked too, and go on when the seed is out."""
    seed, other, third = (sentinels(masters(OLD, 1)) for _ in range(3))
    everyone = [one.named for one in (seed, other, third)]
    for one in (seed, other, third):
        one.others = [named for named in everyone if named[0] != one.id]
    source = source_of(seed)
    assert places(source) == {"a": OLD}
    assert {*source.addresses} == {one.address for one in (seed, other, third)}
    seed.__exit__()
    other.masters = third.masters = masters(NEW, 2)
    assert places(source) == {"a": NEW}
    assert {*source.addresses} == {one.address for one in (seed, other, third)}


def test_one_under_two_addresses(sentinels: Any) -> None:
    """A seed that others name by another address is known by its id, and counts once."""
    seed, other = sentinels(masters(OLD, 0)), sentinels(masters(NEW, 0))
    other.others = [(seed.id, "127.0.0.2", seed.address.port)]
    seed.others = [other.named]
    source = source_of(seed, other)
    with pytest.raises(DiscoveryFailed, match="disagree"):
        source()
    assert source.addresses == (seed.address, other.address)


def test_many_named(sentinels: Any) -> None:
    """However many Sentinels one names, the number of those that are asked has a limit."""
    seed = sentinels(masters(OLD, 1))
    seed.others = [(f"id{at}", f"127.0.1.{at}", 1) for at in range(100)]
    source = source_of(seed)
    assert places(source) == {"a": OLD}
    assert len(source.addresses) == 16


def test_address_map(sentinels: Any) -> None:
    """Announced addresses of masters and Sentinels are put into reachable ones."""
    seed, other = (sentinels(masters(OLD, 1)) for _ in range(2))
    seed.others = [(other.id, "10.9.9.9", 26379)]
    reach = {"10.0.0.1:1": "localhost:7", ("10.9.9.9", 26379): ("127.0.0.1", other.address.port)}
    source = source_of(seed, address_map=reach)
    assert places(source) == {"a": ("localhost", 7)}
    assert source.addresses == (seed.address, other.address)


@pytest.mark.parametrize(
    "junk",
    [
        b"*3\r\n+a\r\n+b\r\n+c\r\n",
        b"$-1\r\n",
        b"*2000000000\r\n",
        b"$999999999\r\n",
        b"?\r\n",
        b"%1\r\n+ip\r\n*1\r\n:1\r\n",
        b"",
    ],
)
def test_junk(sentinels: Any, junk: bytes) -> None:
    """What a broken Sentinel says harms nothing, and is no word."""
    good, bad = sentinels(masters(OLD, 1)), sentinels(masters(NEW, 2))
    say = bad._say
    bad.answer = lambda command: [junk] if command[0] == b"SENTINEL" else say(command)
    source = source_of(bad, good, timeout=1.0)
    assert places(source) == {"a": OLD}


def test_many_failovers(sentinels: Any) -> None:
    """Polls one behind the other find each failover."""
    asked = [sentinels(masters(OLD, 1)) for _ in range(3)]
    source = source_of(*asked)
    for epoch in range(2, 8):
        place = ("10.0.0.9", epoch)
        asked[epoch % 3].masters = masters(place, epoch)
        assert places(source) == {"a": place}


class Follower:
    """Counts how often it is to ask anew."""

    def __init__(self) -> None:
        self.number = 0

    def refresh(self) -> None:
        self.number += 1


def test_following(sentinels: Any) -> None:
    """Its listener has its thread from the first poll on, and again where that is gone."""
    asked, follower = sentinels(masters(OLD, 1)), Follower()
    source = source_of(asked)
    source.follow(follower.refresh)
    assert asked.subscribers == 0
    assert places(source) == {"a": OLD}
    until(lambda: follower.number == 1)
    asked.publish()
    until(lambda: follower.number == 2)
    source._listener.after_fork()  # as in a forked child
    assert places(source) == {"a": OLD}
    until(lambda: asked.subscribers == 2)
    source.close()
    until(lambda: not source._listener._worker.is_alive())


def test_following_holds_nobody(sentinels: Any) -> None:
    """A source that nobody has any more goes at once, and its listener with it."""
    asked, follower = sentinels(masters(OLD, 1)), Follower()
    source = source_of(asked)
    source.follow(follower.refresh)
    source()
    until(lambda follower=follower: follower.number == 1)
    thread = source._listener._worker
    gone = [weakref.ref(source._listener), weakref.ref(follower)]
    del source, follower
    until(lambda: not thread.is_alive())
    assert [one() for one in gone] == [None, None]


def test_shown(sentinels: Any) -> None:
    """It is called by the Sentinels of the URL, without any login."""
    asked = sentinels(masters(OLD, 1))
    source = source_of(asked, login=":hunter2@", query="masters=a&sentinel_password=hunter2")
    assert source.shown == f"the Sentinels 127.0.0.1:{asked.address.port}"


def test_replicas(sentinels: Any) -> None:
    """They are asked for where they are read from, and stay while no word counts."""
    asked = [sentinels(masters(OLD, 1)) for _ in range(3)]
    for one in asked:
        one.replicas["a"] = [("10.0.0.9", 9, "slave", "ok"), ("10.0.0.8", 8, "s_down", "ok")]
    source = source_of(
        *asked, read_from="nearest", login=":hunter2@", address_map={("10.0.0.9", 9): ("nat", 99)}
    )
    assert source.replicas == {}
    assert places(source) == {"a": OLD}
    [address] = source.replicas["a"]
    assert (address.host, address.port, address.password) == ("nat", 99, "hunter2")
    # Where only Sentinels that are behind answer, the replicas stay, too.
    asked[0].masters = masters(NEW, 0)
    asked[0].replicas["a"] = [("10.0.0.7", 7, "slave", "ok")]
    for one in asked[1:]:
        one.refuses.add((b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME"))
    assert places(source) == {"a": OLD}
    assert source.replicas["a"] == (address,)
    # A new word counts, and has replicas of its own.
    asked[0].masters = masters(NEW, 2)
    assert places(source) == {"a": NEW}
    assert [one.port for one in source.replicas["a"]] == [7]


def test_replicas_of_nobody(sentinels: Any) -> None:
    """Nobody asks for them where the masters are read from."""
    asked = sentinels(masters(OLD, 1))
    source = source_of(asked)
    places(source)
    assert source.replicas == {}
    assert (b"SENTINEL", b"REPLICAS", b"a") not in asked.asked
