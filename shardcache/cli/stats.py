"""``stats``: shows what each shard's server says of itself."""

import argparse
import json
from collections.abc import Callable

from shardcache.cli.cluster import in_order_of_slots, masters_of
from shardcache.cli.connect import open_client
from shardcache.cli.exit_codes import Exit
from shardcache.cli.parser import Commands, takes_url
from shardcache.cli.text import columns, paint, printable, say
from shardcache.errors import ShardError
from shardcache.flows.server_info import ServerInfo, server_infos

__all__ = ("add",)


def add(commands: Commands) -> None:
    """Add the command."""
    stats = commands.add_parser(
        "stats",
        help="show each shard's server: version, memory, keys, hit rate",
        description="Shows what each shard's server says of itself (INFO and DBSIZE). HITS is the "
        "server's own share of reads that found a key, of all its clients, since it was started. "
        "Exit code 3 if a shard does not answer.",
        examples=("stats", "stats --json"),
    )
    stats.add_argument(
        "--json", action="store_true", help="print all fields of INFO as a JSON object"
    )
    stats.set_defaults(run=_stats)
    takes_url(stats)


def _stats(args: argparse.Namespace) -> int:
    with open_client(args) as cache:
        shards = cache._context.topology.number_of
        found = dict(
            zip(shards, cache._runner.run(server_infos(list(shards.values()))), strict=True)
        )
        found = in_order_of_slots(found, masters_of(cache))
    if args.json:
        record = {
            name: {"error": one.reason} if isinstance(one, ShardError) else one
            for name, one in found.items()
        }
        say(json.dumps(record, ensure_ascii=False))
    else:
        for line in columns(
            [("SHARD", *COLUMNS), *(_row(name, info) for name, info in found.items())]
        ):
            say(line)
        for name, info in found.items():
            if isinstance(info, ShardError):
                say(paint(f"{name}: {info.reason}", "bad"))
    return (
        Exit.UNAVAILABLE
        if any(isinstance(one, ShardError) for one in found.values())
        else Exit.FINE
    )


def _row(name: str, info: ServerInfo | ShardError) -> tuple[str, ...]:
    if isinstance(info, ShardError):
        return (name, paint("no answer", "bad"), *[""] * (len(COLUMNS) - 1))
    return (name, *(printable(field(info)) for field in COLUMNS.values()))


def _server(info: ServerInfo) -> str:
    valkey = info.get("valkey_version")
    return f"valkey {valkey}" if valkey else f"redis {info.get('redis_version', '?')}"


def _up(info: ServerInfo) -> str:
    seconds = int(info.get("uptime_in_seconds", "0"))
    days, rest = divmod(seconds, 24 * 3600)
    hours, rest = divmod(rest, 3600)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"


def _hits(info: ServerInfo) -> str:
    hits, misses = int(info.get("keyspace_hits", "0")), int(info.get("keyspace_misses", "0"))
    return f"{hits / (hits + misses):.1%}" if hits + misses else "-"


COLUMNS: dict[str, Callable[[ServerInfo], str]] = {
    "SERVER": _server,
    "ROLE": lambda info: info.get("role", "?"),
    "UP": _up,
    "CLIENTS": lambda info: info.get("connected_clients", "?"),
    "MEMORY": lambda info: info.get("used_memory_human", "?"),
    "LIMIT": lambda info: (
        info.get("maxmemory_human", "?") if info.get("maxmemory") != "0" else "none"
    ),
    "KEYS": lambda info: info["keys"],
    "HITS": _hits,
    "EVICTED": lambda info: info.get("evicted_keys", "?"),
}
