"""``demo``: shows in twenty seconds what a sharded cache does, and what a dead shard changes."""

import argparse

from shardcache.cli.parser import Commands, number, takes_url, whole
from shardcache.cli.signals import Interrupts
from shardcache.errors import InvalidOption

__all__ = ("add",)

SECONDS = 16.0  # the default of --seconds


def add(commands: Commands) -> None:
    """Add the command."""
    demo = commands.add_parser(
        "demo",
        help="see it work: real load on local shards, one of them killed and brought back",
        description="Caches a real computation from several processes, kills a shard under load, "
        "and brings it back. With --cluster: moves slots of a Redis Cluster under load, and kills "
        "a master, whose replica takes over. With --near: the same load without and with values "
        "in the memory of the processes, while one of them changes. Uses servers of its own, and "
        "leaves nothing behind.",
        examples=("demo", "demo --shards 6 --seconds 30", "demo --cluster", "demo --near"),
    )
    # How large, and how long.
    demo.add_argument(
        "--shards",
        type=whole(2, 16),
        metavar="N",
        help="local shards, 2 to 16 (default: 4); with --cluster masters, 3 to 16 (default: 3)",
    )
    demo.add_argument(
        "--cluster",
        action="store_true",
        help="a Redis Cluster of masters with a replica each, in the place of independent shards",
    )
    demo.add_argument(
        "--near",
        action="store_true",
        help="in the place of an outage: what a near cache saves, and that nothing is stale",
    )
    demo.add_argument(
        "--seconds",
        type=number(2, 120),
        default=SECONDS,
        metavar="S",
        help=f"about how long the work takes, 2 to 120 (default: {SECONDS:g})",
    )
    # Without a URL the demo starts servers of its own.
    takes_url(
        demo,
        "use these servers instead: in a namespace that is emptied after, and without killing "
        "anything",
    )
    demo.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    # Imported here: only this command needs multiprocessing and ast.
    from shardcache.cli.demo.run import Demo

    shards = args.shards or (3 if args.cluster else 4)
    if args.cluster and args.url:
        raise InvalidOption("--cluster starts servers of its own; it does not go with --url")
    if args.near and (args.cluster or args.url):
        other = "--cluster" if args.cluster else "--url"
        raise InvalidOption(f"--near starts independent servers; it does not go with {other}")
    if args.cluster and shards < 3:
        # Those that are left must be most of the masters, to make a replica a master.
        raise InvalidOption(f"--cluster needs 3 masters at least, got --shards {shards}")
    with Interrupts() as interrupts:
        demo = Demo(
            args.url, shards=shards, seconds=args.seconds, cluster=args.cluster, near=args.near
        )
        try:
            show = demo.start(interrupts)
            demo.run(show)
        finally:
            with interrupts.shield():
                demo.close()
        return demo.conclude(show)
