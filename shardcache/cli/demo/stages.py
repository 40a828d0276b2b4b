"""What the demo shows, stage by stage.

Each stage runs the workers for its part of the time, and says in numbers what happened. No stage
waits for anything longer than its part, so that the whole ends by the clock.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from shardcache.cli.demo.crew import Crew
from shardcache.cli.demo.display import Display
from shardcache.cli.demo.tally import Tally
from shardcache.cli.demo.worker import Order, Report
from shardcache.cli.signals import Interrupts
from shardcache.cli.text import bar
from shardcache.client import ShardCache
from shardcache.embedded.server import LocalServer
from shardcache.errors import ServerNotStarted

__all__ = ("Outage", "Show", "seconds")

See = Callable[[Report], object]

# Parts of the whole time. Starting and ending take the rest.
FILL, STEADY, OUTAGE, RECOVERY = 0.40, 0.12, 0.18, 0.22
LOOK_EVERY = 0.25  # seconds between two looks at which files are cached


@dataclass(slots=True)
class Outage:
    """What was seen of one shard's failure and return; seconds since the kill, and since the start."""

    shard: str
    noticed: dict[int, float] = field(default_factory=dict)  # by worker
    rejoined: dict[int, float] = field(default_factory=dict)
    missing: float = 0.0  # share of the files that could not be had from the cache
    others: int = 0  # files of other shards among them, at any look
    refilled: float | None = None

    @property
    def back(self) -> float | None:
        """When the last of the workers that had noticed the failure used the shard again."""
        return (
            max(self.rejoined.values(), default=0.0)
            if self.noticed.keys() <= self.rejoined.keys()
            else None
        )


