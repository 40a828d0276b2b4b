"""The ring alone: how fast it is built and asked, and how evenly it spreads."""

from collections.abc import Iterator
from itertools import count

from shardcache import HashRing
from shardcache.bench.figure import Figure
from shardcache.bench.race import Race, Racer, Spread

WIRES = [f"user:{number}:profile".encode() for number in range(10_000)]
SIZES = (1, 10, 100, 1_000)
PEAK_GOALS = {10: 1.05, 100: 1.08}
FLEETS = 15  # fleets of other names: one name more or less is chance


def figures(race: Race) -> Iterator[Figure]:
    """Measure look-up, build and balance at several sizes."""
    rings = {size: HashRing(names(size, 0)) for size in SIZES}
    laps = race([Racer(str(size), ring.owner_index, WIRES) for size, ring in rings.items()])
    for size in SIZES:
        yield Figure(f"look-up at {size:,} nodes", micros(laps.seconds[str(size)]), 0.5, " µs")

    # Names are new each time, so that nothing could be remembered.
    fleet = count(1)
    builds = race(
        [
            Racer(str(size), lambda size: HashRing(names(size, next(fleet))), [size])
            for size in PEAK_GOALS
        ],
        share=0.1,
    )
    for size in PEAK_GOALS:
        spread = Spread(*(value / 1000 for value in micros(builds.seconds[str(size)])))
        yield Figure(f"build at {size} nodes", spread, 15 if size == 10 else None, " ms")

    for size, goal in PEAK_GOALS.items():
        peaks = [
            max(HashRing(names(size, fleet)).shares().values()) * size for fleet in range(FLEETS)
        ]
        yield Figure(f"fullest node / mean, {size} nodes, {FLEETS} fleets", Spread.of(peaks), goal)


def names(size: int, fleet: int) -> list[str]:
    return [f"10.{fleet}.{at >> 8}.{at & 255}:6379/0" for at in range(size)]


def micros(seconds: list[float]) -> Spread:
    return Spread.of(value * 1e6 for value in seconds)
