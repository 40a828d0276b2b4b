"""One of three servers goes away under load and comes back: what callers see, and what it costs.

Six threads, or fifty tasks, read and write without a pause. Every value carries its key, so a
wrong one is told from a right one. Nothing is judged by a clock: what an outage cost is read from
the client's own counters and from the server's, and whatever has to happen is waited for.
"""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from operator import methodcaller
from zlib import crc32

import pytest
import redis

from shardcache import AsyncShardCache, ShardCache, Stats
from shardcache.errors import ShardOut, ShardTimeout, ShardUnavailable
from shardcache.stats import ShardStats

from .servers import BACKENDS, Fleet, Server

TIMEOUT = 2.0  # seconds; longer than a busy machine holds up a healthy server
LONG_TIMEOUT = 30.0  # seconds after which something that has to happen never will
A_FEW = 3
VICTIM = "b"
KEYS = [f"key-{i}" for i in range(90)]


def value_of(key: str) -> dict[str, str]:
    """Return the one right value of a key; lengths differ, so a shifted reply would not fit."""
    return {"key": key, "body": key * (crc32(key.encode()) % 200)}


def settings(urls: Mapping[str, str]) -> dict[str, object]:
    return {"nodes": urls, "namespace": "load", "default_ttl": None, "timeout": TIMEOUT}


