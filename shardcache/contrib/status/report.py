"""What the status page shows: plain data, without credentials."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shardcache.cli.text import key_text
from shardcache.client_base import CacheBase
from shardcache.errors import InvalidOption, ShardCacheError
from shardcache.results import Explanation, HotKey, PingResult
from shardcache.stats import ShardStats, Stats

__all__ = ("KeyPlace", "ShardRow", "StatusReport", "status_of")

_HOTTEST = 10  # keys that are shown


@dataclass(frozen=True, slots=True)
class ShardRow:
    """One shard: what this process has met, and what it answered just now.

    ``name``: its name.
    ``service``: "in service", "out" or "on trial", as this process sees it.
    ``ping``: its answer; None if nobody could be asked.
    ``counters``: the figures of `ShardStats`.
    """

    name: str
    service: str
    ping: PingResult | None
    counters: ShardStats

    def as_dict(self) -> dict[str, Any]:
        """Return it as ``json.dumps`` takes it."""
        ping = None if self.ping is None else self.ping.as_dict()
        return {"service": self.service, "ping": ping, **asdict(self.counters)}


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where the key lives that somebody asked for. Its value is not read.

    ``key``: the key, as it was asked for.
    ``place``: what `ShardCache.explain` says; None if there is an ``error``.
    ``error``: why nothing is known; None if there is a ``place``.
    """

    key: str
    place: Explanation | None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as ``json.dumps`` takes it."""
        found: dict[str, Any] = {"key": self.key, "error": self.error}
        if self.place is not None:
            found["shard"] = self.place.shard
            found["address"] = self.place.address
            found["next"] = list(self.place.successors[1:])
            found["slot"] = self.place.slot
            found["replicas"] = list(self.place.replicas)
            found["explanation"] = str(self.place)
        return found


@dataclass(frozen=True, slots=True)
class StatusReport:
    """One client of one process at one moment.

    ``process``: the number of the process, because each worker of a site has figures of its own.
    ``stats``: the counters of the client.
    ``shards``: a row for each shard.
    ``key``: where a key lives; None if nobody asked.
    ``hot_keys``: the keys that this process reads most; None if the client does not count them.
    ``error``: why no shard could be asked, such as a client that is closed; None if they were.
    """

    process: int
    stats: Stats
    shards: tuple[ShardRow, ...]
    key: KeyPlace | None
    hot_keys: tuple[HotKey, ...] | None
    error: str | None

    @property
    def hit_rate(self) -> float | None:
        """The share of reads that found their key, 0 to 1; None before the first read."""
        reads = self.stats.hits + self.stats.misses + self.stats.degraded_reads
        return self.stats.hits / reads if reads else None

    @property
    def answering(self) -> int:
        """How many shards answered."""
        return sum(row.ping is not None and row.ping.ok for row in self.shards)

    def as_dict(self) -> dict[str, Any]:
        """Return it as ``json.dumps`` takes it."""
        counters = asdict(self.stats)
        counters.pop("shards")
        return {
            "process": self.process,
            "hit_rate": self.hit_rate,
            "answering": self.answering,
            **counters,
            "shards": {row.name: row.as_dict() for row in self.shards},
            "key": None if self.key is None else self.key.as_dict(),
            "hot_keys": None
            if self.hot_keys is None
            else [{**asdict(one), "key": key_text(one.key)} for one in self.hot_keys],
            "error": self.error,
        }


def status_of(
    cache: CacheBase, pings: Mapping[str, PingResult] | ShardCacheError, key: str | None
) -> StatusReport:
    """Return what there is to show.

    ``cache``: the client, of either colour.
    ``pings``: what its ``ping`` returned, or the error that it raised.
    ``key``: a key whose place is wanted; None: none is.
    """
    # Where the nodes come from a source, the ping may have been the first to ask for them.
    stats = cache.stats()
    answers, error = ({}, str(pings)) if isinstance(pings, ShardCacheError) else (pings, None)
    rows = tuple(
        ShardRow(name, counters.service, answers.get(name), counters)
        for name, counters in stats.shards.items()
    )
    place = None if key is None else _place(cache, key)
    return StatusReport(os.getpid(), stats, rows, place, _hot_keys(cache), error)


def _hot_keys(cache: CacheBase) -> tuple[HotKey, ...] | None:
    try:
        return tuple(cache.hot_keys(_HOTTEST))
    except InvalidOption:
        return None


def _place(cache: CacheBase, key: str) -> KeyPlace:
    try:
        return KeyPlace(key, cache.explain(key))
    except ShardCacheError as error:
        return KeyPlace(key, None, str(error))
