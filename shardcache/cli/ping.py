"""``ping``: says whether each shard answers, and how fast."""

import argparse
from collections.abc import Iterator, Mapping

from shardcache.cli.cluster import Master, Replica, in_order_of_slots, masters_of
from shardcache.cli.connect import open_client
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
        description="Opens a new connection to every shard and asks for a sign of life. Exit code "
        "3 if one does not answer. Of a Redis Cluster: every master, and how far its replicas are "
        "behind, as the cluster itself says.",
        examples=("ping", "--url 'redis://h1?name=a,redis://h2?name=b' ping"),
    )
    ping.set_defaults(run=_ping)
    takes_url(ping)


def _ping(args: argparse.Namespace) -> int:
    with open_client(args) as cache:
        answers = cache.ping()
        masters = masters_of(cache)
    for line in columns(_cluster_rows(answers, masters) if masters else _rows(answers)):
        say(line)
    return Exit.FINE if all(answer.ok for answer in answers.values()) else Exit.UNAVAILABLE


def _rows(answers: Mapping[str, PingResult]) -> Iterator[tuple[str, ...]]:
    return ((name, _answer(answer)) for name, answer in answers.items())


def _cluster_rows(
    answers: Mapping[str, PingResult], masters: list[Master]
) -> Iterator[tuple[str, ...]]:
    """Yield a row for each master, and behind it those of its replicas."""
    replicas = {master.name: master.replicas for master in masters}
    for name, answer in in_order_of_slots(answers, masters).items():
        yield name, "master", _answer(answer)
        for replica in replicas.get(name, ()):
            yield replica.name, f"replica of {name}", _state(replica)


def _state(replica: Replica) -> str:
    if replica.health != "online":
        return paint(replica.health, "warn")
    return "lag unknown" if replica.lag is None else f"{replica.lag:,} bytes behind"


def _answer(answer: PingResult) -> str:
    if answer.seconds is None:
        return paint(f"out: {answer.error}", "bad")
    return paint(f"{answer.seconds * 1000:.2f} ms", "good")
