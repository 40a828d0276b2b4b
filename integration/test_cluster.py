"""A cluster of 3 masters and 3 replicas serves while its slots, nodes and masters change.

Eight threads, or sixty-four tasks, read and write without a pause. Each key has one writer, and
each value carries its key and a version, so that a read can be judged: it must find a version
between the last one that was acknowledged before the read began and the last one that was sent
before it ended. Only from the kill of a master until its replica is in its place, and each key was
written once more, may a version be older, a key miss or a write not be stored, since replication
is asynchronous. Nothing is judged by a clock.
"""

import asyncio
import random
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import pytest
import redis

from shardcache import AsyncShardCache, Options, ShardCache, Stats
from shardcache.embedded import LocalCluster, find_server
from shardcache.embedded.server import LocalServer
from shardcache.stats import DiscoveryStats
from shardcache.topology.slots import slot_of

TAGS = 60  # so many slots have keys, twenty each
KEYS = [f"{{{number % TAGS}}}{number}" for number in range(20 * TAGS)]
SLOTS = sorted({slot_of(key.encode()) for key in KEYS})
TIMEOUT = 10.0  # seconds; longer than a busy machine holds up a healthy server, and than a failover
LONG = 60.0  # seconds after which something that has to happen never will
WRITES = 25_000  # acknowledged at least in each of the four pure reshardings
PATIENT, QUICK = 15_000, 1_000  # milliseconds until a silent node counts as failed
SWITCH = 0.0005  # seconds for which one thread keeps the interpreter from the others
# The one that a redirect asks for, one behind it, and one if a node had not heard of the change.
POLLS_PER_CHANGE = 3

CREWS = {"8 threads": 8, "64 tasks": 64}
Caller = Generator[tuple[str, tuple[Any, ...]], Any, None]  # yields calls, is sent results


def programs() -> dict[str, str]:
    """Return the default server program, and Debian's if it is another one."""
    found = {"default": find_server(), "redis": shutil.which("redis-server")}
    return {name: path for name, path in found.items() if path}


def value_of(key: str, version: int) -> dict[str, object]:
    """Return the one right value of a version; lengths differ, so a shifted reply would not fit."""
    return {"key": key, "version": version, "body": key * (crc32(key.encode()) % 30)}


