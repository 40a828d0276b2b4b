"""The command line: ``python -m shardcache.testing.simulation --histories N --seed S``.

Prints speed, acquisitions and violations. For the first seed that failed it prints what happened,
without the faults and clients that the failure does not need. Exit code 1 if there are violations.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from shardcache.testing.simulation.ablations import ABLATIONS
from shardcache.testing.simulation.campaign import Tally, run_campaign, story
from shardcache.testing.simulation.history import History, replay
from shardcache.testing.simulation.scenario import OUTSIDE
from shardcache.testing.simulation.stories import STORIES

__all__ = ("main",)


def main(argv: Sequence[str] | None = None) -> int:
    """Run histories of the quorum lock and judge them."""
    args = _parser().parse_args(argv)
    # Either one history in full,
    if args.replay:
        history = replay(args.seed, args.outside, args.story)
        _tell(history)
        return int(bool(history.violations))
    # or many histories, counted; a terminal shows how far they are.
    start = time.monotonic()
    shown = start
    total = Tally()
    for total in run_campaign(
        args.histories,
        args.seed,
        ablate=args.ablate,
        outside=args.outside,
        plot=args.story,
        processes=args.processes,
    ):
        if sys.stderr.isatty() and time.monotonic() - shown > 1:
            shown = time.monotonic()
            sys.stderr.write(f"\r{total.histories} histories, {sum(total.failed.values())} failed ")
    took = time.monotonic() - start
    found = ", ".join(f"{kind} {total.failed[kind]}" for kind in total.first) or "none"
    sys.stdout.write(
        f"{total.histories} histories in {took:.1f} s ({total.histories / took:.0f}/s), "
        f"{total.acquisitions} acquisitions, {total.writes} fenced writes taken and "
        f"{total.refused} refused, {total.events} events\nviolations: {found}\n"
    )
    # The first seed that failed is told as a story.
    if not total.first:
        return 0
    kind, seed = min(total.first.items(), key=lambda item: item[1])
    sys.stdout.write(f"\nseed {seed}, {kind}:\n")
    _tell(story(seed, kind, ablate=args.ablate, outside=args.outside, plot=args.story))
    return 1


def _tell(history: History) -> None:
    scenario = history.scenario
    sys.stdout.write(
        f"{len(scenario.servers)} voters, {sum(client.cycles > 0 for client in scenario.clients)} "
        f"clients, ttl {scenario.ttl:.4f} s, timeout {scenario.voter_timeout:.4f} s\n"
    )
    sys.stdout.writelines(f"{note}\n" for note in history.notes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shardcache.testing.simulation", description=main.__doc__
    )
    parser.add_argument(
        "--histories", type=int, default=1000, metavar="N", help="how many (default 1000)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="the first seed (default 0)"
    )
    # What is changed of the lock, of the assumptions, and of the scenarios.
    parser.add_argument("--ablate", choices=tuple(ABLATIONS), help="take out a part of the lock")
    parser.add_argument(
        "--outside",
        choices=OUTSIDE,
        action="append",
        default=[],
        help="add faults outside the assumptions",
    )
    parser.add_argument("--story", choices=tuple(STORIES), help="tell this one in every history")
    # How they are run.
    parser.add_argument(
        "--processes", type=int, default=1, metavar="P", help="run in so many processes"
    )
    parser.add_argument(
        "--replay", action="store_true", help="print the whole history of the one seed"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
