"""A client of masters behind real Sentinels: addresses move, keys do not."""

import threading
import time
from collections import Counter
from typing import Any, Self

import pytest

from shardcache import Event
from shardcache.embedded import LocalSentinels
from shardcache.errors import DiscoveryFailed, InvalidURL, QuorumUnavailable
from shardcache.flows.lock import Voters
from shardcache.locks import QuorumLock
from tests.waiting import until

pytestmark = pytest.mark.long

KEYS = [f"k{n}" for n in range(60)]


def key_of(cache: Any, shard: str) -> str:
    """Return a key that lives on this shard."""
    return next(key for key in KEYS if cache.explain(key).shard == shard)


def port_of(cache: Any, shard: str) -> int:
    """Return the port of the server at which the client has the shard."""
    return int(cache.explain(key_of(cache, shard)).address.rpartition(":")[2].partition("/")[0])


def kinds(events: list[Event], shard: str) -> set[str]:
    return {event.kind for event in events if event.shard == shard}


def test_masters_are_the_nodes(watched: LocalSentinels, client: Any) -> None:
    """The ring has the names of the masters, and each key is stored at the master of its name."""
    cache = client(watched.url)
    assert cache.set_many(dict.fromkeys(KEYS, 1)) == []
    assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 1)
    assert {cache.explain(key).shard for key in KEYS} == {"a", "b", "c"}
    for name in "abc":
        assert port_of(cache, name) == watched.master(name).port


@pytest.mark.parametrize("how", ["constructor", "from_url"])
def test_settings(watched: LocalSentinels, colour: Any, how: str) -> None:
    """The constructor takes the URL too, and then the settings beside it."""
    with (
        colour(watched.url, namespace="x")
        if how == "constructor"
        else colour.from_url(f"{watched.url}&namespace=x&max_idle=3")
    ) as cache:
        assert cache.set("a", 1) is True
        assert cache.explain("a").wire_key == b"x:a"


def test_one_sentinel_is_enough(watched: LocalSentinels, client: Any) -> None:
    """One Sentinel names the others."""
    port = watched.sentinels[0].port
    cache = client(f"redis+sentinel://127.0.0.1:{port}?masters=a,b")
    assert cache.set("x", 1) is True
    assert {cache.explain(key).shard for key in KEYS} == {"a", "b"}


def test_unknown_master(watched: LocalSentinels, client: Any) -> None:
    """A master that the Sentinels do not know is named by the error."""
    cache = client(watched.url.replace("masters=a,", "masters=a,zzz,"), on_unavailable="raise")
    with pytest.raises(DiscoveryFailed, match="knows a master 'zzz'"):
        cache.get("x")


def test_lock_without_a_client(watched: LocalSentinels) -> None:
    """A lock that is to find its voters by Sentinels is refused with the way to have it."""
    with pytest.raises(InvalidURL, match="stands for all servers of a client"):
        QuorumLock("l", nodes=watched.url)


def test_passwords(client: Any) -> None:
    """Masters and Sentinels each have their password, in the URL."""
    with LocalSentinels(["a"], password="p/ss:1", sentinel_password="s?cr+t&2") as servers:
        cache = client(servers.url)
        assert cache.set("x", 1) is True
        assert cache.get("x") == 1


def test_wrong_password_of_sentinels(client: Any, events: list[Event]) -> None:
    """A wrong password of the Sentinels is told, and where the right one stands."""
    with LocalSentinels(["a"], sentinel_password="right") as servers:
        cache = client(servers.url.replace("=right", "=hunter2"), on_unavailable="raise")
        with pytest.raises(DiscoveryFailed, match="sentinel_password") as caught:
            cache.get("x")
        assert "hunter2" not in str(caught.value)
        until(lambda: any(event.kind == "auth_failed" for event in events))


