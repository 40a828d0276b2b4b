"""The program around the races: the run, the table, and the files that are asked for."""

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime

from shardcache.bench.arguments import check_arguments, typed_arguments
from shardcache.bench.bars import cost_bars
from shardcache.bench.charts import draw_charts
from shardcache.bench.comparison import Verdict, compare, other_conditions
from shardcache.bench.conditions import load, machine, versions
from shardcache.bench.figure import Absent, Figure, header
from shardcache.bench.idle_cores import awake
from shardcache.bench.page import write_page
from shardcache.bench.peers.registry import PEERS
from shardcache.bench.race import Race
from shardcache.bench.record import Record, Setting, joined, read_record

__all__ = ("Subject", "run_program")

Subject = Callable[[Race], Iterable[Figure | Absent]]


def run_program(
    args: argparse.Namespace,
    program: str,
    names: Sequence[str],
    find: Callable[[str], Subject],
) -> int:
    """Run the subjects, print the table, write the files, and return the exit code.

    ``args``: the options of `arguments.add_options`, and ``subjects``: the names asked for.
    ``program``: how it was called, without arguments.
    ``names``: of all subjects, in the order of a whole run.
    ``find``: returns what measures a subject.

    1: a figure got slower than in the old run, by more than the noise. 0: else.
    `InvalidOption`: an argument is wrong; nothing was measured.
    """
    check_arguments(args, names)
    old = read_record(args.compare) if args.compare else None
    record = joined(map(read_record, args.read)) if args.read else _run(args, program, names, find)
    # Files first: what was measured is kept, whatever the comparison says.
    if args.json:
        args.json.write_text(record.to_json(), encoding="utf-8")
    charts = draw_charts(record, args.charts) if args.charts else {}
    if args.markdown:
        floor = [peer.name for peer in PEERS.values() if peer.floor]
        write_page(args.markdown, record, charts, floor)
    return _report(old, record) if old else 0


def _run(
    args: argparse.Namespace,
    program: str,
    names: Sequence[str],
    find: Callable[[str], Subject],
) -> Record:
    """Measure the subjects and print the table."""
    setting = Setting(
        command=shlex.join([*program.split(), *typed_arguments(args)]),
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
        setting = replace(setting, machine={**setting.machine, "idle cores": cores})
        print(f"{_described(setting)}\n\n{header()}", flush=True)
        figures: dict[tuple[str, str], Figure] = {}
        absent: dict[str, None] = {}  # in order, each once
        for subject, figure in _measure(args.subjects or names, find, race):
            told = (
                f"{subject}: {figure.what}: {figure.reason}" if isinstance(figure, Absent) else ""
            )
            # What is absent in each case is told once.
            if told not in absent:
                print(figure, flush=True)
            if isinstance(figure, Absent):
                absent[told] = None
            else:
                figures[subject, figure.what] = figure
                if args.json:  # a run that is broken off keeps what it has
                    partial = Record(setting, figures, tuple(absent))
                    args.json.write_text(partial.to_json(), encoding="utf-8")
    goals = [figure for figure in figures.values() if figure.goal is not None]
    met = sum(figure.met for figure in goals)
    told = f"{met} of {len(goals)} goals met, " if goals else ""
    print(f"\n{told}{len(figures)} figures in {time.monotonic() - started:.0f} s")
    ended = {**setting.machine, "load at the end": load()}
    return Record(replace(setting, machine=ended), figures, tuple(absent))


def _measure(
    subjects: Sequence[str], find: Callable[[str], Subject], race: Race
) -> Iterator[tuple[str, Figure | Absent]]:
    terminal = sys.stderr.isatty()
    for number, name in enumerate(subjects, 1):
        if terminal:  # a line that the next figure overwrites
            print(f"\r{name}, {number} of {len(subjects)} …", end="", file=sys.stderr, flush=True)
        measured = []
        for figure in find(name)(race):
            if terminal:
                print("\r\033[K", end="", file=sys.stderr, flush=True)
            yield name, figure
            if isinstance(figure, Figure):
                measured.append(figure)
        # A file is read by programs, and a terminal by people.
        if sys.stdout.isatty():
            print("\n".join(["", *cost_bars(measured), ""]), flush=True)


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
