"""All that ``shardcache bench`` measures, by name."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from shardcache.bench.figure import Absent, Figure
from shardcache.bench.inside.floors import FLOORS
from shardcache.bench.inside.footprint import FOOTPRINT
from shardcache.bench.inside.growth import GROWTH
from shardcache.bench.inside.ring import RING
from shardcache.bench.open_loop.subject import run_mix
from shardcache.bench.open_loop.table import MIXES
from shardcache.bench.race import Race
from shardcache.bench.scenarios.subject import race_scenario
from shardcache.bench.scenarios.table import SCENARIOS

__all__ = ("SUBJECTS",)

SUBJECTS: Mapping[str, Callable[[Race], Iterator[Figure | Absent]]] = {
    **{name: partial(race_scenario, scenario) for name, scenario in SCENARIOS.items()},
    **{name: partial(run_mix, mix) for name, mix in MIXES.items()},
    **FLOORS,
    **FOOTPRINT,
    **RING,
    **GROWTH,
}
