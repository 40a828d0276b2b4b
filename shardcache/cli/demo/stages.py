"""What the demo shows, stage by stage.

Each stage runs the workers for its part of the time, and shows in numbers what happened. No stage
waits longer than its part, so the demo as a whole ends in time.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
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

__all__ = ("LOOK_EVERY", "Outage", "Show", "every", "figures", "seconds")

See = Callable[[Report], object]

# Parts of the whole time. Starting and ending take the rest.
FILL, STEADY, OUTAGE, RECOVERY = 0.40, 0.12, 0.18, 0.22
LOOK_EVERY = 0.25  # seconds between two looks at which files are cached


@dataclass(slots=True)
class Outage:
    """What the workers saw of one shard's failure and return.

    ``shard``: the name of the shard.
    ``noticed``: for each worker, seconds from the kill until its breaker opened.
    ``rejoined``: for each worker, seconds from the server's start until it used the shard again.
    ``missing``: share of the files that the cache did not have, at the last look.
    ``others``: how many of the missing files belong to other shards, over all looks.
    ``refilled``: seconds from the server's start until every file was cached again, or None.
    """

    shard: str
    noticed: dict[int, float] = field(default_factory=dict)
    rejoined: dict[int, float] = field(default_factory=dict)
    missing: float = 0.0
    others: int = 0
    refilled: float | None = None

    @property
    def back(self) -> float | None:
        """Seconds until the last worker that had noticed the failure used the shard again."""
        return (
            max(self.rejoined.values(), default=0.0)
            if self.noticed.keys() <= self.rejoined.keys()
            else None
        )


class Show:
    """The stages: `fill`, `spread`, `fail`, `recover`, in this order.

    ``cache``: the parent's own client.
    ``crew``: the worker processes.
    ``display``: where results are shown.
    ``interrupts``: delays Ctrl-C while a server starts or is killed.
    ``files``: what to measure; after the first stage, ``self.files`` has only those done.
    ``seconds``: how long all stages take together.
    """

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
        # In random order, so that any part of the files has about the same mixture of sizes.
        self.files = random.Random(1).sample(files, len(files))
        self.errors: list[str] = []
        self.wrong = 0
        self.speedup = 0.0
        self.steady = Tally()
        self.outage: Outage | None = None
        self.told: list[tuple[str, str]] = []  # what the summary says of failures and changes

    def fill(self) -> None:
        """Stage 1: each file is computed by one process, then read by another one."""
        # Every worker computes its share, until the time of this stage is over.
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
        # From now on only the files count that were computed in time.
        done = [share[: cold.per_worker.get(number, 0)] for number, share in enumerate(shares)]
        skipped = len(self.files) - cold.answers
        self.files = [file for share in done for file in share]
        if not self.files:
            raise ServerNotStarted(
                f"nothing could be cached: {next(iter(self.errors), 'no answer came')}"
            )
        # Every worker reads the share of its neighbour.
        self._pass(done[1:] + done[:1], warm, self._seconds * FILL)
        self.speedup = cold.seconds * warm.answers / (warm.seconds * cold.answers)
        omitted = f" ({skipped} were left out to keep the time)" if skipped else ""
        hits = f"{warm.hits} hits, {warm.misses} misses"
        show.table(
            [
                (
                    "cold",
                    (
                        f"{cold.answers} files parsed and their measures stored in "
                        f"{seconds(cold.seconds)}{omitted}"
                    ),
                ),
                ("warm", f"read back, each by another process, in {seconds(warm.seconds)}: {hits}"),
                ("", f"{self.speedup:,.0f} times as fast"),
            ]
        )

    def spread(self, names: Mapping[str, str]) -> None:
        """Stage 2: where the files lie, and what the shards do under steady load.

        ``names``: what to call each shard, by the client's name for it, in the order to show; if
            it is empty, the client's names are shown.
        """
        show = self._display
        owners = self._spread_over()
        if names:
            owners = {name: owners[shard] for shard, name in names.items() if owners[shard]}
        full = max(owners.values())
        show.table(
            [
                (shard, f"{files} files", f"{files / len(self.files):.1%}", bar(files, full))
                for shard, files in owners.items()
            ]
        )
        self._crew.order([Order(self.files, forever=True)] * self._crew.size)
        self._stretch("steady load", self._seconds * STEADY, self.steady)
        show.table(figures(self.steady))

    def stop(self) -> None:
        """End the load."""
        for report in self._crew.stop():
            self._count(report, Tally())

    def fail(self, server: LocalServer) -> None:
        """Stage 3: one shard is killed under load."""
        # Kill the server, while the workers go on.
        show, tally, outage = self._display, Tally(), Outage(server.name)
        self.outage = outage
        killed = time.monotonic()
        with self._interrupts.shield():
            server.kill()
        looks = every(LOOK_EVERY)

        # Watch the reports for the moment when each worker notices, and count missing files.
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
        # Show what came of it.
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
                *figures(tally),
            ]
        )

    def recover(self, server: LocalServer) -> None:
        """Stage 4: the shard comes back, empty, and fills up again."""
        show, tally, outage = self._display, Tally(), self.outage or Outage(server.name)
        # The server starts with no keys.
        with self._interrupts.shield():
            server.start()
        up = time.monotonic()
        looks = every(LOOK_EVERY)

        # Watch the reports until all workers use the shard again, and every file is a hit.
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
            again = (
                f"{seconds(outage.refilled)} after {server.name} answers again, every file is a "
                "hit: misses filled it"
            )
        show.table([("errors", f"{len(tally.errors)}"), ("rejoined", back), ("refilled", again)])
        self._tell(outage)

    def _tell(self, outage: Outage) -> None:
        """Note for the summary what came of an outage."""
        noticed = seconds(max(outage.noticed.values(), default=0.0))
        died = f"{outage.missing:.0%} of the keys missed; noticed within {noticed}"
        back = (
            "not back in use by the end"
            if outage.back is None
            else f"back in use after {seconds(outage.back)}"
        )
        again = "" if outage.refilled is None else f", full again after {seconds(outage.refilled)}"
        self.told += [("a shard died", died), ("and came back", back + again)]

    def _spread_over(self) -> Mapping[str, int]:
        """Return how many files lie on each shard."""
        owners = Counter(self._cache.explain(file).shard for file in self.files)
        return {shard: owners[shard] for shard in self._cache.stats().shards}

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
                    f"{tally.rate:,.0f} answers/s, {tally.hit_share:.0%} hits, {len(self.errors)} "
                    "errors",
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


def figures(tally: Tally) -> list[tuple[str, str]]:
    """Return what a table says of a stretch under load."""
    p50, p99, longest = (seconds(tally.wait_at(share)) for share in (0.5, 0.99, 1))
    return [
        ("answers", f"{tally.rate:,.0f} a second: {tally.hits:,} hits, {tally.misses:,} misses"),
        ("look-up", f"p50 {p50}, p99 {p99}, longest {longest}"),
    ]


def every(period: float) -> Iterator[bool]:
    """Yield True at first, and whenever ``period`` seconds have passed since the last True."""
    due = 0.0
    while True:
        now = time.monotonic()
        yield now >= due
        if now >= due:
            due = now + period