class Load:
    """Writes and reads a key of each shard all the time, in threads; nothing may be raised."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.raised: list[BaseException] = []
        self.wrong: list[Any] = []
        self.written: Counter[str] = Counter()
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(key, number))
            for number, name in enumerate("abc")
            for key in [key_of(cache, name)]
        ]

    def _run(self, key: str, number: int) -> None:
        try:
            while not self._end.is_set():
                if self.cache.set(key, number):
                    self.written[key] += 1
                found = self.cache.get(key)
                if found not in (None, number):
                    self.wrong.append(found)
                time.sleep(0.001)
        except BaseException as error:
            self.raised.append(error)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


def test_master_killed_under_load(mortal: LocalSentinels, client: Any, events: Any) -> None:
    """The promoted replica is written to; other shards notice nothing, and no key moves."""
    cache = client(mortal.url, timeout=2.0)
    until(lambda: cache.set_many(dict.fromkeys(KEYS, 0)) == [])
    homes = {key: cache.explain(key).shard for key in KEYS}
    mortal.wait_until_ok()
    with Load(cache) as load:
        key = key_of(cache, "a")
        until(lambda: load.written[key])
        old = mortal.master("a")
        old.kill()
        until(lambda: port_of(cache, "a") != old.port)
        before = load.written[key]
        until(lambda: load.written[key] > before)
    assert (load.raised, load.wrong) == ([], [])
    assert {key: cache.explain(key).shard for key in KEYS} == homes
    until(lambda: port_of(cache, "a") == mortal.master("a").port)  # it may know it first
    assert cache.stats().shards["b"].failures == cache.stats().shards["c"].failures == 0
    assert "shard_moved" in kinds(events, "a")


def test_old_master_comes_back(mortal: LocalSentinels, client: Any) -> None:
    """A former master that comes back is a replica, and is not written to."""
    cache = client(mortal.url, timeout=2.0)
    until(lambda: cache.set("x", 1))
    key = key_of(cache, "a")
    old = mortal.master("a")
    old.kill()
    until(lambda: cache.set(key, 1))
    old.start()
    mortal.wait_until_ok()
    assert mortal.master("a") is not old
    assert cache.set(key, 2) is True
    assert port_of(cache, "a") == mortal.master("a").port


def test_failover_of_an_operator(mortal: LocalSentinels, client: Any) -> None:
    """A master that is well and loses its role is followed, there and back."""
    cache = client(mortal.url, timeout=2.0)
    until(lambda: cache.set_many(dict.fromkeys(KEYS, 0)) == [])  # the Sentinels have answered
    for _ in range(2):
        new = mortal.fail_over("b")
        until(lambda new=new: port_of(cache, "b") == new.port)
        key = key_of(cache, "b")
        until(lambda key=key: cache.set(key, 1))
    assert cache.stats().shards["b"].moves == 2


def test_all_sentinels_out(mortal: LocalSentinels, client: Any, events: list[Event]) -> None:
    """Without Sentinels calls go on with the last good addresses; an event tells, once."""
    cache = client(mortal.url, options={"discovery_interval": 0.05})
    assert cache.set("x", 1) is True
    for sentinel in mortal.sentinels:
        sentinel.kill()
    until(lambda: any(event.kind == "discovery_failed" for event in events))
    failures = cache.stats().discovery.failures
    until(lambda: cache.stats().discovery.failures > failures + 1)
    assert cache.get("x") == 1
    assert [event.kind for event in events] == ["discovery_failed"]
    assert "no nodes from the Sentinels 127.0.0.1" in str(events[0].error)
    mortal.sentinels[0].start()
    until(lambda: events[-1].kind == "discovery_back")
    assert cache.get("x") == 1


def test_sentinels_that_hang(mortal: LocalSentinels, client: Any) -> None:
    """Two Sentinels that hang hold nothing up: the first answer of the third is used."""
    for sentinel in mortal.sentinels[1:]:
        sentinel.pause()
    cache = client(mortal.url)
    assert cache.set("x", 1) is True


def test_sentinel_that_is_behind(mortal: LocalSentinels, client: Any) -> None:
    """A Sentinel that slept through a failover, and answers alone, does not turn it back."""
    cache = client(mortal.url, timeout=2.0, options={"discovery_interval": 0.05})
    until(lambda: cache.set("x", 1) is True)
    old = mortal.master("a")
    late = mortal.sentinels[2]
    late.pause()
    old.kill()
    until(lambda: port_of(cache, "a") != old.port)
    for sentinel in mortal.sentinels[:2]:
        sentinel.pause()
    late.resume()
    polls = cache.stats().discovery.polls
    until(lambda: cache.stats().discovery.polls > polls + 1)
    assert port_of(cache, "a") != old.port
    until(lambda: cache.set(key_of(cache, "a"), 1) is True)


def test_no_answer_yet(client: Any) -> None:
    """Without any Sentinel, calls end as with shards that are out, and say why."""
    cache = client("redis+sentinel://127.0.0.1:1?masters=a", on_unavailable="raise", timeout=1.0)
    with pytest.raises(DiscoveryFailed, match=r"Sentinel 127.0.0.1:1: .*refused"):
        cache.get("x")
    degrading = client("redis+sentinel://127.0.0.1:1?masters=a", timeout=1.0)
    assert (degrading.get("x"), degrading.set("x", 1)) == (None, False)


def test_lock_over_a_failover(mortal: LocalSentinels, client: Any) -> None:
    """A lock stays with its holder, and can be extended, while a voter is failed over."""
    cache = client(mortal.url, timeout=2.0)
    lock, other = cache.lock("l", ttl=120), cache.lock("l", ttl=120)
    until(lambda: attempt(lock))
    mortal.master("a").kill()
    until(lambda: cache.set(key_of(cache, "a"), 1))
    assert attempt(other) is False
    assert lock.held
    until(lambda: extended(lock))
    token = lock.fencing_token
    lock.release()
    until(lambda: attempt(other))
    assert other.fencing_token > token


def attempt(lock: Any) -> bool:
    """Try once; voters that are out, or must wait, are no error here."""
    try:
        return bool(lock.acquire(blocking=False))
    except QuorumUnavailable:
        return False


def extended(lock: Any) -> bool:
    try:
        return bool(lock.extend())
    except QuorumUnavailable:
        return False


def test_voters_may_be_promoted_replicas(watched: LocalSentinels, client: Any) -> None:
    """Locks are told that a voter may be a replica now that has not got all grants."""
    cache = client(watched.url)
    assert cache._lock_backend.planner.registry.status(Voters((0,), ("a",))).promotes
