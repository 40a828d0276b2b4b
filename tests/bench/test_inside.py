"""What one client costs: floors of a call, and programs in interpreters of their own."""

import pytest

from shardcache.bench.inside.floors import FLOORS, shown
from shardcache.bench.inside.footprint import Program, compared
from shardcache.bench.race import Laps, Race, Racer


@pytest.mark.parametrize("name", FLOORS)
def test_floors_are_measured(name: str) -> None:
    """From the socket up to the client, with the parts of the highest, and the whole at the end."""
    figures = [str(figure.what) for figure in FLOORS[name](Race(3, lap=0.0001))]
    assert figures[0].partition(": ")[2].startswith("socket")
    assert sum(": + " in figure for figure in figures) == 3
    assert figures[-1].endswith(": whole")


def test_each_floor_is_what_it_takes_more_than_the_one_below() -> None:
    """In microseconds; floors add up to the whole call."""
    laps = Laps({"low": [1e-6] * 3, "high": [5e-6] * 3, "part": [2e-6] * 3})
    racers = {name: Racer(name, len, [[]]) for name in laps.seconds}
    floors, parts = [racers["low"], racers["high"]], [racers["part"]]
    found = {one.what: one.measured.middle for one in shown(laps, "get", floors, parts)}
    assert found == pytest.approx(
        {"get: low": 1, "get: + high": 4, "get: of that, part": 2, "get: whole": 5}
    )


@pytest.mark.parametrize(
    ("shown_as", "measured", "unit"), [("own", 6, " MB"), ("excess", 4, " MB"), ("ratio", 3, "")]
)
def test_two_programs_are_compared(shown_as, measured: float, unit: str) -> None:
    """Each is handed the servers, and prints its number."""
    program = Program(
        "what", "print(int(sys.argv[1]) * 3)", "print(int(sys.argv[1]))", " MB", shown=shown_as
    )
    figure = compared(program, ["2"], 2)
    assert (figure.measured.middle, figure.unit) == (measured, unit)
    assert figure.costs == "6.0 / 2.0 MB"
