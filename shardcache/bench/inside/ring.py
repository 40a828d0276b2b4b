"""The ring alone: how fast it is built and asked, and how evenly it spreads."""

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count

from shardcache.bench.figure import Absent, Figure
from shardcache.bench.race import Race, Racer, Spread
from shardcache.bench.scenarios.subject import figures
from shardcache.placement.ring import HashRing

__all__ = ("RING", "measure_ring")

WIRES = [f"user:{number}:profile".encode() for number in range(10_000)]
SIZES = (3, 10, 100, 1_000)
PEAK_GOALS = {10: 1.05, 100: 1.08}
FLEETS = 15  # fleets of other names: one name more or less is chance


def measure_ring(race: Race) -> Iterator[Figure | Absent]:
    """Measure look-up, build and balance at several sizes."""
    rings = {size: HashRing(names(size, 0)) for size in SIZES}
    laps = race([Racer(str(size), ring.owner_index, WIRES) for size, ring in rings.items()])
    for size in SIZES:
        yield Figure(f"look-up at {size:,} nodes", micros(laps.seconds[str(size)]), 0.5, " µs")

    yield from beside_uhashring(race)
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


def beside_uhashring(race: Race) -> Iterator[Figure | Absent]:
    """Race look-ups against those of uhashring."""
    if find_spec("uhashring") is None:
        yield Absent("uhashring", "not installed: pip install uhashring")
        return
    from uhashring import HashRing as OtherRing

    for size in SIZES:
        nodes = names(size, 0)
        racers = [
            Racer("shardcache", HashRing(nodes).owner_index, WIRES),
            Racer("uhashring", OtherRing(nodes=nodes).get_node, [wire.decode() for wire in WIRES]),
        ]
        yield from figures(f"look-up, {size:,} nodes", race(racers), 1)


def names(size: int, fleet: int) -> list[str]:
    """Return the names of the nodes of a fleet."""
    return [f"10.{fleet}.{at >> 8}.{at & 255}:6379/0" for at in range(size)]


def micros(seconds: list[float]) -> Spread:
    """Return microseconds."""
    return Spread.of(value * 1e6 for value in seconds)


RING = {"ring": measure_ring}
