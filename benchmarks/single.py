"""`get` and `set` of one key on one node: the price of a call above the round trip."""

import time
from collections.abc import Iterator

from peers import Bare
from redis import Redis

from shardcache import Options, ShardCache
from shardcache.bench.figure import Figure, against
from shardcache.bench.race import Race, Racer
from shardcache.embedded import LocalShards
from shardcache.urls import parse_url
from shardcache.wire import Dialer, pack

VALUE = "v" * 100
RAW = VALUE.encode()
KEYS = [f"user:{number}:profile" for number in range(1000)]
MS = 300_000
TIMEOUT = 0.5


def figures(race: Race) -> Iterator[Figure]:
    """Race the client against `redis.Redis`, a bare socket, and its own wire without the client."""
    with LocalShards(1, tcp=True) as servers:
        (url,) = servers.urls.values()
        with ShardCache({"one": url}, timeout=TIMEOUT) as cache, Redis.from_url(url) as redis:
            bare, again = Bare(url), Bare(url)
            link = Dialer("one", parse_url(url).address, Options(), time.monotonic)(
                time.monotonic() + TIMEOUT
            )
            wires = [key.encode() for key in KEYS]
            cache.set_many(dict.fromkeys(KEYS, VALUE))

            def wire_get(key: bytes) -> object:
                return link.call(pack((b"GET", key)), time.monotonic() + TIMEOUT)

            gets = race(
                [
                    Racer("get", cache.get, KEYS),
                    Racer("redis.Redis.get", redis.get, KEYS),
                    Racer("bare socket + hiredis", bare.get, wires),
                    Racer("bare socket + hiredis, a second one", again.get, wires),
                    Racer("bare wire connection", wire_get, wires),
                ]
            )
            yield against(gets, "get", "redis.Redis.get", 0.60)
            yield against(gets, "get", "bare socket + hiredis", 1.35)
            costs = f"{gets.micros('get'):.1f} - {gets.micros('bare wire connection'):.1f} µs"
            yield Figure(
                "ring + codec + health: get - bare wire connection",
                gets.excess("get", "bare wire connection"),
                5,
                " µs",
                costs,
            )
            # What chance alone does.
            yield against(gets, "bare socket + hiredis, a second one", "bare socket + hiredis")

            sets = race(
                [
                    Racer("set", lambda key: cache.set(key, VALUE), KEYS),
                    Racer("redis.Redis.set", lambda key: redis.set(key, RAW, px=MS), KEYS),
                    Racer("bare socket + hiredis", lambda key: bare.set(key, RAW, MS), wires),
                ]
            )
            yield against(sets, "set", "redis.Redis.set", 0.60)
            yield against(sets, "set", "bare socket + hiredis", 1.35)
            for connection in (bare, again, link):
                connection.close()
