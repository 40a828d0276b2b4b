"""G1: whatever happens to the stream, a call returns the right value or none.

Every value carries its key. The proxy hits the stream at every byte offset of a reply; after each
fault the client is used again, since a connection that got out of step would answer the next call
with the last one's reply.
"""

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count as counter
from typing import Any

import pytest

from shardcache import ShardCache
from shardcache.embedded import LocalShards
from shardcache.testing import (
    Corrupt,
    Cut,
    Delay,
    Drop,
    Duplicate,
    Fault,
    FaultProxy,
    Replay,
    Split,
    Stall,
    random_fault,
)

from .conftest import MARKED, NO_BREAKER, SCALE, Count, value_of

pytestmark = pytest.mark.long

TIMEOUT = 0.02  # seconds: a stalled reply costs one
KEYS = [f"key-{i}" for i in range(24)]
Proxies = dict[str, FaultProxy]


@pytest.fixture(params=[NO_BREAKER, MARKED], ids=["plain", "marked"])
def cache(
    proxies: Proxies, servers: LocalShards, request: pytest.FixtureRequest
) -> Iterator[ShardCache]:
    """A client behind the proxies, its keys filled in past them."""
    with ShardCache(servers.urls, namespace="g1") as direct:
        assert direct.set_many({key: value_of(key) for key in KEYS}, ttl=None) == []
    urls = {name: proxy.url for name, proxy in proxies.items()}
    with ShardCache(urls, namespace="g1", timeout=TIMEOUT, options=request.param) as client:
        yield client


LOOPS = {
    "split": 30,
    "drop the request": 1,
}  # what costs neither a connection nor a deadline, more often


def skip_what_tcp_excludes(name: str, cache: ShardCache) -> None:
    """Only a marked connection can tell a copy that arrives between two calls."""
    if name.startswith("duplicate") and not cache._context.options.echo_check:
        pytest.skip(
            "TCP delivers every byte once; Options(echo_check=True) is for proxies that do not"
        )


def reply_length(cache: ShardCache, proxies: Proxies, ask: Callable[[], object], shard: str) -> int:
    """Measure how many bytes ``shard`` sends for one call.

    On a busy machine a call may time out, and a new connection's handshake would be counted: the
    length is what two calls in a row have in common, over a connection that was there.
    """
    cache.get_many(KEYS)  # connections are there
    lengths = [0]
    while lengths[-1] == 0 or lengths[-1] not in lengths[-2:-1]:
        before = proxies[shard].traffic()
        ask()
        after = proxies[shard].traffic()
        same = after.connections == before.connections
        lengths.append(after.reply_bytes - before.reply_bytes if same else 0)
    return lengths[-1]


