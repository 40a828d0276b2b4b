"""``where``: says on which shard a key lives, why there, and what the shard has under the key."""

import argparse
import json

from shardcache.cli.cluster import draw_slots
from shardcache.cli.connect import open_client
from shardcache.cli.exit_codes import Exit
from shardcache.cli.parser import Commands, key, takes_url
from shardcache.cli.text import bars, columns, key_text, paint, printable, say
from shardcache.client import ShardCache
from shardcache.errors import ShardError
from shardcache.flows.stored_form import StoredForm, stored_form_flow
from shardcache.placement.circle import Circle
from shardcache.results import Explanation

__all__ = ("add",)

Found = StoredForm | ShardError | None
_READS = {"replica": "the replicas in turns", "nearest": "the nearest of master and replicas"}


def add(commands: Commands) -> None:
    """Add the command."""
    where = commands.add_parser(
        "where",
        help="draw on which shard a key lives and why, and ask it for size and ttl",
        description="Draws on which shard a key lives, and who would own it next. Asks that shard "
        "whether the key is there, for the size of its value, its ttl, and for how long it may be "
        "served stale after that; the value itself is not read. Of a Redis Cluster: the slot of "
        "the key, the master that serves it, and its replicas. Exit code 1 if the key is not "
        "there, 3 if the shard does not answer.",
        examples=("where user:1", "where user:1 --offline", "where 'cart:{user:1}' --json"),
    )
    where.add_argument("key", metavar="KEY", type=key)
    where.add_argument(
        "--offline",
        action="store_true",
        help="ask no server: only say where the key belongs; a cluster is asked for its map alone",
    )
    where.add_argument("--json", action="store_true", help="print a JSON object")
    where.set_defaults(run=_where)
    takes_url(where)


def _where(args: argparse.Namespace) -> int:
    with open_client(args) as cache:
        place = cache.explain(args.key)
        found = None if args.offline else _ask(cache, place)
        if args.json:
            say(json.dumps(_record(place, found, asked=not args.offline), ensure_ascii=False))
        else:
            _draw(cache, place)
            _tell(place, found, asked=not args.offline)
    if args.offline or isinstance(found, StoredForm):
        return Exit.FINE
    return Exit.NO if found is None else Exit.UNAVAILABLE


def _ask(cache: ShardCache, place: Explanation) -> Found:
    if not place.shard:
        return cache._context.unserved()
    shards = cache._context.topology.number_of
    return cache._runner.run(stored_form_flow(shards[place.shard], place.wire_key))


def _draw(cache: ShardCache, place: Explanation) -> None:
    """Show every shard with its share of the keys, and the key beside its own."""
    if place.slot is not None:
        draw_slots(cache, printable(key_text(place.key)), place.shard)
        say()
        return
    circle = cache._context.topology.placement
    if not isinstance(circle, Circle):
        return
    shares = circle.shares()
    key = printable(key_text(place.key))
    rows = [
        (
            (paint(f"{name} <- {key}", "strong") if name == place.shard else name, f"{share:7.2%}"),
            share,
        )
        for name, share in shares.items()
    ]
    for line in bars(rows):
        say(line)
    say()


def _tell(place: Explanation, found: Found, *, asked: bool) -> None:
    hashed = (
        "all of it"
        if place.hashed == place.wire_key
        else f"its tag {printable(key_text(place.hashed))}"
    )
    rows = [
        ("stored as", f"{printable(key_text(place.wire_key))}, hashed by {hashed}"),
        *_owners(place),
        ("value", _value(found) if asked else paint("not asked (--offline)", "faint")),
    ]
    for line in columns(rows):
        say(line)


def _owners(place: Explanation) -> list[tuple[str, str]]:
    replicas = ("replicas", ", ".join(place.replicas) or "none")
    reads = [("reads", _READS[place.read_from])] if place.read_from in _READS else []
    if place.slot is None:
        return [
            ("shard", f"{place.shard} at {place.address}"),
            *([replicas, *reads] if reads else []),
            ("next", ", then ".join(place.successors[1:]) or "nobody"),
        ]
    return [
        ("slot", str(place.slot)),
        ("master", place.shard or paint("no node serves this slot", "bad")),
        replicas,
        *reads,
    ]


def _value(found: Found) -> str:
    if isinstance(found, ShardError):
        return paint(f"unknown, the shard did not answer: {found.reason}", "bad")
    if found is None:
        return paint("not there", "warn")
    what = found.kind if found.size is None else f"{found.size:,} bytes"
    return paint(f"{what}, {_life(found)}", "good")


def _life(found: StoredForm) -> str:
    """Say how long the value is fresh, and how long it may be served stale after that."""
    if found.left is None:
        return "no expiry"
    if not found.grace:
        return f"{found.left:.1f} s left"
    fresh = f"{found.left:.1f} s left, then" if found.left else "stale,"
    return f"{fresh} {found.grace:.1f} s of grace"


def _record(place: Explanation, found: Found, *, asked: bool) -> dict[str, object]:
    value = None
    if isinstance(found, StoredForm):
        value = {"type": found.kind, "bytes": found.size, "ttl": found.left, "grace": found.grace}
    return {
        "key": key_text(place.key),
        "stored_as": key_text(place.wire_key),
        "hashed": key_text(place.hashed),
        "shard": place.shard,
        "address": place.address,
        # The nodes of a cluster take over from each other by replicas, and not by an order.
        "next": list(place.successors[1:]) if place.slot is None else [],
        "slot": place.slot,
        "replicas": list(place.replicas),
        "read_from": place.read_from,
        "asked": asked,
        "value": value,
        "error": found.reason if isinstance(found, ShardError) else None,
    }