@dataclass
class Witness:
    """What the callers saw.

    Times are told apart by ``era``, a number that grows; a call is judged strictly if the era in
    which it began and ended is in ``strict``.
    """

    era: int = 0
    strict: set[int] = field(default_factory=lambda: {0})
    tried: Counter[str] = field(default_factory=Counter)  # the last version that was sent
    acknowledged: dict[str, tuple[int, int]] = field(default_factory=dict)  # era and version
    wrong: list[tuple[str, object, object]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    unstored: list[str] = field(default_factory=list)
    raised: list[BaseException] = field(default_factory=list)
    stored: Counter[str] = field(default_factory=Counter)  # writes that were acknowledged
    # Threads may lose a count of these, which harms nobody.
    calls: int = 0
    around_kills: Counter[str] = field(default_factory=Counter)

    def values(self, keys: Iterable[str]) -> dict[str, dict[str, object]]:
        """Return the next version of each key."""
        found = {}
        for key in keys:
            self.tried[key] += 1
            found[key] = value_of(key, self.tried[key])
        return found

    def wrote(self, era: int, sent: Mapping[str, Any], unstored: Iterable[str]) -> None:
        """Note what came of a write that began in ``era``."""
        self.calls += 1
        failed = set(unstored)
        for key, value in sent.items():
            if key not in failed:
                self.acknowledged[key] = (era, value["version"])
                self.stored[key] += 1
        if self.is_strict(era):
            self.unstored += failed
        else:
            self.around_kills["not stored"] += len(failed)

    def floors(self, keys: Iterable[str]) -> dict[str, int]:
        """Return the oldest version of each key that a read which begins now may find."""
        known = {key: self.acknowledged.get(key, (-1, 0)) for key in keys}
        return {key: version if era == self.era else 0 for key, (era, version) in known.items()}

    def read(self, era: int, floors: Mapping[str, int], found: Mapping[str, Any]) -> None:
        """Judge what a read found that began in ``era``."""
        self.calls += 1
        for key, value in found.items():
            version = value.get("version") if isinstance(value, dict) else None
            right = isinstance(version, int) and value == value_of(key, version)
            # The last version that was sent is looked at after the read.
            if not right or not 0 < version <= self.tried[key]:
                self.wrong.append((key, floors[key], value))
            elif version < floors[key]:
                if self.is_strict(era):
                    self.wrong.append((key, floors[key], value))
                else:
                    self.around_kills["older"] += 1
        missing = [key for key in floors if key not in found]
        if self.is_strict(era):
            self.missed += missing
        else:
            self.around_kills["missed"] += len(missing)

    def is_strict(self, era: int) -> bool:
        return era == self.era and era in self.strict

    def next_era(self, *, strict: bool) -> None:
        if strict:
            self.strict.add(self.era + 1)
        self.era += 1

    def written_in_this_era(self) -> bool:
        return all(self.acknowledged[key][0] == self.era for key in KEYS)

    def blameless(self) -> None:
        assert (self.raised, self.wrong[:5], self.missed[:5], self.unstored[:5]) == ([], [], [], [])


def calls_of(witness: Witness, mine: list[str], seed: int) -> Caller:
    """Say what one caller calls, and judge the results: the same for threads and tasks."""
    chance = random.Random(seed)
    while True:
        sent = witness.values(chance.sample(mine, 16))
        era = witness.era
        witness.wrote(era, sent, (yield "set_many", (sent,)))

        [(key, value)] = witness.values([chance.choice(mine)]).items()
        era = witness.era
        stored = yield "set", (key, value)
        witness.wrote(era, {key: value}, [] if stored else [key])

        asked = chance.sample(KEYS, 16)
        era, floors = witness.era, witness.floors(asked)
        witness.read(era, floors, (yield "get_many", (asked,)))

        key = chance.choice(KEYS)
        era, floors = witness.era, witness.floors([key])
        value = yield "get", (key,)
        witness.read(era, floors, {} if value is None else {key: value})


@dataclass
class Load:
    """Callers at work on a client."""

    witness: Witness
    stats: Callable[[], Stats]

    def until(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds."""
        end = time.monotonic() + LONG
        while not condition():
            assert self.witness.raised == []
            assert time.monotonic() < end, f"still waiting: {self.stats()}"
            time.sleep(0.01)

    def serve(self, calls: int) -> None:
        """Return when the callers have made so many calls more."""
        goal = self.witness.calls + calls
        self.until(lambda: self.witness.calls >= goal)

    def polls_when_at_rest(self) -> int:
        """Return how often the map was asked for, as soon as nobody asks any more."""
        polls = -1

        def rests() -> bool:
            nonlocal polls
            before, polls = polls, self.polls()
            self.serve(500)
            return before == polls == self.polls()

        self.until(rests)
        return polls

    def polls(self) -> int:
        return self.discovery().polls

    def discovery(self) -> DiscoveryStats:
        found = self.stats().discovery
        assert found is not None
        return found


async def run_tasks(
    cache: AsyncShardCache, witness: Witness, over: threading.Event, callers: list[Caller]
) -> None:
    async def run(caller: Caller) -> None:
        try:
            method, arguments = next(caller)
            while not over.is_set():
                result = await getattr(cache, method)(*arguments)
                method, arguments = caller.send(result)
        except BaseException as error:
            witness.raised.append(error)

    async with cache:
        await asyncio.gather(*map(run, callers))


def run_thread(cache: ShardCache, witness: Witness, over: threading.Event, caller: Caller) -> None:
    try:
        method, arguments = next(caller)
        while not over.is_set():
            method, arguments = caller.send(getattr(cache, method)(*arguments))
    except BaseException as error:
        witness.raised.append(error)


@contextmanager
def at_work(crew: str, url: str) -> Iterator[Load]:
    """Have callers share one client, after each key was stored."""
    witness, over = Witness(), threading.Event()
    # Nothing but a redirect, a dead connection or a deadline asks for the map.
    settings: dict[str, Any] = {
        "default_ttl": None,
        "timeout": TIMEOUT,
        "on_unavailable": "degrade",
        "options": Options(discovery_interval=86_400),
    }
    first = witness.values(KEYS)
    with ShardCache(url, **settings) as cache:
        witness.wrote(0, first, cache.set_many(first))
    count = CREWS[crew]
    callers = [calls_of(witness, KEYS[part::count], part) for part in range(count)]
    with ExitStack() as stack:
        if "threads" in crew:
            cache = stack.enter_context(ShardCache(url, **settings))
            load = Load(witness, cache.stats)
            threads = [
                threading.Thread(target=run_thread, args=(cache, witness, over, caller))
                for caller in callers
            ]
        else:
            other = AsyncShardCache(url, **settings)
            load = Load(witness, other.stats)
            work = run_tasks(other, witness, over, callers)
            threads = [threading.Thread(target=asyncio.run, args=(work,))]
        # Who moves slots has many round trips, and the callers' threads give way so often.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        for thread in threads:
            thread.start()
        try:
            yield load
        finally:
            sys.setswitchinterval(interval)
            over.set()
            for thread in threads:
                thread.join(LONG)
        assert not any(thread.is_alive() for thread in threads)


def migrate_slots(
    cluster: LocalCluster, slots: Iterable[int], load: Load, to: LocalServer | None = None
) -> int:
    """Move each slot to ``to``, or any other master, a few keys at a time; return how many."""
    chance, count = random.Random(1), 0
    for slot in slots:
        owner = cluster.owner(slot)
        target = to or chance.choice([one for one in cluster.masters if one is not owner])
        for _ in cluster.slot_migration(slot, target, batch=3):
            assert load.witness.raised == []
        count += 1
    return count


def serve_halfway(cluster: LocalCluster, slot: int, load: Load) -> None:
    """Move a slot, and stop in the middle until each of its keys was written there.

    So no call can wait for the end of the move: each needs an ASKING before its command.
    """
    seen, keys = load.witness, [key for key in KEYS if slot_of(key.encode()) == slot]
    owner = cluster.owner(slot)
    target = next(one for one in cluster.masters if one is not owner)
    steps = cluster.slot_migration(slot, target, batch=3)
    for step in steps:
        if step.name == "keys" and step.keys > len(keys) // 2:
            break
    before = {key: seen.acknowledged[key] for key in keys}
    load.until(lambda: all(seen.acknowledged[key] != old for key, old in before.items()))
    undisturbed(load)
    for _ in steps:
        assert seen.raised == []


def join_and_leave(cluster: LocalCluster, load: Load) -> int:
    """Let a fourth master take slots and leave again; return how many moved."""
    joined = cluster.add_master()
    # Without its last slot it would become a replica, of which some masters would hear first.
    tell(cluster, "cluster-allow-replica-migration", "no")
    moved = migrate_slots(cluster, SLOTS[::5], load, joined)
    load.serve(1000)
    moved += migrate_slots(cluster, SLOTS[::5], load)
    load.polls_when_at_rest()  # a client that has heard of it can bear that it ends
    cluster.remove_node(joined)
    return moved + cluster.rebalance()


def undisturbed(load: Load) -> None:
    """Check that no call was hidden from the callers, failed, or met its deadline."""
    stats = load.stats()
    shards = stats.shards.values()
    assert (stats.degraded_reads, stats.dropped_writes, stats.damaged, stats.errors) == (0,) * 4
    assert [(shard.timeouts, shard.ejections) for shard in shards] == [(0, 0)] * len(shards)


def wrong_at_last(cluster: LocalCluster, witness: Witness) -> dict[str, object]:
    """Return what another client finds that is not the last acknowledged version."""
    with ShardCache(cluster.url, timeout=TIMEOUT) as cache:
        found = cache.get_many(KEYS)
    return {
        key: found.get(key)
        for key, (_, version) in witness.acknowledged.items()
        if found.get(key) != value_of(key, version)
    }


@pytest.fixture(scope="module", params=programs().values(), ids=programs())
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """Three masters with a replica each, which wait long for one another; a test leaves as many."""
    options = {"cluster-node-timeout": str(PATIENT)}
    with LocalCluster(3, replicas=1, binary=request.param, options=options) as cluster:
        yield cluster


@pytest.mark.parametrize("crew", CREWS)
def test_resharding_loses_no_write(
    cluster: LocalCluster, crew: str, record_property: Callable[[str, object], None]
) -> None:
    """Slots move, a node joins and leaves: no call notices, and no acknowledged write is lost."""
    with at_work(crew, cluster.url) as load:
        load.serve(500)
        seen = load.witness
        # One change alone: one refresh.
        before = load.polls_when_at_rest()
        migrate_slots(cluster, SLOTS[:1], load)
        load.until(lambda: load.polls() > before)
        alone = load.polls_when_at_rest() - before
        serve_halfway(cluster, SLOTS[0], load)
        # Many, one after the other and many at once.
        moved = 2 + migrate_slots(cluster, SLOTS[1:], load) + join_and_leave(cluster, load)
        load.until(lambda: seen.stored.total() >= WRITES)
        load.polls_when_at_rest()
        seen.blameless()
        undisturbed(load)
    discovery = load.discovery()
    lost = wrong_at_last(cluster, seen)
    record_property("writes acknowledged, lost", (seen.stored.total(), len(lost)))
    record_property("slots moved, polls, maps", (moved, discovery.polls, discovery.changes))
    record_property("polls for one slot alone", alone)
    seen.blameless()
    assert lost == {}
    assert alone <= POLLS_PER_CHANGE + discovery.failures
    assert discovery.polls <= 1 + 2 * moved + discovery.failures


@pytest.mark.parametrize("crew", CREWS)
def test_slots_nodes_and_masters_change(
    cluster: LocalCluster, crew: str, record_property: Callable[[str, object], None]
) -> None:
    """Slots move, a node joins and leaves, a master is killed: nothing wrong, nothing raised."""
    with at_work(crew, cluster.url) as load:
        seen = load.witness
        moved = migrate_slots(cluster, SLOTS[: TAGS // 4], load) + join_and_leave(cluster, load)
        load.serve(500)
        seen.blameless()
        undisturbed(load)

        victim = cluster.owner(SLOTS[0])
        assert victim is not None
        seen.next_era(strict=False)
        tell(cluster, "cluster-node-timeout", QUICK)
        victim.kill()
        load.until(lambda: cluster.owner(SLOTS[0]) not in (None, victim))
        tell(cluster, "cluster-node-timeout", PATIENT)
        victim.start()
        cluster.wait_until_ok(timeout=LONG)
        seen.next_era(strict=False)  # what is written from now on stays
        load.until(seen.written_in_this_era)
        load.until(lambda: all(one.state == "closed" for one in load.stats().shards.values()))
        load.polls_when_at_rest()

        seen.next_era(strict=True)
        before = load.stats()
        moved += migrate_slots(cluster, SLOTS[TAGS // 4 : TAGS // 2], load)
        load.until(seen.written_in_this_era)
        seen.blameless()
        after = load.stats()
    discovery, lost = load.discovery(), wrong_at_last(cluster, seen)
    record_property("writes acknowledged", seen.stored.total())
    record_property("around the kill", dict(seen.around_kills))
    record_property("slots moved, polls, maps", (moved, discovery.polls, discovery.changes))
    record_property("deadlines met", sum(one.timeouts for one in after.shards.values()))
    seen.blameless()
    assert lost == {}
    assert after.errors == after.damaged == 0
    assert (after.degraded_reads, after.dropped_writes) == (
        before.degraded_reads,
        before.dropped_writes,
    )
    # Each caller waits for the dead master once at most.
    assert all(one.timeouts <= CREWS[crew] for one in after.shards.values())


def tell(cluster: LocalCluster, option: str, value: object) -> None:
    """Set an option of all servers that answer."""
    for server in cluster.servers:
        if server.running:
            with redis.Redis(port=server.port) as plain:
                plain.config_set(option, value)
