"""Where the microseconds of one ``get`` and one ``get_many`` of 100 go.

``python benchmarks/profile_get.py``

Each stage of the path is timed alone, on the real objects and servers, in one race with the whole
call. What the stages leave over is the calls that bind them together. A profiler would tell another
story: its hooks cost more than most of these stages.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager

from shardcache import ShardCache
from shardcache.bench.idle_cores import awake
from shardcache.bench.race import Race, Racer
from shardcache.embedded import LocalShards
from shardcache.flows import batch
from shardcache.flows.steps import Batch
from shardcache.keys import distinct
from shardcache.wire import Connection, Turn, pack, pack_all, transfer

VALUE = "v" * 100
KEYS = [f"user:{number}:profile" for number in range(1000)]
CALLS = [KEYS[at : at + 100] for at in range(0, len(KEYS), 100)]
SHARDS = 4


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="profile_get", description="Microseconds of a get and a get_many, by stage."
    )
    parser.add_argument(
        "--rounds", type=int, default=101, help="rounds of each race (default: %(default)s)"
    )
    parser.add_argument(
        "--cpu", action="store_true", help="time this thread's own work instead of whole calls"
    )
    said = parser.parse_args()
    race = Race(said.rounds, time.thread_time if said.cpu else time.perf_counter, lap=0.002)
    with awake(), LocalShards(SHARDS, tcp=True) as servers, ShardCache(servers.urls) as cache:
        cache.set_many(dict.fromkeys(KEYS, VALUE))
        with borrowed(cache) as links:
            tell(race, one_get(cache, links))
            tell(race, many_gets(cache, links))


@contextmanager
def borrowed(cache: ShardCache) -> Iterator[list[Connection]]:
    """Lend a connection of each shard, beside the ones that the client keeps."""
    deadline = time.monotonic() + 1
    links = [shard.pool.open(deadline) for shard in cache._runner.shards]
    yield links
    for link in links:
        link.close()


def tell(race: Race, racers: list[Racer]) -> None:
    """Run all stages and the whole (which comes first), and print each one's share."""
    laps = race(racers)
    whole, *stages = [racer.name for racer in racers]
    parts = {stage: laps.micros(stage) for stage in stages}
    total = laps.micros(whole)
    parts["(what binds them)"] = total - sum(parts.values())
    print(f"{whole:<56} {total:8.2f} µs")
    for stage, micros in parts.items():
        print(f"  {stage:<54} {micros:8.2f} µs {micros / total:6.1%}")


def one_get(cache: ShardCache, links: list[Connection]) -> list[Racer]:
    """Take the path of `ShardCache.get` apart."""
    context, runner = cache._context, cache._runner
    requests = [context.requests.get(key) for key in KEYS]
    owners = context.topology.owner_indexes([request.key for request in requests])
    routed = [
        (links[owner], pack(request.command))
        for owner, request in zip(owners, requests, strict=True)
    ]
    pool = runner.shards[0].pool
    raw = context.codec.encode(VALUE, b"")

    def exchange(one: tuple[Connection, bytes]) -> object:
        link, payload = one
        return link.call(payload, time.monotonic() + 0.5)

    def borrow(_: object) -> None:
        pool.release(pool.acquire(0.0)[0])

    return [
        Racer("get", cache.get, KEYS),
        Racer("key: check, encode; request", context.requests.get, KEYS),
        Racer(
            "ring: owner_index",
            context.topology.owner_index,
            [request.key for request in requests],
        ),
        Racer("pack", pack, [request.command for request in requests]),
        Racer("pool: take (is it stale?) and give", borrow, KEYS),
        Racer("wire: send, poll, receive, parse, in step?", exchange, routed),
        Racer(
            "codec: decode; count",
            lambda request: context.reply_policy.settle(request, raw, 0),
            requests,
        ),
    ]


def many_gets(cache: ShardCache, links: list[Connection]) -> list[Racer]:
    """Take the path of `ShardCache.get_many` apart."""
    context, runner = cache._context, cache._runner
    wires = [context.keys.wire_many(call) for call in CALLS]
    batches = [asked(context.topology, keys) for keys in wires]
    payloads = [
        [(links[one.shard], pack_all(one.commands), len(one.commands)) for one in each]
        for each in batches
    ]
    raw = context.codec.encode(VALUE, b"")

    def exchange(turns: list[tuple[Connection, bytes, int]]) -> None:
        transfer([Turn(*turn) for turn in turns], time.monotonic() + 0.5, time.monotonic)

    def borrow(_: object) -> None:
        for shard in runner.shards:
            shard.pool.release(shard.pool.acquire(0.0)[0])

    def bind(keys: list[bytes]) -> None:
        """Run the flow without a driver: grouping before the exchange, sorting back after it."""
        flow = batch.fetch(context.topology, keys)
        try:
            flow.send([[[raw] * (len(one.commands[0]) - 1)] for one in next(flow).batches])
        except StopIteration:
            return

    answered = [(call, keys, [raw] * len(keys)) for call, keys in zip(CALLS, wires, strict=True)]
    return [
        Racer("get_many(100), 4 shards", cache.get_many, CALLS),
        Racer("keys: drop repetitions", distinct, CALLS),
        Racer("keys: check, encode", context.keys.wire_many, CALLS),
        Racer("flow: ring, group, command; sort back", bind, wires),
        Racer("pack", lambda each: [pack_all(one.commands) for one in each], batches),
        Racer("4 pools: take (is it stale?) and give", borrow, CALLS),
        Racer("wire: send to all, poll, receive, parse, in step?", exchange, payloads),
        Racer("codec: decode; count; dict", lambda one: context.reply_policy.hits(*one), answered),
    ]


def asked(placement: object, keys: list[bytes]) -> list[Batch]:
    flow = batch.fetch(placement, keys)
    batches = next(flow).batches
    flow.close()
    return batches


if __name__ == "__main__":
    main()
