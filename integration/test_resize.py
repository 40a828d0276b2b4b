"""A fleet of independent nodes gets a fifth node and loses it again while it serves.

Six threads, or fifty tasks, read and write without a pause. Only keys that the returned `Moves` owe
to the new node may ever miss; no call fails.
"""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from shardcache import AsyncShardCache, HashRing, ShardCache

from .servers import Fleet

KEYS = [f"key-{n}" for n in range(300)]
NAMES = "abcde"
TIMEOUT = 5.0  # seconds: no call is about time
LONG = 60.0  # seconds after which something that has to happen never will


def value_of(key: str) -> dict[str, str]:
    """Return the one right value of a key."""
    return {"key": key, "body": key * 20}


@dataclass
class Witness:
    """What the callers saw."""

    wrong: list[tuple[str, object]] = field(default_factory=list)
    missed: Counter[str] = field(default_factory=Counter)
    unstored: list[str] = field(default_factory=list)
    raised: list[BaseException] = field(default_factory=list)
    calls: int = 0

    def read(self, asked: Iterable[str], found: Mapping[str, object]) -> list[str]:
        """Note what a read found; return the keys that it did not find."""
        self.calls += 1
        for key in asked:
            if key in found and found[key] != value_of(key):
                self.wrong.append((key, found[key]))
        missing = [key for key in asked if key not in found]
        self.missed.update(missing)
        return missing


def threads(cache: ShardCache, witness: Witness, over: threading.Event) -> list[threading.Thread]:
    def caller(seed: int) -> None:
        chance = random.Random(seed)
        try:
            while not over.is_set():
                batch = chance.sample(KEYS, 12)
                missing = witness.read(batch, cache.get_many(batch))
                witness.unstored += cache.set_many({key: value_of(key) for key in missing})
                one = chance.choice(KEYS)
                found = cache.get(one)
                if witness.read([one], {} if found is None else {one: found}):
                    cache.set(one, value_of(one))
        except BaseException as error:
            witness.raised.append(error)

    return [threading.Thread(target=caller, args=(seed,)) for seed in range(6)]


async def tasks(cache: AsyncShardCache, witness: Witness, over: threading.Event) -> None:
    async def caller(seed: int) -> None:
        chance = random.Random(seed)
        try:
            while not over.is_set():
                batch = chance.sample(KEYS, 12)
                missing = witness.read(batch, await cache.get_many(batch))
                witness.unstored += await cache.set_many({key: value_of(key) for key in missing})
                one = chance.choice(KEYS)
                found = await cache.get(one)
                if witness.read([one], {} if found is None else {one: found}):
                    await cache.set(one, value_of(one))
        except BaseException as error:
            witness.raised.append(error)

    await asyncio.gather(*map(caller, range(50)))


@dataclass
class Crew:
    """Callers of one client, and how its nodes are changed."""

    use: Callable[[Mapping[str, str]], Any]
    run: list[threading.Thread]
    stats: Callable[[], Any]
    close: Callable[[], object]


def crew_of(colour: str, urls: Mapping[str, str], witness: Witness, over: threading.Event) -> Crew:
    settings: dict[str, Any] = {"namespace": "resize", "default_ttl": None, "timeout": TIMEOUT}
    if colour == "6 threads":
        cache = ShardCache(urls, **settings)
        return Crew(cache.use, threads(cache, witness, over), cache.stats, cache.close)
    loop = asyncio.new_event_loop()
    other = AsyncShardCache(urls, **settings)

    def run() -> None:
        loop.run_until_complete(tasks(other, witness, over))
        loop.run_until_complete(other.close())

    def use(nodes: Mapping[str, str]) -> Any:
        return asyncio.run_coroutine_threadsafe(other.use(nodes), loop).result(LONG)

    return Crew(use, [threading.Thread(target=run)], other.stats, loop.close)


@pytest.mark.parametrize("colour", ["6 threads", "50 tasks"])
def test_from_four_to_five_and_back(
    fleet: Fleet, colour: str, record_property: Callable[[str, object], None]
) -> None:
    """No call fails, no value is wrong, and only owed keys miss, on the way there and back."""
    urls = {name: server.url for name, server in zip(NAMES, fleet(5), strict=True)}
    four = {name: urls[name] for name in NAMES[:4]}
    with ShardCache(four, namespace="resize", default_ttl=None, timeout=TIMEOUT) as first:
        assert first.set_many({key: value_of(key) for key in KEYS}) == []
    before, after = HashRing(list(four)), HashRing(list(urls))
    owed = {key for key in KEYS if before.owner(f"resize:{key}") != after.owner(f"resize:{key}")}
    witness, over = Witness(), threading.Event()
    crew = crew_of(colour, four, witness, over)

    def serve(calls: int) -> None:
        """Return when the callers have made so many calls more."""
        wanted, end = witness.calls + calls, time.monotonic() + LONG
        while witness.calls < wanted:
            assert witness.raised == []
            assert time.monotonic() < end, crew.stats()
            time.sleep(0.01)

    for thread in crew.run:
        thread.start()
    try:
        serve(300)
        assert not witness.missed
        moves = crew.use(urls)
        serve(1000)
        back = crew.use(four)
        serve(1000)
    finally:
        over.set()
        for thread in crew.run:
            thread.join()
        crew.close()
    stats = crew.stats()
    record_property("calls", witness.calls)
    record_property("keys owed, keys that missed", (len(owed), len(witness.missed)))
    assert (witness.raised, witness.wrong, witness.unstored) == ([], [], [])
    assert moves == before.moved(after)
    assert back == after.moved(before)
    assert set(witness.missed) <= owed
    assert (stats.degraded_reads, stats.dropped_writes, stats.topology_changes) == (0, 0, 2)
