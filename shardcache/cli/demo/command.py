"""``demo``: what a sharded cache does for a site, and what happens when a shard dies, in twenty seconds."""

import argparse

from shardcache.cli.parser import Commands, number, takes_url, whole
from shardcache.cli.signals import Interrupts

__all__ = ("add",)

SECONDS = 16.0


def add(commands: Commands) -> None:
    """Add the command."""
    demo = commands.add_parser(
        "demo",
        help="see it work: real load on local shards, one of them killed and brought back",
        description="Caches a real computation from several processes, kills a shard under load, and brings it back. "
        "Uses servers of its own, and leaves nothing behind.",
        examples=("demo", "demo --shards 6 --seconds 30"),
    )
    demo.add_argument(
        "--shards",
        type=whole(2, 16),
        default=4,
        metavar="N",
        help="local shards, 2 to 16 (default: 4)",
    )
    demo.add_argument(
        "--seconds",
        type=number(2, 120),
        default=SECONDS,
        metavar="S",
        help=f"about how long the work takes, 2 to 120 (default: {SECONDS:g})",
    )
    takes_url(
        demo,
        "use these servers instead: in a namespace that is emptied after, and without killing anything",
    )
    demo.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    from shardcache.cli.demo.run import (
        Demo,
    )  # multiprocessing and ast: the other commands do without

    with Interrupts() as interrupts:
        demo = Demo(args.url, shards=args.shards, seconds=args.seconds)
        try:
            show = demo.start(interrupts)
            demo.run(show)
        finally:
            with interrupts.shield():
                demo.close()
        return demo.conclude(show)
