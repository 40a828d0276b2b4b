"""Many histories, one for each seed, counted together."""

import multiprocessing
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat

from shardcache.testing.simulation.ablations import ablated
from shardcache.testing.simulation.history import History, play
from shardcache.testing.simulation.judge import Kind
from shardcache.testing.simulation.scenario import draw
from shardcache.testing.simulation.shrink import shrink_scenario

__all__ = ("Tally", "run_campaign", "story")

_CHUNK = 100


@dataclass(slots=True)
class Tally:
    """Sums over many histories.

    ``histories``: how many there were.
    ``acquisitions``: how often a lock was acquired.
    ``writes``: writes that the fenced store took.
    ``refused``: writes that the fenced store refused.
    ``events``: events of virtual time.
    ``failed``: histories by kind of violation.
    ``first``: the lowest seed of each kind of violation.
    """

    histories: int = 0
    acquisitions: int = 0
    writes: int = 0
    refused: int = 0
    events: int = 0
    failed: Counter[Kind] = field(default_factory=Counter)
    first: dict[Kind, int] = field(default_factory=dict)

    def count(self, history: History) -> None:
        self.histories += 1
        self.acquisitions += history.acquisitions
        self.writes += history.writes
        self.refused += history.refused
        self.events += history.events
        for kind in {violation.kind for violation in history.violations}:
            self.failed[kind] += 1
            self.first.setdefault(kind, history.scenario.seed)

    def add(self, other: "Tally") -> None:
        self.histories += other.histories
        self.acquisitions += other.acquisitions
        self.writes += other.writes
        self.refused += other.refused
        self.events += other.events
        self.failed += other.failed
        for kind, seed in other.first.items():
            self.first[kind] = min(seed, self.first.get(kind, seed))


def run_campaign(
    histories: int,
    seed: int,
    *,
    ablate: str | None = None,
    outside: Collection[str] = (),
    plot: str | None = None,
    processes: int = 1,
) -> Iterator[Tally]:
    """Run histories; yield the sum so far from time to time, and at last that of all.

    ``histories``: how many.
    ``seed``: the first seed; the others follow it.
    ``ablate``: a part of the lock to take out (`ABLATIONS`).
    ``outside``: faults outside of the assumptions to add (`OUTSIDE`).
    ``plot``: a story that every history tells (`STORIES`).
    ``processes``: in how many processes to run them.
    """
    # Seeds are run in chunks; each chunk is counted in a tally of its own.
    chunks = [
        range(start, min(start + _CHUNK, seed + histories))
        for start in range(seed, seed + histories, _CHUNK)
    ]
    work = zip(chunks, repeat(ablate), repeat(tuple(outside)), repeat(plot))
    total = Tally()
    if processes == 1:
        for part in map(_run, work):
            total.add(part)
            yield total
        return
    # Several processes: the sums are the same, in whatever order the chunks end.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for part in pool.imap_unordered(_run, work):
            total.add(part)
            yield total


def _run(work: tuple[Sequence[int], str | None, Collection[str], str | None]) -> Tally:
    seeds, ablate, outside, plot = work
    tally = Tally()
    with ablated(ablate):
        for seed in seeds:
            tally.count(play(draw(seed, outside, plot)))
    return tally


def story(
    seed: int,
    kind: Kind,
    *,
    ablate: str | None = None,
    outside: Collection[str] = (),
    plot: str | None = None,
) -> History:
    """Return the history of a failing seed with notes, made as small as possible.

    ``seed``: the seed.
    ``kind``: the kind of violation that it must still have.
    ``ablate``, ``outside``, ``plot``: as in `run_campaign`.
    """
    with ablated(ablate):
        return play(shrink_scenario(draw(seed, outside, plot), kind), noted=True)
