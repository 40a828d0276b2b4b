"""The arguments of a run of benchmarks: what there is, and what is refused."""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from shardcache.bench.charts import check_matplotlib
from shardcache.errors import InvalidOption

__all__ = ("add_options", "check_arguments", "typed_arguments")

LEAST_ROUNDS = 3  # what has quartiles


def add_options(parser: argparse.ArgumentParser, *, rounds: int) -> None:
    """Add what every run of benchmarks can be told.

    ``rounds``: the default of ``--rounds``.
    """
    # How it is measured.
    parser.add_argument(
        "--rounds",
        type=int,
        default=rounds,
        metavar="N",
        help=f"rounds of each race, {LEAST_ROUNDS} or more (default: %(default)s)",
    )
    parser.add_argument(
        "--cpu", action="store_true", help="time this thread's own work instead of whole calls"
    )
    parser.add_argument(
        "--sleepy", action="store_true", help="let idle cores fall asleep, as they do in life"
    )
    # What is made of it.
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write all figures with their spread, costs, machine and versions",
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables, the command, the machine"
    )
    parser.add_argument(
        "--charts",
        type=Path,
        metavar="FOLDER",
        help="draw a PNG of each subject there; --markdown shows them",
    )
    parser.add_argument(
        "--read",
        type=Path,
        nargs="+",
        metavar="RUN.json",
        help="measure nothing: make --markdown and --charts of these --json",
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="OLD.json",
        help="say what got slower since that --json: quartiles that do not overlap; exit code 1",
    )


def check_arguments(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Raise `InvalidOption` for what cannot be, before anything is measured.

    ``names``: of all subjects.
    """
    if unknown := [name for name in args.subjects if name not in names]:
        raise InvalidOption(
            f"no subject is named {', '.join(unknown)}; there are {', '.join(names)}"
        )
    if args.rounds < LEAST_ROUNDS:
        raise InvalidOption(f"--rounds must be {LEAST_ROUNDS} or more, got {args.rounds}")
    if args.charts:
        check_matplotlib()
    for path in (args.json, args.markdown):
        # Known before the minutes of a run, not after.
        if path and not _writable(path):
            raise InvalidOption(f"{path} must be a file that can be written, and its folder there")


def typed_arguments(args: argparse.Namespace) -> Iterator[str]:
    """Yield the arguments that the figures depend on."""
    yield from args.subjects
    yield from ("--rounds", str(args.rounds))
    yield from (f"--{name}" for name in ("cpu", "sleepy") if getattr(args, name))


def _writable(path: Path) -> bool:
    return not path.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK)
