"""``hot``: shows which keys the servers are asked for most, as far as they can tell."""

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from heapq import nlargest
from operator import itemgetter
from threading import Event
from typing import Any

from shardcache.cli.connect import open_client
from shardcache.cli.exit_codes import Exit
from shardcache.cli.monitor import reads_of
from shardcache.cli.parser import Commands, number, takes_url, whole
from shardcache.cli.text import columns, key_text, paint, printable, say
from shardcache.client import ShardCache
from shardcache.errors import CommandRefused, ShardError, ShardUnavailable
from shardcache.flows.access_counts import count_accesses
from shardcache.flows.server_info import server_infos
from shardcache.keys import is_own
from shardcache.policy.space_saving import SpaceSaving
from shardcache.wire.redis_client import sync_redis_client

__all__ = ("add",)

LIMIT = 10  # the default of --limit
Row = dict[str, Any]
Failed = dict[str, str]  # shards and why nothing is known of them


def add(commands: Commands) -> None:
    """Add the command."""
    hot = commands.add_parser(
        "hot",
        help="show which keys the servers are asked for most",
        description="Shows the keys of the namespace that the servers are asked for most, by all "
        "their clients. Servers with an LFU policy (maxmemory-policy) count accesses: their keys "
        "are walked over by SCAN and OBJECT FREQ. FREQ is the server's own counter: it grows with "
        "the logarithm of the accesses, 255 at most, and fades within minutes. With --monitor the "
        "servers are listened to instead. What is answered from the memory of a process "
        "(near cache) no server sees: cache.hot_keys() tells of that. Exit code 1 if no server "
        "counts, 3 if a shard does not answer.",
        examples=("hot", "hot --monitor 5 --limit 20"),
    )
    # How the keys are found.
    hot.add_argument(
        "--monitor",
        type=number(0.1, 60),
        metavar="SECONDS",
        help="count GET and MGET by MONITOR for so long, 0.1 to 60. It may halve what a busy "
        "server can do meanwhile",
    )
    hot.add_argument(
        "--limit",
        type=whole(1, 1000),
        default=LIMIT,
        metavar="N",
        help=f"how many keys, 1 to 1000 (default: {LIMIT})",
    )
    # How they are printed.
    hot.add_argument("--json", action="store_true", help="print a JSON object")
    hot.set_defaults(run=_hot)
    takes_url(hot)


def _hot(args: argparse.Namespace) -> int:
    silent: Failed = {}
    errors: Failed = {}
    with open_client(args) as cache:
        if args.monitor:
            rows = _listened(cache, args.monitor, args.limit, errors)
        else:
            rows = _counted(cache, args.limit, silent, errors)
    if args.json:
        record = {"by": "monitor" if args.monitor else "lfu", "keys": rows}
        if args.monitor:
            record["seconds"] = args.monitor
        say(json.dumps({**record, "not_counted": silent, "errors": errors}, ensure_ascii=False))
    else:
        _show(rows, silent, errors, monitor=bool(args.monitor))
    if errors:
        return Exit.UNAVAILABLE
    return Exit.NO if silent.keys() >= cache._context.topology.number_of.keys() else Exit.FINE


def _show(rows: list[Row], silent: Failed, errors: Failed, *, monitor: bool) -> None:
    heads = ("KEY", "SHARD", "READS/S", "SHARE") if monitor else ("KEY", "SHARD", "FREQ")
    cells = [
        (
            printable(row["key"]),
            row["shard"],
            *([f"{row['rate']:,.1f}", f"{row['share']:.1%}"] if monitor else [str(row["freq"])]),
        )
        for row in rows
    ]
    for line in columns([heads, *cells]) if rows else ():
        say(line)
    if not rows and not silent and not errors:
        say("no key was read" if monitor else "there are no keys")
    # What is not known, and what can be done about it.
    for name, policy in silent.items():
        say(paint(f"{name}: counts no accesses, its maxmemory-policy is {policy}", "warn"))
    if silent:
        say("'shardcache hot --monitor 5' listens to the commands of 5 seconds instead.")
    for name, reason in errors.items():
        say(paint(f"{name}: {reason}", "bad"))


def _counted(cache: ShardCache, limit: int, silent: Failed, errors: Failed) -> list[Row]:
    """Ask the servers that count. ``silent`` gets the policies of the others."""
    context = cache._context
    shards = context.topology.number_of
    best: dict[tuple[str, bytes], int] = {}
    infos = cache._runner.run(server_infos(list(shards.values())))
    for (name, shard), info in zip(shards.items(), infos, strict=True):
        if isinstance(info, ShardError):
            errors[name] = info.reason
            continue
        policy = info.get("maxmemory_policy", "unknown")
        if not policy.endswith("lfu"):
            silent[name] = policy
            continue
        cursor = None
        while cursor != 0:
            cursor, counts, error = cache._runner.run(
                count_accesses(shard, cursor or 0, context.glob("*"))
            )
            # SCAN may bring a key twice.
            best |= {(name, key): count for count, key in counts}
            best = dict(nlargest(limit, best.items(), key=itemgetter(1)))
            if error is not None:
                errors[name] = error.reason
    return [
        {"key": key_text(context.keys.user(key)), "shard": name, "freq": count}
        for (name, key), count in best.items()
    ]


def _listened(cache: ShardCache, seconds: float, limit: int, errors: Failed) -> list[Row]:
    """Listen to all servers at once."""
    # One thread for each server.
    context, stop = cache._context, Event()
    shards = context.topology.number_of
    end = time.monotonic() + seconds
    listen = partial(_reads, cache, lambda: 0.0 if stop.is_set() else end - time.monotonic())
    with ThreadPoolExecutor(len(shards)) as pool:
        try:
            found = dict(zip(shards, pool.map(listen, shards.values()), strict=True))
        finally:
            stop.set()  # after Ctrl-C too, so that the threads end
    # The keys of all, with their shares of all reads.
    sketches = {}
    for name, sketch in found.items():
        if isinstance(sketch, ShardError):
            errors[name] = sketch.reason
        else:
            sketches[name] = sketch
    total = sum(sketch.total for sketch in sketches.values())
    rows = [
        {
            "key": key_text(context.keys.user(key)),
            "shard": name,
            "rate": upper / seconds,
            "share": upper / total,
            "count": round(upper),
            "error": round(error),
        }
        for name, sketch in sketches.items()
        for key, (upper, error) in sketch.estimates.items()
        if not is_own(key)
    ]
    return nlargest(limit, rows, key=lambda row: row["count"])


def _reads(cache: ShardCache, wanted: Callable[[], float], shard: int) -> SpaceSaving | ShardError:
    import redis  # slow to import, and few commands need it

    context = cache._context
    member = context.topology.known[shard]
    client = sync_redis_client(
        member.address, member.tls or context.options.tls, context.options, context.timeout
    )
    try:
        return reads_of(client, db=member.address.db, prefix=context.keys.prefix, wanted=wanted)
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        return ShardUnavailable(member.node.name, f"cannot listen: {error}")
    except redis.RedisError as error:
        return CommandRefused(member.node.name, f"refused MONITOR: {error}")
