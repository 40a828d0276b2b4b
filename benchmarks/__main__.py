"""Run the benchmarks and print one table.

``python -m benchmarks [SUBJECT …] [--rounds N] [--json FILE] [--compare OLD.json] …``
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from shardcache.bench.arguments import add_options
from shardcache.bench.program import Subject, run_program
from shardcache.bench.subjects import SUBJECTS as SCENARIOS
from shardcache.errors import InvalidOption

# Started by ``python -m benchmarks`` as well, when only the folder above is searched.
sys.path.insert(0, str(Path(__file__).parent))

# Beside the scenarios of `shardcache bench`.
# A subject is a module with ``figures(race)``, which yields each figure as soon as it is measured.
SUBJECTS = (
    "single",
    "many",
    "aio",
    "locks",
    "loads",
    "stampede",
    "redis_cluster",
    "near",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description="Figures as ratios to peers on the same servers."
    )
    parser.add_argument(
        "subjects",
        nargs="*",
        metavar="SUBJECT",
        help=f"any of {', '.join((*SUBJECTS, *SCENARIOS))} (default: those of this folder)",
    )
    add_options(parser, rounds=101)
    args = parser.parse_args()
    args.subjects = args.subjects or list(SUBJECTS)
    try:
        return run_program(args, "python -m benchmarks", (*SUBJECTS, *SCENARIOS), subject)
    except InvalidOption as error:
        parser.error(str(error))


def subject(name: str) -> Subject:
    return SCENARIOS[name] if name in SCENARIOS else import_module(name).figures


if __name__ == "__main__":
    sys.exit(main())
