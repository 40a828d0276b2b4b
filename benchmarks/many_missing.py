"""What loading very many missing keys at once costs, and what others notice of it: ``python benchmarks/many_missing.py [--keys N] [--shards N]``.

One process calls `get_or_set_many` for keys of which none is there. Another gets a single key again and again, a hundred times a second, first with
nothing else going on and then meanwhile.
"""

import argparse
import multiprocessing
import os
import time
from multiprocessing.connection import Connection

from shardcache import Event, Options, ShardCache
from shardcache.embedded import LocalShards

ALONE = 3.0  # seconds that the other caller is watched with nothing else going on
PACE = 0.01


def other(urls: dict[str, str], pipe: Connection) -> None:
    """Get one key again and again; at each message send how long the calls since the last one took."""
    with ShardCache(urls, namespace="other") as cache:
        cache.set("k", "v", ttl=None)
        took: list[float] = []
        pipe.send("ready")
        while True:
            if pipe.poll():
                pipe.recv()
                pipe.send(took)
                took = []
            began = time.perf_counter()
            cache.get("k")
            took.append(time.perf_counter() - began)
            time.sleep(PACE)


def told(when: str, took: list[float]) -> None:
    """Print median, p99 and the longest call."""
    took.sort()
    middle, late, longest = (took[min(int(len(took) * share), len(took) - 1)] * 1000 for share in (0.5, 0.99, 1))
    print(f"a get elsewhere, {when}: {middle:.2f} ms, p99 {late:.2f} ms, longest {longest:.1f} ms, {len(took)} calls")


def main() -> None:
    parser = argparse.ArgumentParser(description="Load many missing keys at once.")
    parser.add_argument("--keys", type=int, default=100_000, help="keys that are missing (default: %(default)s)")
    parser.add_argument("--shards", type=int, default=3, help="servers (default: %(default)s)")
    said = parser.parse_args()
    calls: list[int] = []

    def load(keys: list[str]) -> dict[str, str]:
        calls.append(len(keys))
        return dict.fromkeys(keys, "x" * 100)

    out: list[Event] = []

    def note(event: Event) -> None:
        if event.kind == "shard_out":
            out.append(event)

    keys = [f"key:{number}" for number in range(said.keys)]
    fork = multiprocessing.get_context("fork")
    with LocalShards(said.shards, tcp=True) as servers:
        mine, theirs = fork.Pipe()
        caller = fork.Process(target=other, args=(servers.urls, theirs), daemon=True)
        caller.start()
        try:
            mine.recv()
            time.sleep(ALONE)
            mine.send("alone")
            alone = mine.recv()
            with ShardCache(servers.urls, options=Options(on_event=note)) as cache:
                began = time.perf_counter()
                found = cache.get_or_set_many(keys, load, 3600)
                took = time.perf_counter() - began
                mine.send("meanwhile")
                meanwhile = mine.recv()
                stored = len(cache.get_many(keys))
        finally:
            caller.kill()
            caller.join()
    print(f"{said.keys:,} missing keys, {said.shards} shards, load average {os.getloadavg()[0]:.1f}: {took:.1f} s")
    print(f"returned {len(found):,}, stored {stored:,}, calls of the loader {len(calls):,}, shards out {len(out)}")
    told("alone", alone)
    told("meanwhile", meanwhile)


if __name__ == "__main__":
    main()
