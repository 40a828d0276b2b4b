"""The sum of what the workers of the demo reported in one stage."""

from dataclasses import dataclass, field

from shardcache.cli.demo.worker import Report

__all__ = ("Tally",)


@dataclass(slots=True)
class Tally:
    """Sums over reports.

    ``seconds``: how long the stage took; the stage sets it.
    ``hits``: look-ups that the cache answered.
    ``waits``: seconds of each look-up.
    ``errors``: each error as text.
    ``wrong``: values that belong to another key.
    ``per_worker``: look-ups by number of the worker.
    """

    seconds: float = 0.0
    hits: int = 0
    waits: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    wrong: int = 0
    per_worker: dict[int, int] = field(default_factory=dict)

    def add(self, report: Report) -> None:
        self.hits += report.hits
        self.wrong += report.wrong
        self.waits += report.waits
        self.errors += report.errors
        self.per_worker[report.worker] = self.per_worker.get(report.worker, 0) + len(report.waits)

    @property
    def answers(self) -> int:
        return len(self.waits)

    @property
    def misses(self) -> int:
        return self.answers - self.hits - self.wrong

    @property
    def rate(self) -> float:
        """Answers per second, all workers together."""
        return self.answers / self.seconds if self.seconds else 0.0

    @property
    def hit_share(self) -> float:
        return self.hits / self.answers if self.answers else 0.0

    def wait_at(self, share: float) -> float:
        """Return the seconds within which ``share`` of the look-ups were over."""
        return (
            sorted(self.waits)[min(int(len(self.waits) * share), len(self.waits) - 1)]
            if self.waits
            else 0.0
        )