class Show:
    """The stages, to be called in their order. ``files`` become those that the first stage got done."""

    def __init__(
        self,
        cache: ShardCache,
        crew: Crew,
        display: Display,
        interrupts: Interrupts,
        files: list[str],
        seconds: float,
    ) -> None:
        self._cache = cache
        self._crew = crew
        self._interrupts = interrupts
        self._display = display
        self._seconds = seconds
        self.files = random.Random(1).sample(
            files, len(files)
        )  # mixed, so that a part of them is a fair part
        self.errors: list[str] = []
        self.wrong = 0
        self.speedup = 0.0
        self.steady = Tally()
        self.outage: Outage | None = None

    def fill(self) -> None:
        """Stage 1: everything is computed once, then read by other processes than those that computed it."""
        show, size = self._display, self._crew.size
        shares = [self.files[number::size] for number in range(size)]
        cold, warm = Tally(), Tally()
        with show.progress("parsing and measuring", len(self.files)) as progress:

            def see(_: Report) -> None:
                progress(
                    cold.answers,
                    f"{cold.answers} of {len(self.files)} files, {size} processes at once",
                )

            self._pass(shares, cold, self._seconds * FILL, see)
        done = [share[: cold.per_worker.get(number, 0)] for number, share in enumerate(shares)]
        skipped = len(self.files) - cold.answers
        self.files = [file for share in done for file in share]
        if not self.files:
            raise ServerNotStarted(
                f"nothing could be cached: {next(iter(self.errors), 'no answer came')}"
            )
        self._pass(done[1:] + done[:1], warm, self._seconds * FILL)
        self.speedup = cold.seconds * warm.answers / (warm.seconds * cold.answers)
        late = f" ({skipped} were left out to keep the time)" if skipped else ""
        hits = f"{warm.hits} hits, {warm.misses} misses"
        show.table(
            [
                (
                    "cold",
                    f"{cold.answers} files parsed and their measures stored in {seconds(cold.seconds)}{late}",
                ),
                ("warm", f"read back, each by another process, in {seconds(warm.seconds)}: {hits}"),
                ("", f"{self.speedup:,.0f} times as fast"),
            ]
        )

    def spread(self) -> None:
        """Stage 2: where the files lie, and what the shards do under steady load."""
        show = self._display
        owners = Counter(self._cache.explain(file).shard for file in self.files)
        full = max(owners.values())
        show.table(
            [
                (
                    shard,
                    f"{owners[shard]} files",
                    f"{owners[shard] / len(self.files):.1%}",
                    bar(owners[shard], full),
                )
                for shard in self._cache.stats().shards
            ]
        )
        self._crew.order([Order(self.files, forever=True)] * self._crew.size)
        self._stretch("steady load", self._seconds * STEADY, self.steady)
        show.table(_figures(self.steady))

    def stop(self) -> None:
        """End the load."""
        for report in self._crew.stop():
            self._count(report, Tally())

    def fail(self, server: LocalServer) -> None:
        """Stage 3: one shard is killed under load."""
        show, tally, outage = self._display, Tally(), Outage(server.name)
        self.outage = outage
        killed = time.monotonic()
        with self._interrupts.shield():
            server.kill()
        looks = _every(LOOK_EVERY)

        def see(report: Report) -> None:
            for at, kind, shard in report.events:
                if kind == "shard_out" and shard == outage.shard:
                    outage.noticed.setdefault(report.worker, at - killed)
            if next(looks):
                missing = self._missing()
                outage.missing = len(missing) / len(self.files)
                outage.others += sum(
                    self._cache.explain(file).shard != server.name for file in missing
                )

        self._stretch(f"without {server.name}", self._seconds * OUTAGE, tally, see)
        last = seconds(max(outage.noticed.values(), default=0.0))
        seen = f"{len(outage.noticed)} of {self._crew.size} processes, the last after {last}"
        whose = (
            f"{server.name}'s, and no others" if not outage.others else f"not only {server.name}'s"
        )
        answered = "every request got its answer, computed anew where the cache had none"
        show.table(
            [
                (
                    "errors",
                    f"{len(tally.errors)}: {answered}"
                    if not tally.errors
                    else f"{len(tally.errors)}",
                ),
                ("misses", f"{outage.missing:.1%} of the files: {whose}"),
                ("noticed", f"by {seen}; since then no call waits for {server.name}"),
                *_figures(tally),
            ]
        )

    def recover(self, server: LocalServer) -> None:
        """Stage 4: the shard comes back, empty, and fills up again."""
        show, tally, outage = self._display, Tally(), self.outage or Outage(server.name)
        with self._interrupts.shield():
            server.start()
        up = time.monotonic()
        looks = _every(LOOK_EVERY)

        def see(report: Report) -> bool:
            for at, kind, shard in report.events:
                if kind == "shard_back" and shard == outage.shard:
                    outage.rejoined[report.worker] = at - up
            if outage.back is not None and next(looks) and not self._missing():
                outage.refilled = time.monotonic() - up
            return outage.refilled is not None

        self._stretch(f"{server.name} is back", self._seconds * RECOVERY, tally, see)
        back = again = "not by the end of this stage"
        if outage.back is not None:
            back = (
                f"{seconds(outage.back)} after {server.name} answers again, every process uses it"
            )
        if outage.refilled is not None:
            again = f"{seconds(outage.refilled)} after {server.name} answers again, every file is a hit: misses filled it"
        show.table([("errors", f"{len(tally.errors)}"), ("rejoined", back), ("refilled", again)])

    def _pass(
        self, shares: list[list[str]], tally: Tally, limit: float, see: See = lambda _: None
    ) -> None:
        """Let each worker go once through its share, for at most ``limit`` seconds."""
        start = time.monotonic()
        self._crew.order([Order(share) for share in shares])
        for reports in (self._crew.reports(limit), self._crew.stop()):
            for report in reports:
                self._count(report, tally)
                see(report)
        tally.seconds = time.monotonic() - start

    def _stretch(self, label: str, limit: float, tally: Tally, see: See = lambda _: None) -> None:
        """Watch the workers for ``limit`` seconds, or until ``see`` has seen enough."""
        start = time.monotonic()
        with self._display.progress(label, limit) as progress:
            for report in self._crew.reports(limit):
                self._count(report, tally)
                tally.seconds = time.monotonic() - start
                progress(
                    tally.seconds,
                    f"{tally.rate:,.0f} answers/s, {tally.hit_share:.0%} hits, {len(self.errors)} errors",
                )
                if see(report):
                    return

    def _count(self, report: Report, tally: Tally) -> None:
        tally.add(report)
        self.errors += report.errors
        self.wrong += report.wrong

    def _missing(self) -> list[str]:
        found = self._cache.get_many(self.files)
        return [file for file in self.files if file not in found]


def seconds(value: float) -> str:
    """Return seconds in the unit that a person would use."""
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.1f} s"


def _figures(tally: Tally) -> list[tuple[str, str]]:
    p50, p99, longest = (seconds(tally.wait_at(share)) for share in (0.5, 0.99, 1))
    return [
        ("answers", f"{tally.rate:,.0f} a second: {tally.hits:,} hits, {tally.misses:,} misses"),
        ("look-up", f"p50 {p50}, p99 {p99}, longest {longest}"),
    ]


def _every(period: float) -> Iterator[bool]:
    """Say True when ``period`` seconds have passed since the last True, and at the beginning."""
    due = 0.0
    while True:
        now = time.monotonic()
        yield now >= due
        if now >= due:
            due = now + period
