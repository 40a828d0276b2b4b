"""What the demo shows of a near cache: what the servers are asked without and with it."""

import time
from contextlib import ExitStack

from shardcache.cli.demo.stages import Show, every, seconds
from shardcache.cli.demo.tally import Tally
from shardcache.cli.demo.worker import Order, Report
from shardcache.policy.near_store import LEASE

__all__ = ("Freshness", "NearShow")

WITHOUT, WITH = 0.16, 0.24  # parts of the whole time
CHANGE_EVERY = 0.2  # seconds between two changes of one value
CHANGED = 0.1  # the part of all requests that asks for that value
PAUSE = 0.004  # seconds that a worker waits after each few requests


class Freshness:
    """Compares the versions of a value that were read with those that were written.

    ``written``: when the write of each version was acknowledged.
    ``stale``: how many times a report told of a version although the next one was acknowledged
        longer before than is promised (G8).
    ``latest``: the longest time from an acknowledgement to a read of the version before, in
        seconds.
    """

    def __init__(self) -> None:
        self.written: dict[int, float] = {}
        self.stale = 0
        self.latest = 0.0

    def see(self, versions: dict[int, float]) -> None:
        """Judge what one worker has read, and when it asked for it last."""
        for version, asked in versions.items():
            if version + 1 in self.written:
                late = asked - self.written[version + 1]
                self.latest = max(self.latest, late)
                self.stale += late > LEASE

    @property
    def delay(self) -> str:
        """How long after a write the version before it was read, in words."""
        if not self.latest:
            return "no version was read once the next one was written"
        return f"a version was read up to {seconds(self.latest)} after the next one was written"

    def __str__(self) -> str:
        return f"{self.stale} stale reads, of {len(self.written)} versions of one value"


class NearShow(Show):
    """The stages with a near cache: `fill`, `spread`, `compare`, in this order."""

    def compare(self, urls: list[str]) -> None:
        """The same load twice, by clients without and with a near cache; one value changes.

        ``urls``: those of the servers, which count the reads.
        """
        self.stop()
        fresh = Freshness()
        plain, asked = self._load(urls, fresh, near=False)
        near, asked_with = self._load(urls, fresh, near=True)
        self.wrong += fresh.stale
        self._display.table(
            [
                ("without", _answers(plain)),
                ("", f"the servers saw {asked / plain.seconds:,.0f} reads a second"),
                ("with", _answers(near)),
                ("", f"the servers saw {asked_with / near.seconds:,.0f} reads a second"),
                ("errors", f"{len(plain.errors) + len(near.errors)}"),
                ("fresh", str(fresh)),
                ("", fresh.delay),
            ]
        )
        # For the summary.
        share = asked_with / max(near.answers, 1)
        self.told += [("near cache", f"the servers saw {share:.1%} of the reads"), ("", str(fresh))]

    def _load(self, urls: list[str], fresh: Freshness, *, near: bool) -> tuple[Tally, int]:
        """Have the workers read; return what they did, and how many reads the servers saw.

        The value of one file is written again and again meanwhile.
        """
        tally, changes = Tally(), every(CHANGE_EVERY)

        def see(report: Report) -> bool:
            fresh.see(report.versions)
            if next(changes):
                self._change(fresh)
            return False

        often = [self.files[0]] * int(len(self.files) * CHANGED)
        order = Order(self.files + often, forever=True, near=near, pause=PAUSE)
        before = _reads(urls)
        self._crew.order([order] * self._crew.size)
        label = "with a near cache" if near else "without a near cache"
        start = time.monotonic()
        self._stretch(label, self._seconds * (WITH if near else WITHOUT), tally, see)
        # What the workers have done since their last reports counts too: the servers have seen it.
        for report in self._crew.stop():
            self._count(report, tally)
            fresh.see(report.versions)
        tally.seconds = time.monotonic() - start
        return tally, _reads(urls) - before

    def _change(self, fresh: Freshness) -> None:
        """Write the next version of a file's value."""
        version = len(fresh.written)
        value = {"file": self.files[0], "version": version}
        if self._cache.set(self.files[0], value):
            fresh.written[version] = time.monotonic()


def _answers(tally: Tally) -> str:
    return f"{tally.rate:,.0f} answers a second, p50 {seconds(tally.wait_at(0.5))}"


def _reads(urls: list[str]) -> int:
    """Return how many reads the servers have carried out."""
    from redis import Redis  # slow to import

    total = 0
    with ExitStack() as stack:
        for url in urls:
            info = stack.enter_context(Redis.from_url(url)).info("commandstats")
            total += info.get("cmdstat_get", {"calls": 0})["calls"]
    return total
