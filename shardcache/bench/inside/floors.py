"""Where the time of one `get` and one `get_many` goes, floor by floor.

Each floor's whole path down to the socket is raced, and what it takes more than the floor below it
is its own. A profiler would tell another story: its hooks cost more than most of these floors.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from shardcache.bench.figure import Figure
from shardcache.bench.peers.bare_socket import BareSocket, exchange
from shardcache.bench.race import Laps, Race, Racer
from shardcache.client import ShardCache
from shardcache.embedded import LocalShards
from shardcache.flows import batch
from shardcache.flows.operations import GET
from shardcache.wire import Turn, pack, transfer

__all__ = ("FLOORS", "floors_of_get", "floors_of_get_many")

VALUE = "v" * 100
KEYS = [f"user:{number}:profile" for number in range(1000)]
CALLS = [KEYS[at : at + 100] for at in range(0, len(KEYS), 100)]
SHARDS = 4
TIMEOUT = 30.0


def floors_of_get(race: Race) -> Iterator[Figure]:
    """Yield what each floor adds to a `get` of one shard, and what its parts take by themselves."""
    with LocalShards(1, tcp=True) as servers, ShardCache(servers.urls, timeout=TIMEOUT) as cache:
        (url,) = servers.urls.values()
        context, runner = cache._context, cache._runner
        cache.set_many(dict.fromkeys(KEYS, VALUE))
        bare = BareSocket(url)
        link = runner.shards[0].pool.open(time.monotonic() + TIMEOUT)
        wires = [key.encode() for key in KEYS]
        policy, raw = context.reply_policy, context.codec.encode(VALUE, b"")

        # The lowest floor first: each has the inputs that the floor above hands it.
        floors = [
            Racer("socket: send, receive, parse", lambda wire: bare.call(b"GET", wire), wires),
            Racer(
                "connection: deadline, replies in step",
                lambda wire: link.call(pack((b"GET", wire)), time.monotonic() + TIMEOUT),
                wires,
            ),
            Racer("driver: health, pool", lambda wire: runner.one(0, (b"GET", wire), GET), wires),
            Racer("client: key, ring, value", cache.get, KEYS),
        ]
        # What a floor is made of, each by itself.
        parts = [
            Racer("key to bytes", context.keys.wire, KEYS),
            Racer("ring", context.topology.owner_index, wires),
            Racer("reply to value, counted", lambda wire: policy.value(raw, wire, None, 0), wires),
        ]
        yield from shown(race([*floors, *parts]), "get", floors, parts)
        bare.close()
        link.close()


def floors_of_get_many(race: Race) -> Iterator[Figure]:
    """Yield the same of a `get_many` of 100 keys over 4 shards."""
    deadline = TIMEOUT * 20
    with LocalShards(SHARDS, tcp=True) as servers, ShardCache(servers.urls) as cache:
        context, runner = cache._context, cache._runner
        cache.set_many(dict.fromkeys(KEYS, VALUE))
        bare = [BareSocket(url) for url in servers.urls.values()]
        links = [shard.pool.open(time.monotonic() + TIMEOUT) for shard in runner.shards]
        wires = [context.keys.wire_many(list(call)) for call in CALLS]
        raw = context.codec.encode(VALUE, b"")

        # Commands are packed beforehand: the two lowest floors do not.
        def grouped(keys: Sequence[bytes], ends: Sequence[Any]) -> list[tuple[Any, bytes, int]]:
            groups: dict[int, list[bytes]] = {}
            for key, owner in zip(keys, context.topology.owner_indexes(list(keys)), strict=True):
                groups.setdefault(owner, []).append(key)
            return [(ends[owner], pack((b"MGET", *mine)), 1) for owner, mine in groups.items()]

        def over_connections(groups: list[tuple[Any, bytes, int]]) -> None:
            turns = [Turn(*group) for group in groups]
            transfer(turns, time.monotonic() + deadline, time.monotonic)

        # The lowest floor first, as above.
        floors = [
            Racer(
                "sockets: send to all, receive, parse", exchange, [grouped(k, bare) for k in wires]
            ),
            Racer(
                "connections: deadline, replies in step",
                over_connections,
                [grouped(keys, links) for keys in wires],
            ),
            Racer(
                "driver and flow: ring, groups, commands, health, pools",
                lambda keys: runner.run(batch.fetch(context.topology, keys)),
                wires,
            ),
            Racer("client: keys, values", cache.get_many, CALLS),
        ]
        answered = [
            (call, keys, [raw] * len(keys)) for call, keys in zip(CALLS, wires, strict=True)
        ]
        # What a floor is made of, each by itself.
        parts = [
            Racer("keys to bytes", context.keys.wire_many, CALLS),
            Racer("ring", context.topology.owner_indexes, wires),
            Racer("replies to values", lambda one: context.reply_policy.hits(*one), answered),
        ]
        yield from shown(race([*floors, *parts]), "get_many(100)", floors, parts)
        for socket in bare:
            socket.close()
        for link in links:
            link.close()


def shown(
    laps: Laps, call: str, floors: Sequence[Racer], parts: Sequence[Racer]
) -> Iterator[Figure]:
    """Yield each floor's excess over the one below, the parts, and the whole call."""
    names = [racer.name for racer in floors]
    whole = laps.micros(names[-1])
    yield _figure(f"{call}: {names[0]}", laps.costs(names[0])[names[0]], whole)
    for below, name in pairwise(names):
        yield _figure(f"{call}: + {name}", laps.excess(name, below), whole)
    for racer in parts:
        yield _figure(f"{call}: of that, {racer.name}", laps.costs(racer.name)[racer.name], whole)
    yield _figure(f"{call}: whole", laps.costs(names[-1])[names[-1]], whole)


def _figure(what: str, measured: Any, whole: float) -> Figure:
    return Figure(what, measured, unit=" µs", costs=f"{measured.middle / whole:.0%} of the call")


FLOORS: dict[str, Callable[[Race], Iterator[Figure]]] = {
    "floors-get": floors_of_get,
    "floors-get_many": floors_of_get_many,
}
