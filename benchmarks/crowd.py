"""A crowd of readers in a process of its own: what `stampede` forks."""

import asyncio
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import redis
from caches import KEY, WAYS

__all__ = ("Setting", "worker")

SETTLE = 0.5  # seconds between the last worker's arrival and the first read


@dataclass(frozen=True)
class Setting:
    """What a crowd of readers does.

    ``readers``: how many in each process.
    ``ttl``: of the value, in seconds.
    ``load``: how long the loader takes, in seconds.
    ``pace``: the time between two reads of one reader, in seconds.
    """

    processes: int = 32
    readers: int = 32
    shards: int = 3
    ttl: float = 1.0
    load: float = 0.03
    pace: float = 0.25
    expiries: int = 50
    peer_expiries: int = 8
    chaos: float = 20.0  # seconds

    @property
    def crowd(self) -> str:
        return f"{self.processes} x {self.readers}"


def worker(
    name: str,
    number: int,
    setting: Setting,
    urls: Mapping[str, str],
    log: str,
    seconds: float,
    gate: Any,
) -> None:
    make, tasks, _ = WAYS[name]
    notes = redis.Redis.from_url(log)
    notes.ping()
    seen = 0
    cache: Any = None
    own_shard = ""

    def why() -> str:
        nonlocal seen
        if not hasattr(cache, "stats"):
            return "lock"
        stats = cache.stats()
        alone, seen = stats.loading.alone > seen, stats.loading.alone
        if stats.shards[own_shard].state != "closed":
            return "shard out"
        return "alone" if alone else "lock"

    def note(start: float) -> str:
        value = f"{number}:{start}"
        notes.rpush("loads", json.dumps([start, time.monotonic(), number, why()]))
        return value

    def load() -> str:
        start = time.monotonic()
        time.sleep(setting.load)
        return note(start)

    async def aload() -> str:
        start = time.monotonic()
        await asyncio.sleep(setting.load)
        return note(start)

    def open_cache() -> Callable[[], Any]:
        nonlocal cache, own_shard
        read, cache = make(urls, aload if tasks else load, setting.ttl)
        if cache is not None:
            own_shard = cache.explain(KEY).shard
        return read

    reads, errors = 0, Counter[str]()

    def counted(error: Exception | None = None) -> None:
        nonlocal reads
        reads += 1
        if error is not None:
            errors[f"{type(error).__name__}: {error}"[:120]] += 1

    def begin() -> float:
        """Wait for all others; return when to begin."""
        if gate.wait() == 0:
            notes.set("begin", time.monotonic() + SETTLE)
        gate.wait()
        return float(notes.get("begin"))

    if tasks:
        asyncio.run(read_by_tasks(open_cache, setting, seconds, begin, counted))
    else:
        read_by_threads(open_cache(), setting, seconds, begin, counted)
    lost = cache.stats().loading.not_stored if cache is not None else 0
    if cache is not None and not tasks:
        cache.close()
    notes.rpush("done", json.dumps([reads, errors, lost]))
    os._exit(0)  # some libraries leave threads behind, or complain of unclosed connections


def read_by_threads(
    read: Callable[[], Any],
    setting: Setting,
    seconds: float,
    begin: Callable[[], float],
    counted: Any,
) -> None:
    start = begin()

    def work(offset: float) -> None:
        due = start
        while due < start + seconds:
            time.sleep(max(due - time.monotonic(), 0))
            try:
                read()
            except Exception as error:
                counted(error)
            else:
                counted()
            # The first read is everybody's at once; the others are spread out.
            due = max(due + setting.pace, time.monotonic()) + (offset if due == start else 0)

    crowd = [
        threading.Thread(target=work, args=(setting.pace * at / setting.readers,))
        for at in range(setting.readers)
    ]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()


async def read_by_tasks(
    open_cache: Callable[[], Callable[[], Any]],
    setting: Setting,
    seconds: float,
    begin: Callable[[], float],
    counted: Any,
) -> None:
    read = open_cache()
    start = begin()

    async def work(offset: float) -> None:
        due = start
        while due < start + seconds:
            await asyncio.sleep(max(due - time.monotonic(), 0))
            try:
                await read()
            except Exception as error:
                counted(error)
            else:
                counted()
            due = max(due + setting.pace, time.monotonic()) + (offset if due == start else 0)

    await asyncio.gather(
        *(work(setting.pace * at / setting.readers) for at in range(setting.readers))
    )
