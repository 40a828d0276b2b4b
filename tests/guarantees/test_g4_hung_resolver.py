"""G4 while getaddrinfo hangs for ever: every call ends, the process too; threads are bounded."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from shardcache import Options
from shardcache.embedded import LocalShards
from shardcache.errors import ShardCacheError, ShardUnavailable

FAR = 60.0  # nothing may take so long
TIMEOUT = 0.2


@pytest.fixture(scope="module")
def shards() -> Iterator[LocalShards]:
    """Three servers, on ports of this machine."""
    with LocalShards(3, tcp=True) as servers:
        yield servers


@pytest.fixture
def hosts(names, shards) -> dict[str, str]:
    """Nodes by names that no other test has looked up, and that hang once they are told to."""
    found = {}
    for name, url in shards.urls.items():
        host = f"{uuid.uuid4().hex}.example"
        names.say(host, ("127.0.0.1", int(urlsplit(url).port or 0)))
        found[name] = host
    return found


CALLS: dict[str, Callable[[Any], Any]] = {
    "get": lambda cache: cache.get("k"),
    "set": lambda cache: cache.set("k", 1),
    "incr": lambda cache: cache.incr("n", initial=0),
    "get_many": lambda cache: cache.get_many([f"k{number}" for number in range(50)]),
    "fetch_many": lambda cache: cache.fetch_many([f"k{number}" for number in range(50)]),
    "set_many": lambda cache: cache.set_many({f"k{number}": 1 for number in range(50)}),
    "get_or_set": lambda cache: cache.get_or_set("l", lambda: 1),
    "invalidate_tags": lambda cache: cache.invalidate_tags(["t"]),
    "lock": lambda cache: cache.lock("x", 5).acquire(timeout=0.5),
    "scan": lambda cache: list(cache.scan()),
    "ping": lambda cache: cache.ping(),
}


@pytest.mark.parametrize("breakers", [True, False])
def test_first_calls(make, names, hosts, breakers: bool) -> None:
    """With no address known, each call ends by its deadline, whichever it is, and all of them."""
    for host in hosts.values():
        names.hang(host)
    cache = make(
        {name: f"redis://{host}" for name, host in hosts.items()},
        timeout=TIMEOUT,
        options=Options(max_out=float(breakers)),
    )
    begun = time.monotonic()
    for call in CALLS.values():
        with suppress(ShardCacheError):
            call(cache)
    assert time.monotonic() - begun < FAR
    assert sorted(names.asked) == sorted(hosts.values())
    assert len(set(names.threads)) <= len(hosts)


def test_one_name_of_three(make, names, hosts) -> None:
    """Only the shard whose name hangs is missed."""
    names.hang(hosts["shard-2"])
    cache = make({name: f"redis://{host}" for name, host in hosts.items()}, timeout=1.0)
    keys = [f"k{number}" for number in range(60)]
    there = [key for key in keys if cache.explain(key).shard != "shard-2"]
    for _ in range(3):
        failed = set(cache.set_many(dict.fromkeys(keys, 1)))
    assert failed == set(keys) - set(there)
    assert cache.get_many(keys) == dict.fromkeys(there, 1)
    assert names.asked.count(hosts["shard-2"]) == 1


def test_many_callers(make, names, hosts) -> None:
    """Callers that come at once wait for one look-up, each by its own deadline."""
    host = hosts["shard-1"]
    names.hang(host)
    cache = make({"a": f"redis://{host}"}, timeout=TIMEOUT, on_unavailable="raise")
    errors = []

    def ask(_: int) -> None:
        try:
            cache.get("k")
        except ShardUnavailable as error:
            errors.append(error)

    begun = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(64)))
    assert (len(errors), names.asked) == (64, [host])
    assert time.monotonic() - begun < FAR


def test_later_calls(make, names, hosts) -> None:
    """With an address known no call waits for the resolver, nor one that opens a connection."""
    cache = make(
        {name: f"redis://{host}" for name, host in hosts.items()},
        on_unavailable="raise",
        options=Options(dns_ttl=0),
    )
    keys = [f"k{number}" for number in range(50)]
    assert cache.set_many(dict.fromkeys(keys, 1)) == []
    asked = len(names.asked)
    for host in hosts.values():
        names.hang(host)
    begun = time.monotonic()
    for call in CALLS.values():
        assert [result.error for result in cache.ping().values()] == [None] * 3
        call(cache)
    assert cache.get_many(keys) == dict.fromkeys(keys, 1)
    assert len(names.asked) <= asked + len(hosts)
    assert time.monotonic() - begun < FAR
    assert [row.failures for row in cache.stats().shards.values()] == [0, 0, 0]


def run(program: str, *arguments: str) -> list[str]:
    """Return the words that a program prints; it has to end."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=FAR,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.split()


HANGS = """
import asyncio, os, socket, sys, threading, time
known = {}
def hang(host, port, *rest, **named):
    if host in known:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", known[host]))]
    time.sleep(1000)
socket.getaddrinfo = hang
from shardcache import AsyncShardCache, Options, ShardCache
URL = {"a": "redis://h.example"}
"""
EXIT = {
    "sync": """
with ShardCache(URL, timeout=0.1) as cache:
    print(cache.get("k"), cache.set("k", 1))
""",
    "unclosed": """
cache = ShardCache(URL, timeout=0.1)
print(cache.get("k"), cache.set("k", 1))
""",
    "async": """
async def main():
    async with AsyncShardCache(URL, timeout=0.1) as cache:
        print(await cache.get("k"), await cache.set("k", 1))
asyncio.run(main())
""",
}


@pytest.mark.parametrize("colour", EXIT)
def test_process_ends(colour: str) -> None:
    """Neither `close` nor the interpreter waits for a look-up that hangs."""
    assert run(HANGS + EXIT[colour]) == ["None", "False"]


FORK = """
def in_child(cache):
    child = os.fork()
    if not child:
        try:
            cache._driver.shards[0].pool.empty()
            print(cache.get("k"), flush=True)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
known["h.example"] = int(sys.argv[1])
cache = ShardCache(URL, timeout=20, options=Options(dns_ttl=0))
cache.set("k", 7)
known.clear()
cache.ping()  # begins a look-up, which hangs
in_child(cache)
in_child(ShardCache({"a": "redis://unknown.example"}, timeout=0.1))
print(cache.get("k"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_while_it_hangs(shards) -> None:
    """A child has the addresses that its parent knew; without one its calls end by the deadline."""
    port = urlsplit(shards.urls["shard-1"]).port
    assert run(HANGS + FORK, str(port)) == ["7", "None", "7"]


GEVENT = (
    """
from gevent import monkey; monkey.patch_all()
import gevent
"""
    + HANGS
    + """
ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.01)
gevent.spawn(tick)
cache = ShardCache(URL, timeout=0.3)
jobs = [gevent.spawn(cache.get, "k") for _ in range(20)]
gevent.joinall(jobs, timeout=30)
print({job.value for job in jobs}, all(job.successful() for job in jobs), len(ticks) > 5)
known["g.example"] = int(sys.argv[1])
cache = ShardCache({"a": "redis://g.example"}, timeout=20, options=Options(dns_ttl=0))
cache.set("k", 7)
known.clear()
print(cache.ping()["a"].ok, cache.get("k"))
"""
)


def test_gevent(shards) -> None:
    """Under gevent too, greenlets go on while one of them looks a name up."""
    pytest.importorskip("gevent")
    port = urlsplit(shards.urls["shard-1"]).port
    assert run(GEVENT, str(port)) == ["{None}", "True", "True", "True", "7"]