FAULTS: dict[str, Callable[[int], Fault]] = {
    "cut": Cut,
    "reset": lambda at: Cut(at, reset=True),
    "split": lambda at: Split((at,), pause=0.0),
    "duplicate one byte": lambda at: Duplicate(at, at + 1),
    "duplicate from the start": lambda at: Duplicate(0, at + 1),
    "drop the request": Drop,
    "cut the request": lambda at: Cut(at, on="request"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_get_at_every_offset(
    cache: ShardCache, proxies: Proxies, count: Count, name: str
) -> None:
    """A fault at every byte of the reply to a get, then another get over whatever is left."""
    skip_what_tcp_excludes(name, cache)
    key, other = (
        KEYS[0],
        next(k for k in KEYS[1:] if cache.explain(k).shard == cache.explain(KEYS[0]).shard),
    )
    shard = cache.explain(key).shard
    length = reply_length(cache, proxies, lambda: cache.get(key), shard)
    slow = name == "drop the request"
    for _ in range(LOOPS.get(name, 3) * SCALE):
        for at in range(0, length, 4 if slow else 1):
            proxies[shard].arm(FAULTS[name](at))
            count.check(key, cache.get(key))
            count.check_next(other, cache.get(other))
            proxies[shard].clear()
    assert count.wrong == []
    assert count.calls >= length // 4


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "drop the request"])
def test_fan_out_at_every_offset(
    cache: ShardCache, proxies: Proxies, count: Count, name: str
) -> None:
    """A fault at every byte of one shard's part of a get_many."""
    skip_what_tcp_excludes(name, cache)
    shard = cache.explain(KEYS[0]).shard
    length = reply_length(cache, proxies, lambda: cache.get_many(KEYS), shard)
    for at in range(0, length, max(1, 3 // SCALE)):
        proxies[shard].arm(FAULTS[name](at))
        count.check_many(KEYS, cache.get_many(KEYS))
        count.check_many(KEYS, cache.get_many(KEYS))
        count.calls -= 1  # the second one is to find what the first left behind
    assert count.wrong == []


@pytest.mark.parametrize("on", ["reply", "request"])
def test_a_cut_takes_nothing_from_the_others(
    proxies: Proxies, servers: LocalShards, on: Any
) -> None:
    """If one shard's connection breaks in a fan-out, the values of all other shards arrive."""
    with ShardCache(servers.urls, namespace="others") as direct:
        direct.set_many({key: value_of(key) for key in KEYS}, ttl=None)
    urls = {name: proxy.url for name, proxy in proxies.items()}
    with ShardCache(urls, namespace="others", timeout=20, options=NO_BREAKER) as cache:
        cache.get_many(KEYS)
        shard = cache.explain(KEYS[0]).shard
        others = {key for key in KEYS if cache.explain(key).shard != shard}
        for at in range(0, 60, 3):
            proxies[shard].arm(Cut(at, on=on))
            assert cache.get_many(KEYS).keys() >= others
            proxies[shard].clear()


def test_pipeline_at_every_offset(cache: ShardCache, proxies: Proxies, count: Count) -> None:
    """Cuts, splits and duplicates at every byte of a pipeline's replies never shift an answer."""
    shard = cache.explain(KEYS[0]).shard
    mine = [key for key in KEYS if cache.explain(key).shard == shard][:4]

    def ask() -> list[object]:
        with cache.pipeline() as pipe:
            for key in mine:
                pipe.get(key)
                pipe.contains(key)
        return pipe.results

    length = reply_length(cache, proxies, ask, shard)
    doubles = (
        [name for name in FAULTS if name.startswith("duplicate")]
        if cache._context.options.echo_check
        else []
    )
    for name in ("cut", "reset", "split", *doubles):
        make = FAULTS[name]
        for at in range(0, length, max(1, 3 // SCALE)):
            proxies[shard].arm(make(at))
            for key, got in zip(mine, ask()[::2], strict=True):
                count.check(key, got)
    assert count.wrong == []


def test_late_replies_never_answer_the_next_call(
    cache: ShardCache, proxies: Proxies, count: Count
) -> None:
    """A reply that stalls at any byte and goes on after the deadline is nobody's."""
    shard = cache.explain(KEYS[0]).shard
    mine = [key for key in KEYS if cache.explain(key).shard == shard]
    length = reply_length(cache, proxies, lambda: cache.get(mine[0]), shard)
    turn = counter()
    for at in range(0, length, max(1, 8 // SCALE)):
        key, other = mine[next(turn) % len(mine)], mine[next(turn) % len(mine)]
        proxies[shard].arm(Stall(at))
        count.check(key, cache.get(key))
        count.check_next(other, cache.get(other))
        proxies[shard].resume()
        count.check_next(other, cache.get(other))
        count.check_next(key, cache.get(key))
        proxies[shard].clear()
    assert count.wrong == []


def test_late_copies_are_noticed(cache: ShardCache, proxies: Proxies, count: Count) -> None:
    """A connection that gets a whole reply again while it is idle is not used again."""
    shard = cache.explain(KEYS[0]).shard
    mine = [key for key in KEYS if cache.explain(key).shard == shard]
    for turn in range(100 * SCALE):
        key, other = mine[turn % len(mine)], mine[(turn + 1) % len(mine)]
        proxies[shard].arm(Replay())
        count.check(key, cache.get(key))
        proxies[shard].resume()
        count.check_next(other, cache.get(other))
    assert count.wrong == []


def test_delays_around_the_deadline(cache: ShardCache, proxies: Proxies, count: Count) -> None:
    """Replies that come just before, at and just after the deadline."""
    shard = cache.explain(KEYS[0]).shard
    mine = [key for key in KEYS if cache.explain(key).shard == shard]
    for turn in range(60 * SCALE):
        proxies[shard].arm(Delay(TIMEOUT * (0.8 + 0.01 * (turn % 40))))
        key, other = mine[turn % len(mine)], mine[(turn + 1) % len(mine)]
        count.check(key, cache.get(key))
        count.check_next(other, cache.get(other))
    assert count.wrong == []


def test_flipped_bytes_with_signed_values(
    proxies: Proxies, servers: LocalShards, count: Count
) -> None:
    """With a signing key even a byte that was changed on its way is noticed, at every offset."""
    from dataclasses import replace

    options = replace(NO_BREAKER, signing_key=b"0123456789abcdef")
    with ShardCache(servers.urls, namespace="signed", options=options) as direct:
        direct.set_many({key: value_of(key) for key in KEYS}, ttl=None)
    urls = {name: proxy.url for name, proxy in proxies.items()}
    with ShardCache(urls, namespace="signed", timeout=TIMEOUT, options=options) as cache:
        shard = cache.explain(KEYS[0]).shard
        length = reply_length(cache, proxies, lambda: cache.get(KEYS[0]), shard)
        for at in range(length):
            for flip in (0x01, 0x80):
                proxies[shard].arm(Corrupt(at, flip))
                count.check(KEYS[0], cache.get(KEYS[0]))
    assert count.wrong == []


def test_threads_under_random_faults(cache: ShardCache, proxies: Proxies, count: Count) -> None:
    """Eight threads share a client under random faults of every kind, kills among them."""
    stop = threading.Event()
    counts = [Count() for _ in range(8)]

    def work(mine: Count, seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(250 * SCALE):
            key = rng.choice(KEYS)
            if rng.random() < 0.8:
                mine.check(key, cache.get(key))
            else:
                some = rng.sample(KEYS, 6)
                mine.check_many(some, cache.get_many(some))

    def trouble() -> None:
        rng = random.Random(8)
        while not stop.is_set():
            proxy = rng.choice(list(proxies.values()))
            fault = random_fault(rng, 200, seconds=0.002)
            if not isinstance(fault, (Corrupt, Duplicate, Replay)):  # they have tests of their own
                proxy.arm(fault)
            if rng.random() < 0.05:
                proxy.kill(reset=rng.random() < 0.5)
            if rng.random() < 0.3:
                proxy.clear()
            stop.wait(0.002)

    threads = [threading.Thread(target=work, args=(mine, seed)) for seed, mine in enumerate(counts)]
    troublemaker = threading.Thread(target=trouble)
    for thread in [troublemaker, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    troublemaker.join()
    count.calls = sum(mine.calls for mine in counts)
    count.wrong = [wrong for mine in counts for wrong in mine.wrong]
    assert count.wrong == []


def test_servers_killed_and_restarted(count: Count) -> None:
    """Servers that die and come back empty under load give misses, never another's value."""
    with (
        LocalShards(3) as shards,
        ShardCache(shards.urls, timeout=0.1, options=NO_BREAKER) as cache,
    ):
        rng = random.Random(3)
        for turn in range(300 * SCALE):
            if turn % 20 == 0:
                rng.choice(shards.servers).kill()
            if turn % 20 == 10:
                for server in shards.servers:
                    if not server.running:
                        server.start()
            key = rng.choice(KEYS)
            if rng.random() < 0.5:
                cache.set(key, value_of(key))
            count.check(key, cache.get(key))
            count.check_many(KEYS, cache.get_many(KEYS))
    assert count.wrong == []


FORKING = """
import os, sys, threading
from shardcache import ShardCache

def value_of(key):
    return f"<{key}|" + "".join(f"{key}.{i};" for i in range(8)) + f"|{key}>"

urls = dict(pair.split("=", 1) for pair in sys.argv[1:])
cache = ShardCache(urls, namespace="g1", timeout=5, on_unavailable="raise")
keys = [f"key-{i}" for i in range(24)]

def work(seed):
    wrong = 0
    for i in range(400):
        key = keys[(i * 7 + seed) % len(keys)]
        wrong += cache.get(key) != value_of(key)
        if i % 5 == 0:
            wrong += cache.get_many(keys) != {key: value_of(key) for key in keys}
    return wrong

assert work(0) == 0
wrong = 0
threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
for thread in threads: thread.start()       # connections are in use while the process forks
children = []
for seed in range(4):
    child = os.fork()
    if child == 0:
        os._exit(min(work(seed), 99))
    children.append(child)
wrong += work(9)
for thread in threads: thread.join()
for child in children:
    wrong += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
sys.exit(wrong)
"""


def test_forks_in_the_middle_of_use(cache: ShardCache, servers: LocalShards) -> None:
    """After a fork under load, parent and children go on at once, over connections of their own."""
    del cache  # filled in the keys
    pairs = [f"{name}={url}" for name, url in servers.urls.items()]
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, *pairs]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
