"""What the package costs before it does anything: memory of an idle client, time of the import."""

import os
import subprocess
import sys
from collections.abc import Iterator

from shardcache.bench.figure import Figure
from shardcache.bench.race import Race, Spread
from shardcache.embedded import LocalShards

SHARDS = 10
SLOWEST = 60  # seconds that an interpreter may take

OURS = """
from shardcache import ShardCache
urls = sys.argv[1:]
cache = ShardCache(urls)
answers = cache.ping()  # leaves one connection to each
assert all(answer.ok for answer in answers.values()), answers
assert all(shard.idle == 1 for shard in cache.stats().shards.values())
"""
THEIRS = """
from redis import Redis
clients = [Redis.from_url(url) for url in sys.argv[1:]]
assert all(client.ping() for client in clients)
"""
# Private memory, clean and dirty: what would be free again if this process ended.
REPORT = """
import gc
gc.collect()
with open("/proc/self/smaps_rollup") as rollup:
    print(sum(int(line.split()[1]) for line in rollup if line.startswith("Private_")) / 1024)
"""
IMPORT = """
import time
started = time.perf_counter()
import {package}
print(time.perf_counter() - started)
"""


def figures(race: Race) -> Iterator[Figure]:
    """Compare fresh interpreters, taking turns."""
    times = max(5, race.rounds // 5)
    if os.path.exists("/proc/self/smaps_rollup"):
        with LocalShards(SHARDS, tcp=True) as servers:
            urls = list(servers.urls.values())
            rows = [
                (fresh(OURS + REPORT, urls), fresh(THEIRS + REPORT, urls))
                for _ in range(max(3, times // 4))
            ]
        ours, theirs = (Spread.of(column).middle for column in zip(*rows, strict=True))
        extra = Spread.of(mine - other for mine, other in rows)
        costs = f"{ours:.1f} - {theirs:.1f} MB, private memory of the whole process"
        yield Figure(
            f"idle client over {SHARDS} shards - {SHARDS} x redis.Redis", extra, 3, " MB", costs
        )

    imports = [IMPORT.format(package=package) for package in ("shardcache", "redis")]
    for code in imports:  # now the compiled files are there, and in the page cache
        fresh(code)
    rows = [(fresh(imports[0]), fresh(imports[1])) for _ in range(times)]
    ours, theirs = (Spread.of(column).middle * 1000 for column in zip(*rows, strict=True))
    ratio = Spread.of(mine / other for mine, other in rows)
    yield Figure(
        "import shardcache / import redis", ratio, 1.25, "", f"{ours:.0f} / {theirs:.0f} ms"
    )


def fresh(code: str, arguments: list[str] | None = None) -> float:
    """Run ``code`` in a new interpreter with the same packages; return the number it prints."""
    environ = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", "import sys\n" + code, *(arguments or ())]
    ran = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=SLOWEST, check=True
    )
    return float(ran.stdout)
