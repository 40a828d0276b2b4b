"""``bench``: races this client against others, on servers of its own."""

import argparse

from shardcache.cli.exit_codes import Exit
from shardcache.cli.parser import Commands
from shardcache.cli.text import say

__all__ = ("add",)

ROUNDS = 31


def add(commands: Commands) -> None:
    """Add the command."""
    from shardcache.bench.arguments import add_options

    bench = commands.add_parser(
        "bench",
        help="race this client against others, on local servers",
        description="Starts servers on 127.0.0.1, races this client against those that are "
        "installed, and prints what a call costs as a ratio to theirs: less is better, below 1 "
        "this client is faster. pip install 'shardcache[bench]' brings the servers and the other "
        "clients; memcached and openssl are used where they are. No --url is read.",
        examples=("bench operations", "bench get-size get_many-keys --markdown figures.md"),
    )
    bench.add_argument(
        "subjects", nargs="*", metavar="SCENARIO", help="names of --list (default: all)"
    )
    bench.add_argument("--list", action="store_true", help="print the scenarios and end")
    bench.add_argument(
        "--profile",
        action="store_true",
        help="measure where the time of one get and one get_many goes, floor by floor",
    )
    add_options(bench, rounds=ROUNDS)
    bench.set_defaults(run=_bench)


def _bench(args: argparse.Namespace) -> int:
    from shardcache.bench.inside.floors import FLOORS
    from shardcache.bench.program import run_program
    from shardcache.bench.scenarios.table import SCENARIOS
    from shardcache.bench.subjects import SUBJECTS

    if args.list:
        for name in SUBJECTS:
            cases = SCENARIOS[name].cases() if name in SCENARIOS else ()
            say(f"{name}: {', '.join(label for label, _ in cases)}".removesuffix(": "))
        return Exit.FINE
    if args.profile:
        args.subjects = [*FLOORS, *args.subjects]
    return run_program(args, "shardcache bench", tuple(SUBJECTS), SUBJECTS.__getitem__)
