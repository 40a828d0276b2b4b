"""The program around the races: options, the run, the table, and the files that are asked for."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from shardcache.bench.comparison import Verdict, compare, other_conditions
from shardcache.bench.conditions import machine, versions
from shardcache.bench.figure import Absent, Figure, header
from shardcache.bench.idle_cores import awake
from shardcache.bench.markdown import to_markdown
from shardcache.bench.race import Race
from shardcache.bench.record import Record, Setting, read_record
from shardcache.errors import InvalidOption

__all__ = ("Subject", "add_options", "run_program")

Subject = Callable[[Race], Iterable[Figure | Absent]]
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
        "--compare",
        type=Path,
        metavar="OLD.json",
        help="say what got slower since that --json: quartiles that do not overlap; exit code 1",
    )


def run_program(
    args: argparse.Namespace,
    program: str,
    names: Sequence[str],
    find: Callable[[str], Subject],
) -> int:
    """Run the subjects, print the table, write the files, and return the exit code.

    ``args``: the options of `add_options`, and ``subjects``: the names that were asked for.
    ``program``: how it was called, without arguments.
    ``names``: of all subjects, in the order of a whole run.
    ``find``: returns what measures a subject.

    1: a figure got slower than in the old run, by more than the noise. 0: else.
    `InvalidOption`: an argument is wrong; nothing was measured.
    """
    _check(args, names)
    old = read_record(args.compare) if args.compare else None
    setting = Setting(
        command=shlex.join([*program.split(), *_arguments(args)]),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        clock="this thread's CPU time" if args.cpu else "wall clock",
        rounds=args.rounds,
        machine=machine(),
        versions=versions(),
    )
    # The cores are awake while it measures, and no longer.
    started = time.monotonic()
    race = Race(args.rounds, time.thread_time if args.cpu else time.perf_counter)
    with nullcontext(False) if args.sleepy else awake() as kept:
        cores = "kept awake" if kept else "left to themselves"
        setting = Setting(**{**vars(setting), "machine": {**setting.machine, "idle cores": cores}})
        print(f"{_described(setting)}\n\n{header()}", flush=True)
        figures: dict[tuple[str, str], Figure] = {}
        absent: dict[str, None] = {}  # in order, each once
        for subject, figure in _measure(args.subjects or names, find, race):
            told = (
                f"{subject}: {figure.what}: {figure.reason}" if isinstance(figure, Absent) else ""
            )
            if told not in absent:
                print(figure, flush=True)
            if isinstance(figure, Absent):
                absent[told] = None
            else:
                figures[subject, figure.what] = figure
    record = Record(setting, figures, tuple(absent))
    goals = [figure for figure in figures.values() if figure.goal is not None]
    met = sum(figure.met for figure in goals)
    told = f"{met} of {len(goals)} goals met, " if goals else ""
    print(f"\n{told}{len(figures)} figures in {time.monotonic() - started:.0f} s")
    # Files first: what was measured is kept, whatever the comparison says.
    if args.json:
        args.json.write_text(record.to_json(), encoding="utf-8")
    if args.markdown:
        args.markdown.write_text(to_markdown(record), encoding="utf-8")
    return _report(old, record) if old else 0


def _check(args: argparse.Namespace, names: Sequence[str]) -> None:
    if unknown := [name for name in args.subjects if name not in names]:
        raise InvalidOption(
            f"no subject is named {', '.join(unknown)}; there are {', '.join(names)}"
        )
    if args.rounds < LEAST_ROUNDS:
        raise InvalidOption(f"--rounds must be {LEAST_ROUNDS} or more, got {args.rounds}")
    for path in (args.json, args.markdown):
        # Known before the minutes of a run, not after.
        if path and not _writable(path):
            raise InvalidOption(f"{path} must be a file that can be written, and its folder there")


def _writable(path: Path) -> bool:
    return not path.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK)


def _arguments(args: argparse.Namespace) -> Iterator[str]:
    """Yield the arguments that the figures depend on."""
    yield from args.subjects
    yield from ("--rounds", str(args.rounds))
    yield from (f"--{name}" for name in ("cpu", "sleepy") if getattr(args, name))


def _measure(
    subjects: Sequence[str], find: Callable[[str], Subject], race: Race
) -> Iterator[tuple[str, Figure | Absent]]:
    terminal = sys.stderr.isatty()
    for number, name in enumerate(subjects, 1):
        if terminal:  # a line that the next figure overwrites
            print(f"\r{name}, {number} of {len(subjects)} …", end="", file=sys.stderr, flush=True)
        for figure in find(name)(race):
            if terminal:
                print("\r\033[K", end="", file=sys.stderr, flush=True)
            yield name, figure


def _described(setting: Setting) -> str:
    facts = {**setting.machine, **setting.versions}
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    return f"{setting.clock}, {setting.rounds} rounds; {told}"


def _report(old: Record, new: Record) -> int:
    changes = compare(old, new)
    print(f"\nSince {old.setting.date}, `{old.setting.command}`:")
    for condition in other_conditions(old.setting, new.setting):
        print(f"  other conditions: {condition}")
    for change in changes:
        if change.verdict is not Verdict.SAME:
            print(f"  {change}")
    counts = dict.fromkeys(Verdict, 0)
    for change in changes:
        counts[change.verdict] += 1
    print("  " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))
    return 1 if counts[Verdict.SLOWER] else 0
