"""``ping``: does each shard answer, and how fast."""

import argparse

from shardcache.cli.codes import Exit
from shardcache.cli.connect import connect
from shardcache.cli.parser import Commands, takes_url
from shardcache.cli.text import columns, say
from shardcache.errors import ShardError

__all__ = ("add",)


def add(commands: Commands) -> None:
    """Add the command."""
    ping = commands.add_parser("ping", help="knock at every shard; exit code 3 if one does not answer")
    ping.set_defaults(run=_ping)
    takes_url(ping)


def _ping(args: argparse.Namespace) -> int:
    with connect(args) as cache:
        answers = cache.ping()
    for line in columns((name, _answer(answer)) for name, answer in answers.items()):
        say(line)
    return Exit.UNAVAILABLE if any(isinstance(answer, ShardError) for answer in answers.values()) else Exit.FINE


def _answer(answer: float | ShardError) -> str:
    return f"out: {answer.reason}" if isinstance(answer, ShardError) else f"{answer * 1000:.2f} ms"
