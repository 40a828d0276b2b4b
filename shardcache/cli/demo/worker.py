"""One worker process of the demo: it serves files through a sync cache client of its own.

The parent sends an `Order` over a pipe, and may send anything else to stop the worker. The worker
answers with a `Report` every tenth of a second; the last one is marked ``done``. A worker whose
parent is gone reads end of file, and ends.
"""

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from shardcache.cli.demo.workload import measure
from shardcache.client import ShardCache
from shardcache.client_base import CacheBase
from shardcache.events import Event
from shardcache.near_cache import NearCache
from shardcache.options import Options

__all__ = (
    "REPORT_EVERY",
    "TOGETHER",
    "Order",
    "Report",
    "Reporter",
    "Site",
    "Worker",
    "open_cache",
)

T = TypeVar("T", bound=CacheBase)

REPORT_EVERY = 0.1  # seconds
TOGETHER = 20  # requests between two pauses of an order that has pauses


@dataclass(frozen=True, slots=True)
class Site:
    """What every worker serves, and from where.

    ``nodes``: a URL, or a mapping of node names to URLs.
    ``namespace``: the prefix of all keys of this demo.
    ``ttl``: seconds for which values are kept.
    ``root``: the directory of the files that are measured.
    """

    nodes: str | Mapping[str, str] = field(repr=False)  # a URL may contain a password
    namespace: str
    ttl: float
    root: str


@dataclass(frozen=True, slots=True)
class Order:
    """Which files to ask for.

    ``keys``: names of files, below the site's root.
    ``forever``: False asks once for each; True asks at random until the parent stops the worker.
    ``near``: whether to ask by a client with a near cache.
    ``pause``: seconds to wait after every `TOGETHER` requests. Default: no wait.
    """

    keys: list[str]
    forever: bool = False
    near: bool = False
    pause: float = 0.0

    def turns(self) -> Iterator[str]:
        """Iterate over the keys to ask for, in their order."""
        return _endless(self.keys) if self.forever else iter(self.keys)


@dataclass(slots=True)
class Report:
    """What happened since the last report.

    ``worker``: the number of the worker.
    ``waits``: seconds that each look-up took.
    ``hits``: look-ups that the cache answered.
    ``wrong``: values that belong to another key.
    ``errors``: each error as text.
    ``versions``: of values that the parent changes: when each version was asked for last.
    ``events``: time, kind and shard of each event; all processes share the monotonic clock.
    ``done``: whether the order is at its end.
    """

    worker: int
    waits: list[float] = field(default_factory=list)
    hits: int = 0
    wrong: int = 0
    errors: list[str] = field(default_factory=list)
    versions: dict[int, float] = field(default_factory=dict)
    events: list[tuple[float, str, str]] = field(default_factory=list)
    done: bool = False


class Reporter:
    """The part that both kinds of workers share: they count, and report to the parent."""

    def __init__(self, number: int, site: Site, pipe: "Connection[Any, Any]") -> None:
        self._site = site
        self._pipe = pipe
        self._number = number
        self._report = Report(number)

    def _judge(self, key: str, value: Any, asked: float) -> None:
        if value["file"] == key:
            self._report.hits += 1
            if "version" in value:
                self._report.versions[value["version"]] = asked
        else:
            self._report.wrong += 1

    def _failed(self, error: Exception) -> None:
        self._report.errors.append(f"{type(error).__name__}: {error}")

    def _told_to_stop(self) -> bool:
        """Report; return whether the parent has sent anything: then the order is at its end."""
        self._send()
        if self._pipe.poll():
            self._pipe.recv()
            return True
        return False

    def _send(self, *, done: bool = False) -> None:
        report, self._report = self._report, Report(self._number)
        report.done = done
        self._pipe.send(report)

    def _note(self, event: Event) -> None:
        if event.kind in ("shard_out", "shard_back", "topology_changed"):
            self._report.events.append((time.monotonic(), event.kind, event.shard))


class Worker(Reporter):
    """A worker with the sync client: one request after the other."""

    def __init__(self, number: int, site: Site, pipe: "Connection[Any, Any]") -> None:
        super().__init__(number, site, pipe)
        options = Options(on_event=self._note)
        self._plain = self._cache = open_cache(ShardCache, site, options)
        self._near = open_cache(ShardCache, site, options, NearCache())

    def run(self) -> None:
        with self._plain, self._near:
            self._send(done=True)  # ready
            while True:
                order = self._pipe.recv()
                if isinstance(order, Order):  # else: a stop that came after the end
                    self._cache = self._near if order.near else self._plain
                    self._carry_out(order)

    def _carry_out(self, order: Order) -> None:
        due = time.monotonic() + REPORT_EVERY
        for number, key in enumerate(order.turns(), 1):
            self._answer(key)
            if order.pause and number % TOGETHER == 0:
                time.sleep(order.pause)
            if time.monotonic() >= due:
                if self._told_to_stop():
                    break
                due = time.monotonic() + REPORT_EVERY
        self._send(done=True)

    def _answer(self, key: str) -> None:
        """Do what a web application does: ask the cache; on a miss compute and store."""
        asked, start = time.monotonic(), time.perf_counter()
        try:
            value = self._cache.get(key)
            self._report.waits.append(time.perf_counter() - start)
            if value is None:
                self._cache.set(key, measure(self._site.root, key))
            else:
                self._judge(key, value, asked)
        except Exception as error:  # noqa: BLE001  a visitor would have seen it, so it is counted
            self._failed(error)


def open_cache(
    kind: type[T], site: Site, options: Options | None = None, near: NearCache | None = None
) -> T:
    """Return a client of the site's shards, with the settings of a web application.

    ``kind``: the class of the client.
    ``site``: what is served, and from which shards.
    ``options``: further options; None for the defaults.
    ``near``: its near cache; None: it has none.

    Reads of a dead shard degrade to misses.
    """
    settings: dict[str, Any] = {
        "namespace": site.namespace,
        "default_ttl": site.ttl,
        "on_unavailable": "degrade",
        "options": options,
        "near": near,
    }
    if isinstance(site.nodes, str):
        return kind.from_url(site.nodes, **settings)
    return kind(site.nodes, **settings)


def _endless(keys: list[str]) -> Iterator[str]:
    while True:
        yield random.choice(keys)