@dataclass
class Witness:
    """What the callers saw. ``shard_of`` says where each key lives."""

    shard_of: Mapping[str, str]
    wrong: list[tuple[str, object]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # keys of shards that were never touched
    raised: list[BaseException] = field(default_factory=list)
    # By shard; threads may lose a count, which harms nobody.
    served: Counter[str] = field(default_factory=Counter)

    def read(self, asked: Iterable[str], found: Mapping[str, object]) -> None:
        for key in asked:
            if key not in found:
                self.without(key)
            elif found[key] != value_of(key):
                self.wrong.append((key, found[key]))
            else:
                self.served[self.shard_of[key]] += 1

    def without(self, key: str) -> None:
        """Note a key that was missed or not stored."""
        if self.shard_of[key] != VICTIM:
            self.lost.append(key)

    def more_served(self, *shards: str) -> Callable[[], bool]:
        """Return a condition: each shard has served a hundred more keys than now."""
        goal = {shard: self.served[shard] + 100 for shard in shards}
        return lambda: all(self.served[shard] >= count for shard, count in goal.items())


@dataclass
class Load:
    """Callers at work on a client."""

    witness: Witness
    stats: Callable[[], Stats]
    looks: int = 0  # connections that are the test's own

    def connections_of(self, server: Server) -> tuple[str, int, int]:
        """Return the server's run id, its connections since it started, and its connections now."""
        with redis.Redis.from_url(server.url) as client:
            info = client.info()
        self.looks += 1
        return info["run_id"], info["total_connections_received"], info["connected_clients"] - 1

    def until(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds."""
        deadline = time.monotonic() + LONG_TIMEOUT
        while not condition():
            assert self.witness.raised == []
            assert time.monotonic() < deadline, (
                f"still waiting: {self.stats()}, {self.witness.served}"
            )
            time.sleep(0.01)


def prepared(urls: Mapping[str, str]) -> Witness:
    """Store every key's value; return a witness who knows where they are."""
    with ShardCache(**settings(urls)) as cache:
        assert cache.set_many({key: value_of(key) for key in KEYS}) == []
        return Witness({key: cache.explain(key).shard for key in KEYS})


@contextmanager
def six_threads(urls: Mapping[str, str]) -> Iterator[Load]:
    """Share one client among threads."""
    witness, over = prepared(urls), threading.Event()

    def caller(seed: int) -> None:
        chance = random.Random(seed)
        try:
            while not over.is_set():
                one, *batch = chance.sample(KEYS, 12)
                witness.read(batch, cache.get_many(batch))
                witness.read([one], {one: value} if (value := cache.get(one)) is not None else {})
                unstored = cache.set_many({key: value_of(key) for key in batch[:4]})
                for key in unstored + [one] * (not cache.set(one, value_of(one))):
                    witness.without(key)
        except BaseException as error:
            witness.raised.append(error)

    with ShardCache(**settings(urls)) as cache:
        threads = [threading.Thread(target=caller, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        try:
            yield Load(witness, cache.stats)
        finally:
            over.set()
            for thread in threads:
                thread.join()


@contextmanager
def fifty_tasks(urls: Mapping[str, str]) -> Iterator[Load]:
    """Share one client among the tasks of an event loop, which runs in a thread."""
    witness, over = prepared(urls), threading.Event()
    cache = AsyncShardCache(**settings(urls))

    async def caller(seed: int) -> None:
        chance = random.Random(seed)
        try:
            while not over.is_set():
                one, *batch = chance.sample(KEYS, 12)
                witness.read(batch, await cache.get_many(batch))
                witness.read(
                    [one], {one: value} if (value := await cache.get(one)) is not None else {}
                )
                unstored = await cache.set_many({key: value_of(key) for key in batch[:4]})
                for key in unstored + [one] * (not await cache.set(one, value_of(one))):
                    witness.without(key)
        except BaseException as error:
            witness.raised.append(error)

    async def callers() -> None:
        async with cache:
            await asyncio.gather(*map(caller, range(50)))

    thread = threading.Thread(target=asyncio.run, args=(callers(),))
    thread.start()
    try:
        yield Load(witness, cache.stats)
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True)
class Crew:
    """Who calls: how many may wait for one shard at once, and how many connections they share."""

    start: Callable[[Mapping[str, str]], AbstractContextManager[Load]]
    callers: int
    connections: int


CREWS = {"6 threads": Crew(six_threads, 6, 6), "50 tasks": Crew(fifty_tasks, 50, 1)}


@dataclass(frozen=True)
class Outage:
    """What is done to a server and what undoes it; ``lasts`` if it goes on until undone."""

    begin: Callable[[Server], None]
    end: Callable[[Server], None] = lambda server: None
    lasts: bool = True


OUTAGES = {
    "kill": Outage(methodcaller("kill"), methodcaller("start")),
    "pause": Outage(methodcaller("pause"), methodcaller("unpause")),
    # It may be over before enough calls have failed to open the breaker: then the retry was the
    # cure.
    "restart": Outage(methodcaller("restart"), lasts=False),
    "network loss": Outage(methodcaller("cut_network"), methodcaller("restore_network")),
}


# Where a fault looks the same as in a container, processes do: they are killed and started in no
# time.
LOCAL = [backend for backend in BACKENDS if not backend.in_container]


@pytest.fixture(params=CREWS)
def crew(request: pytest.FixtureRequest) -> Crew:
    """Run the test once with threads and once with tasks."""
    return CREWS[request.param]


def noticed(shard: ShardStats, outage: Outage) -> bool:
    return shard.ejections > 0 if outage.lasts else shard.ejections + shard.retries > 0


@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES)
def test_one_of_three_goes_and_comes_back(fleet: Fleet, crew: Crew, outage: Outage) -> None:
    """No error, no wrong value, no miss on other shards; the breaker opens and closes."""
    servers = dict(zip("abc", fleet(3), strict=True))
    victim = servers[VICTIM]
    with crew.start({name: server.url for name, server in servers.items()}) as load:
        load.until(load.witness.more_served(*servers))
        connects = load.stats().shards[VICTIM].connects
        run, received, _ = load.connections_of(victim)

        outage.begin(victim)
        load.until(lambda: noticed(load.stats().shards[VICTIM], outage))
        load.until(load.witness.more_served(*servers.keys() - {VICTIM}))

        outage.end(victim)
        load.until(lambda: load.stats().shards[VICTIM].state == "closed")
        load.until(load.witness.more_served(*servers))
        # Who was cut off is closed by the server as soon as it comes round to it.
        load.until(lambda: load.connections_of(victim)[2] <= crew.connections + A_FEW)

        stats = load.stats()
        run_now, received_now, _ = load.connections_of(victim)
    seen = load.witness
    assert (seen.raised, seen.wrong, seen.lost) == ([], [], [])

    out = stats.shards[VICTIM]
    assert (out.refused_open > 0) == (out.ejections > 0)
    assert out.timeouts <= crew.callers + A_FEW  # each caller waits once, all at the same time
    assert out.ejections <= A_FEW
    assert out.connects - connects <= crew.connections + A_FEW
    # Attempts that came to nothing count for the server; each caller may make one before the
    # breaker opens.
    had = received if run_now == run else 0
    assert received_now - had <= 2 * crew.connections + out.probes + 2 * A_FEW + load.looks
    others = [stats.shards[name] for name in servers if name != VICTIM]
    assert [(other.state, other.failures, other.ejections) for other in others] == [
        ("closed", 0, 0)
    ] * 2


@pytest.mark.parametrize("backend", LOCAL, ids=lambda backend: backend.name, indirect=True)
def test_all_go_and_come_back(fleet: Fleet, crew: Crew) -> None:
    """With every server dead nothing is raised and nothing is wrong; each comes back by itself."""
    servers = dict(zip("abc", fleet(3), strict=True))
    with crew.start({name: server.url for name, server in servers.items()}) as load:
        load.until(load.witness.more_served(*servers))
        for server in servers.values():
            server.kill()
        load.until(lambda: all(shard.ejections for shard in load.stats().shards.values()))
        for server in servers.values():
            server.start()
        load.until(lambda: all(shard.state == "closed" for shard in load.stats().shards.values()))
        load.until(load.witness.more_served(*servers))
    assert (load.witness.raised, load.witness.wrong) == ([], [])


def test_hung_server_is_named_and_left_alone(fleet: Fleet) -> None:
    """Under "raise" a hung server costs one deadline, then nothing is sent; its data come back."""
    servers = dict(zip("abc", fleet(3), strict=True))
    urls = {name: server.url for name, server in servers.items()}
    prepared(urls)
    with ShardCache(**settings(urls), on_unavailable="raise") as cache:
        assert cache.get_many(KEYS) == {key: value_of(key) for key in KEYS}
        hung = [key for key in KEYS if cache.explain(key).shard == VICTIM]
        servers[VICTIM].pause()
        with pytest.raises(ShardTimeout, match=f"shard '{VICTIM}'"):
            cache.get(hung[0])
        with pytest.raises(ShardOut, match=f"shard '{VICTIM}'"):
            cache.get(hung[0])
        with pytest.raises(ShardUnavailable, match=f"shard '{VICTIM}'"):
            cache.get_many(KEYS)
        found = cache.fetch_many(KEYS)
        assert sorted(found.failures) == sorted(hung)
        assert found.hits == {key: value_of(key) for key in KEYS if key not in hung}
        assert cache.stats().shards[VICTIM].timeouts == 1
        servers[VICTIM].unpause()
        deadline = time.monotonic() + LONG_TIMEOUT
        while cache.fetch_many(KEYS).failures:
            assert time.monotonic() < deadline, cache.stats()
            time.sleep(0.01)
        assert cache.get_many(KEYS) == {key: value_of(key) for key in KEYS}
