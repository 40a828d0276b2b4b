"""Two runs compared: which figures changed by more than their noise."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from shardcache.bench.figure import digits
from shardcache.bench.race import Spread
from shardcache.bench.record import Record, Setting

__all__ = ("Change", "Verdict", "compare", "judge", "other_conditions")


class Verdict(StrEnum):
    """What became of a figure; less is better."""

    SLOWER = "slower"
    FASTER = "faster"
    SAME = "within the noise"
    UNKNOWN = "one value each, noise unknown"
    NEW = "not in the old run"
    GONE = "not measured now"


@dataclass(frozen=True)
class Change:
    """``old``, ``new``: None if that run did not measure the figure."""

    subject: str
    what: str
    unit: str
    old: Spread | None
    new: Spread | None

    @property
    def verdict(self) -> Verdict:
        if self.old is None:
            return Verdict.NEW
        if self.new is None:
            return Verdict.GONE
        return judge(self.old, self.new)

    def __str__(self) -> str:
        sides = (_shown(spread, self.unit) for spread in (self.old, self.new))
        return f"{self.verdict}: {self.subject}: {self.what}: {' -> '.join(sides)}"


def judge(old: Spread, new: Spread) -> Verdict:
    """Say whether the quartiles of the two overlap, and if not, which is slower.

    Quartiles that touch overlap. Two figures of one value each have no quartiles to judge by.
    """
    if old == new:
        return Verdict.SAME
    if old.low == old.high and new.low == new.high:
        return Verdict.UNKNOWN
    if new.low > old.high:
        return Verdict.SLOWER
    return Verdict.FASTER if new.high < old.low else Verdict.SAME


def compare(old: Record, new: Record) -> list[Change]:
    """Return what became of each figure, in the order of the new run; what is gone comes last.

    Subjects that were not run now are left out: they were not asked for.
    """
    run = {subject for subject, _ in new.figures}
    names = [*new.figures, *(name for name in old.figures if name not in new.figures)]
    changes = []
    for subject, what in names:
        if subject in run:
            before, after = old.figures.get((subject, what)), new.figures.get((subject, what))
            unit = next(figure.unit for figure in (after, before) if figure)
            spreads = (figure.measured if figure else None for figure in (before, after))
            changes.append(Change(subject, what, unit, *spreads))
    return changes


def other_conditions(old: Setting, new: Setting) -> Iterator[str]:
    """Yield what differs between the settings of two runs, and so may be a reason."""
    if old.clock != new.clock:
        yield f"clock: {old.clock} -> {new.clock}"
    if old.rounds != new.rounds:
        yield f"rounds: {old.rounds} -> {new.rounds}"
    for before, after in ((old.machine, new.machine), (old.versions, new.versions)):
        for name in {**before, **after}:
            if before.get(name) != after.get(name):
                yield f"{name}: {before.get(name, 'none')} -> {after.get(name, 'none')}"


def _shown(spread: Spread | None, unit: str) -> str:
    if spread is None:
        return "none"
    middle, low, high = digits(spread)
    return f"{middle}{unit} [{low} … {high}]"
