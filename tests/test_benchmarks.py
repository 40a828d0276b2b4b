"""The benchmarks run: each subject yields figures that print; their size is not tested."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

FOLDER = Path(__file__).parent.parent / "benchmarks"
RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from shardcache.bench.race import Race
{setup}
figures = list({figures})
print("\\n".join(map(str, figures)))
assert len(figures) >= {least}, figures
"""
SMALL = "Setting(processes=2, readers=2, ttl=0.4, pace=0.05, expiries=2, chaos=0)"
CASES = {
    "hits": ("import loads", "loads.hits(Race(3))", 3),
    "refresh": ("import loads", "loads.during_refresh(Race(3))", 1),
    "round trips": ("import loads", "loads.round_trips(Race(3))", 2),
    "stampede": (
        "import stampede; from crowd import Setting",
        f"stampede.crowds({SMALL}, (), [])",
        4,
    ),
    "locks": ("import locks", "locks.alone(Race(3))", 5),
    "growth": (
        "from shardcache.bench.inside.growth import measure_growth",
        "measure_growth(Race(3))",
        4,
    ),
    "frozen voters": ("import locks", "locks.hung(Race(3))", 2),
}


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the benchmarks are not part of what was unpacked")
@pytest.mark.parametrize("name", CASES)
def test_it_runs(name: str) -> None:
    """With the smallest load that makes sense."""
    setup, figures, least = CASES[name]
    code = RUN.format(setup=setup, figures=figures, least=least)
    done = subprocess.run(
        [sys.executable, "-c", code, str(FOLDER)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
