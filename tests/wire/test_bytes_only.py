"""Only bytes reach hiredis' `pack_command`.

A number there, and a signal handler that raises at that moment, ends the process. It calls
`PyObject_Repr` for a number, which looks after signals, and uses what comes of it without looking
(hiredis 3.5.0).
"""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from shardcache.embedded import LocalShards

# A child, since whoever imports `pack` has it by name: here it is watched before anybody does.
WATCH = """
import hiredis, sys

seen, odd = set(), []
plain = hiredis.pack_command

def watched(command):
    seen.add(command[0])
    if not all(type(one) is bytes for one in command):
        odd.append(command)
    return plain(command)

hiredis.pack_command = watched
"""

SYNC = """
from shardcache import LoadPolicy, Node, Options, ShardCache

urls = sys.argv[1:]
swr = LoadPolicy(stale_ttl=60, negative_on=(KeyError,), negative_ttl=5)
for protocol in (2, 3):
    options = Options(protocol=protocol, client_name="tour", first_probe=0.01)
    nodes = [f"{url}?db=1" if "?" not in url else url.replace("db=0", "db=1") for url in urls]
    with ShardCache(nodes, namespace="tour", timeout=20, options=options) as cache:
        cache.set("a", 1); cache.set("a", 1, ttl=60); cache.set("a", 1, ttl=0)
        cache.add("a", 1, ttl=60); cache.add("a", 1); cache.add("a", 1, ttl=0)
        cache.replace("a", 2, ttl=60); cache.replace("a", 2); cache.replace("a", 2, ttl=0)
        cache.set_many({"a": 1, "b": 2}, ttl=60); cache.set_many({"a": 1}, ttl=0)
        cache.set_many({"a": 5}); cache.get("a"); cache.get_many(["a", "b"])
        cache.fetch_many(["a", "b"]); cache.contains("a"); cache.incr("a")
        cache.incr("n", 5, initial=7); cache.incr("m", 5, initial=7, ttl=60); cache.decr("a", 3)
        cache.touch("a", 60); cache.touch("a", None); cache.ttl("a"); cache.touch("a", 0)
        cache.get_or_set("l", lambda: 1, ttl=60)
        cache.get_or_set("l", lambda: 1, ttl=60, policy=swr)
        cache.get_or_set("l2", lambda: 1, ttl=None)
        cache.get_or_set("l3", lambda: 1, ttl=60, policy=swr, tags=["t"])
        try:
            cache.get_or_set("no", lambda: {}["no"], ttl=60, policy=swr)
        except KeyError:
            pass
        cache.get_or_set_many(["l4", "l5"], lambda keys: dict.fromkeys(keys, 1), ttl=60)
        cache.set("t", 1, ttl=60, tags=["t"]); cache.get("t"); cache.invalidate_tags(["t"])
        load = cache.cached(ttl=60, key="u:{id}")(lambda id: id)
        load(1); load.refresh(1); load.invalidate(1)
        with cache.pipeline() as queue:
            queue.set("p", 1, ttl=60); queue.get("p"); queue.incr("p")
        with cache.lock("lock", 60) as lock:
            lock.extend(); lock.extend(30); lock.owner()
            cache.lock("lock").acquire(timeout=0.05)
            text = lock.handover()
        other = cache.lock("lock", 60)
        other.adopt(text); other.force_release()
        with cache.lock_many(["x", "y"], 60):
            pass
        list(cache.scan("*")); cache.ping(); cache.delete("a"); cache.delete_many(["a", "b"])
        cache.clear(); cache.clear(flush=True); cache.explain("a")
"""

ASYNC = """
import asyncio
from shardcache import AsyncShardCache, LoadPolicy, Options

urls = sys.argv[1:]
swr = LoadPolicy(stale_ttl=60)

async def main():
    options = Options(client_name="tour")
    async with AsyncShardCache(urls, namespace="tour", timeout=20, options=options) as cache:
        await cache.set("a", 1); await cache.set("a", 1, ttl=60); await cache.add("a", 1, ttl=60)
        await cache.replace("a", 2, ttl=60); await cache.set_many({"a": 1, "b": 2}, ttl=60)
        await cache.get("a"); await cache.get_many(["a", "b"]); await cache.incr("a")
        await cache.incr("n", initial=7, ttl=60)
        await cache.touch("a", 60); await cache.touch("a", None); await cache.ttl("a")
        await cache.get_or_set("l", lambda: 1, ttl=60, policy=swr)
        await cache.get_or_set("l3", lambda: 1, ttl=60, tags=["t"])
        await cache.get_or_set_many(["l4", "l5"], lambda keys: dict.fromkeys(keys, 1), ttl=60)
        await cache.invalidate_tags(["t"])
        async with cache.lock("lock", 60) as lock:
            await lock.extend(30); await lock.owner()
            await cache.lock("lock").acquire(timeout=0.05)
        async with cache.lock_many(["x", "y"], 60):
            pass
        async for _ in cache.scan("*"):
            pass
        await cache.ping(); await cache.delete_many(["a", "b"]); await cache.clear()

asyncio.run(main())
"""

REPORT = """
print(sorted(one.decode() for one in seen), file=sys.stderr)
print(odd)
"""

# MGET is packed by `per_key`, which packs nothing but bytes.
COMMON = {"BLPOP", "EVAL", "GET", "HELLO", "INFO", "PTTL", "SCAN", "SET", "UNLINK"}
EVERY = {
    "sync": COMMON | {"CLIENT", "EXISTS", "FLUSHDB", "PING", "ROLE", "SELECT"},
    "async": COMMON | {"PING"},
}


@pytest.mark.parametrize(
    ("colour", "tour"), [("sync", SYNC), ("async", ASYNC)], ids=["sync", "async"]
)
def test_only_bytes_are_packed(tmp_path: Path, colour: str, tour: str) -> None:
    """A tour of all that the client does packs nothing else, and misses no command."""
    program = tmp_path / "tour.py"
    program.write_text(textwrap.dedent(WATCH + tour + REPORT), encoding="utf-8")
    with LocalShards(3) as shards:
        done = subprocess.run(
            [sys.executable, program, *shards.urls.values()],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
    missed = {name for name in EVERY[colour] if f"'{name}'" not in done.stderr}
    assert missed == set(), done.stderr
