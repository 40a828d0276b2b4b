"""``ping``: does each shard answer, and how fast."""

import argparse

from shardcache.cli.connect import connect
from shardcache.cli.exit_codes import Exit
from shardcache.cli.parser import Commands, takes_url
from shardcache.cli.text import columns, paint, say
from shardcache.results import PingResult

__all__ = ("add",)


def add(commands: Commands) -> None:
    """Add the command."""
    ping = commands.add_parser(
        "ping",
        help="ask every shard for a sign of life; exit code 3 if one does not answer",
        description="Opens a new connection to every shard and asks for a sign of life. Exit code 3 if one does not answer.",
        examples=("ping", "--url 'redis://h1?name=a,redis://h2?name=b' ping"),
    )
    ping.set_defaults(run=_ping)
    takes_url(ping)


def _ping(args: argparse.Namespace) -> int:
    with connect(args) as cache:
        answers = cache.ping()
    for line in columns((name, _answer(answer)) for name, answer in answers.items()):
        say(line)
    return Exit.FINE if all(answer.ok for answer in answers.values()) else Exit.UNAVAILABLE


def _answer(answer: PingResult) -> str:
    if answer.seconds is None:
        return paint(f"out: {answer.error}", "bad")
    return paint(f"{answer.seconds * 1000:.2f} ms", "good")
