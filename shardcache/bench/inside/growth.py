"""What must not grow: the cost per key with more keys, the cost of a call with more nodes."""

from collections.abc import Iterator
from itertools import cycle

from shardcache.bench.figure import Figure
from shardcache.bench.race import Laps, Race, Racer, Spread
from shardcache.client import ShardCache
from shardcache.embedded import LocalShards
from shardcache.placement.ring import HashRing

__all__ = ("GROWTH", "measure_growth")

VALUE = "v" * 100
KEYS = [f"user:{number}:profile" for number in range(10_000)]
SIZES = (100, 1_000, 10_000)
FEW, MANY = 2, 200


def measure_growth(race: Race) -> Iterator[Figure]:
    """Race the client and the ring against themselves, at several sizes."""
    yield from by_keys(race)
    yield from by_nodes(race)


def by_keys(race: Race) -> Iterator[Figure]:
    """Compare the cost of a key in calls of 100 to 10,000."""
    with LocalShards(4, tcp=True) as servers, ShardCache(servers.urls) as cache:
        cache.set_many(dict.fromkeys(KEYS, VALUE))
        laps = race(
            [
                Racer(
                    str(size),
                    cache.get_many,
                    [KEYS[at : at + size] for at in range(0, len(KEYS), size)],
                )
                for size in SIZES
            ]
        )
        for size in SIZES[1:]:
            share = SIZES[0] / size
            many = laps.micros(str(size)) / size
            few = laps.micros(str(SIZES[0])) / SIZES[0]
            costs = f"{many:.2f} / {few:.2f} µs per key"
            ratio = Spread(*(value * share for value in laps.ratio(str(size), str(SIZES[0]))))
            yield Figure(
                f"get_many, cost per key: {size:,} keys / {SIZES[0]}", ratio, 1.0, "", costs
            )


def by_nodes(race: Race) -> Iterator[Figure]:
    """Compare 2 and 200 nodes on the same two servers.

    The 200 nodes are 200 names with pools and connections of their own, so that only the number of
    servers, which the client cannot see, is smaller than in life.
    """
    wires = [key.encode() for key in KEYS]
    rings = {count: HashRing([f"node-{at}" for at in range(count)]) for count in (FEW, MANY)}
    lookups = race([Racer(str(count), ring.owner_index, wires) for count, ring in rings.items()])
    yield grown("ring look-up", lookups)
    with LocalShards(2, tcp=True) as servers:
        urls = list(servers.urls.values())
        few, many = (
            ShardCache(
                {f"node-{at}": url for at, url in zip(range(count), cycle(urls), strict=False)}
            )
            for count in (FEW, MANY)
        )
        with few, many:
            few.set_many(dict.fromkeys(KEYS, VALUE))
            many.set_many(dict.fromkeys(KEYS, VALUE))
            gets = race([Racer(str(FEW), few.get, KEYS), Racer(str(MANY), many.get, KEYS)])
            yield grown("get", gets)


def grown(what: str, laps: Laps) -> Figure:
    """Return the figure of 200 nodes as a multiple of that of 2."""
    costs = f"{laps.micros(str(MANY)):.2f} / {laps.micros(str(FEW)):.2f} µs"
    return Figure(f"{what}: {MANY} nodes / {FEW}", laps.ratio(str(MANY), str(FEW)), 1.1, "", costs)


GROWTH = {"growth": measure_growth}
