"""Run the benchmarks and print one table.

``python benchmarks [SUBJECT …] [--rounds N] [--cpu] [--sleepy]``
"""

import argparse
import os
import platform
import sys
import time
from contextlib import nullcontext
from importlib import import_module, metadata
from pathlib import Path

# Started by ``python -m benchmarks`` as well, when only the folder above is searched.
sys.path.insert(0, str(Path(__file__).parent))

from awake import awake
from figure import Figure, header
from race import Race

# A subject is a module with ``figures(race)``, which yields each figure as soon as it is measured.
SUBJECTS = (
    "single",
    "many",
    "aio",
    "locks",
    "loads",
    "stampede",
    "growth",
    "ring",
    "footprint",
    "redis_cluster",
    "near",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description="Figures as ratios to peers on the same servers."
    )
    parser.add_argument(
        "subjects", nargs="*", metavar="SUBJECT", help=f"any of {', '.join(SUBJECTS)}; default: all"
    )
    parser.add_argument(
        "--rounds", type=int, default=101, help="rounds of each race (default: %(default)s)"
    )
    parser.add_argument(
        "--cpu", action="store_true", help="time this thread's own work instead of whole calls"
    )
    parser.add_argument(
        "--sleepy", action="store_true", help="let idle cores fall asleep, as they do in life"
    )
    said = parser.parse_args()
    if unknown := [name for name in said.subjects if name not in SUBJECTS]:
        parser.error(f"no subject is named {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    if said.rounds < 3:
        parser.error(f"--rounds must be 3 or more, got {said.rounds}")
    race = Race(said.rounds, time.thread_time if said.cpu else time.perf_counter)
    started = time.monotonic()
    print(setting())
    with nullcontext(False) if said.sleepy else awake() as kept:
        clock = "this thread's CPU time" if said.cpu else "wall clock"
        print(
            f"{clock}, {said.rounds} rounds, cores "
            f"{'kept awake' if kept else 'left to themselves'}\n\n{header()}"
        )
        found = run(said.subjects or SUBJECTS, race)
    goals = [figure for figure in found if figure.goal is not None]
    met = sum(figure.met for figure in goals)
    print(f"\n{met} of {len(goals)} goals met, in {time.monotonic() - started:.0f} s")


def run(subjects: list[str] | tuple[str, ...], race: Race) -> list[Figure]:
    found = []
    for subject in subjects:
        for figure in import_module(subject).figures(race):
            print(figure, flush=True)
            found.append(figure)
    return found


def setting() -> str:
    """Say what the figures depend on."""
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("redis", "hiredis", "mmh3", "msgpack")
    )
    python = f"{platform.python_implementation()} {platform.python_version()}"
    load = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"
    return f"{python}, {versions}; {load}; values of 100 bytes, 1 thread, TCP on 127.0.0.1"


if __name__ == "__main__":
    main()
