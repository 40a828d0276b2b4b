"""One worker process of the demo: it serves files through a cache client of its own.

The parent sends an `Order` over a pipe and may send anything else to stop it; the worker
answers with a `Report` every tenth of a second, the last one marked ``done``. A worker whose parent
is gone reads end of file and ends.
"""

import random
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from shardcache.cli.demo_workload import measure
from shardcache.client import ShardCache
from shardcache.events import Event
from shardcache.options import Options

__all__ = ("Order", "Report", "Site", "open_cache", "serve")

REPORT_EVERY = 0.1  # seconds


@dataclass(frozen=True, slots=True)
class Site:
    """What every worker serves, and from where. ``nodes``: a URL, or names to URLs."""

    nodes: str | Mapping[str, str] = field(repr=False)  # a URL may hold a password
    namespace: str
    ttl: float
    root: str


@dataclass(frozen=True, slots=True)
class Order:
    """Which files to ask for: each once, or at random until stopped."""

    keys: list[str]
    forever: bool = False


@dataclass(slots=True)
class Report:
    """What happened since the last report. Times are of the monotonic clock, which all processes share."""

    worker: int
    waits: list[float] = field(default_factory=list)  # seconds that each get took
    hits: int = 0
    wrong: int = 0  # values that belong to another key
    errors: list[str] = field(default_factory=list)
    events: list[tuple[float, str, str]] = field(default_factory=list)  # time, kind, shard
    done: bool = False


def serve(number: int, site: Site, pipe: "Connection[Any, Any]") -> None:
    """Carry out orders until the parent is gone. Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _Worker(number, site, pipe).run()
    except (EOFError, OSError):
        return


class _Worker:
    def __init__(self, number: int, site: Site, pipe: "Connection[Any, Any]") -> None:
        self._site = site
        self._pipe = pipe
        self._number = number
        self._report = Report(number)
        self._cache = open_cache(site, Options(on_event=self._note))

    def run(self) -> None:
        with self._cache:
            self._send(done=True)  # ready
            while True:
                order = self._pipe.recv()
                if isinstance(order, Order):  # else: a stop that came after the end
                    self._carry_out(order)

    def _carry_out(self, order: Order) -> None:
        due = time.monotonic() + REPORT_EVERY
        for key in _endless(order.keys) if order.forever else order.keys:
            self._answer(key)
            if time.monotonic() >= due:
                self._send()
                if self._pipe.poll():
                    self._pipe.recv()
                    break
                due = time.monotonic() + REPORT_EVERY
        self._send(done=True)

    def _answer(self, key: str) -> None:
        """Do what a web application does: ask the cache; on a miss compute and store."""
        report = self._report
        start = time.perf_counter()
        try:
            value = self._cache.get(key)
            report.waits.append(time.perf_counter() - start)
            if value is None:
                self._cache.set(key, measure(self._site.root, key))
            elif value["file"] == key:
                report.hits += 1
            else:
                report.wrong += 1
        except Exception as error:  # noqa: BLE001  the demo counts whatever a visitor would have seen
            report.errors.append(f"{type(error).__name__}: {error}")

    def _send(self, *, done: bool = False) -> None:
        report, self._report = self._report, Report(self._number)
        report.done = done
        self._pipe.send(report)

    def _note(self, event: Event) -> None:
        if event.kind in ("shard_out", "shard_back"):
            self._report.events.append((time.monotonic(), event.kind, event.shard))


def open_cache(site: Site, options: Options | None = None) -> ShardCache:
    """Return a client of the site's shards, set up as a web application would: reads degrade to misses."""
    settings: dict[str, Any] = {
        "namespace": site.namespace,
        "default_ttl": site.ttl,
        "on_unavailable": "degrade",
        "options": options,
    }
    if isinstance(site.nodes, str):
        return ShardCache.from_url(site.nodes, **settings)
    return ShardCache(site.nodes, **settings)


def _endless(keys: list[str]) -> Iterator[str]:
    while True:
        yield random.choice(keys)
