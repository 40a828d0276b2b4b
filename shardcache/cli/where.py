"""``where``: on which shard a key lives, and why there."""

import argparse

from shardcache.cli.codes import Exit
from shardcache.cli.connect import connect
from shardcache.cli.parser import Commands, takes_url
from shardcache.cli.text import say

__all__ = ("add",)


def add(commands: Commands) -> None:
    """Add the command."""
    where = commands.add_parser("where", help="say on which shard a key lives and why; asks no server")
    where.add_argument("key", metavar="KEY")
    where.set_defaults(run=_where)
    takes_url(where)


def _where(args: argparse.Namespace) -> int:
    with connect(args) as cache:
        say(str(cache.explain(args.key)))
    return Exit.FINE
