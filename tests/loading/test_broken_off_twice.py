"""A signal handler raises at any step of a load, and again while that tidies up.

Nothing is left behind: no lock at the servers, and in this process no flight, no place of a loader,
no renewal.
"""

import gc
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from shardcache import LoadPolicy, ShardCache
from shardcache.drivers.active_load import active_loads
from shardcache.errors import LoadCycle
from tests.interruptions import interrupted, with_call_between
from tests.waiting import until

# A connection that is in use when the fault comes may be closed by its finalizer.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# What is given back has half of this time to get to its server, which may be busy.
LOCK_TTL = 120.0
POLICY = LoadPolicy(lock_ttl=LOCK_TTL)
Call = Callable[[ShardCache, str], Any]
LONG = 3600  # seconds: the longest that a call may wait for another load
CALLS: dict[str, Call] = {
    "one": lambda cache, key: cache.get_or_set(key, lambda: "loaded", ttl=60, policy=POLICY),
    "many": lambda cache, key: cache.get_or_set_many(
        [key, f"{key} too"], lambda keys: dict.fromkeys(keys, "loaded"), ttl=60, policy=POLICY
    ),
    "with a timeout": lambda cache, key: cache.get_or_set(
        key, lambda: "loaded", ttl=60, policy=LoadPolicy(hard_timeout=20, lock_ttl=LOCK_TTL)
    ),
    "by each process": lambda cache, key: cache.get_or_set(
        key, lambda: "loaded", ttl=60, policy=LoadPolicy(protect="process", lock_ttl=LOCK_TTL)
    ),
    "by each caller": lambda cache, key: cache.get_or_set(
        key, lambda: "loaded", ttl=60, policy=LoadPolicy(protect="none", lock_ttl=LOCK_TTL)
    ),
    "anew": lambda cache, key: cache.cached(ttl=60, key="x:{key}", policy=POLICY)(
        lambda key: "loaded"
    ).refresh(key),
    "tagged": lambda cache, key: cache.get_or_set(
        key, lambda: "loaded", ttl=60, tags=["tag"], policy=POLICY
    ),
}


@pytest.fixture
def cache(shards, namespace) -> Iterator[ShardCache]:
    with ShardCache(shards.urls, namespace=namespace, timeout=20) as cache:
        cache.get_or_set("warm", lambda: 1, ttl=60)
        yield cache
    gc.collect()  # what a traceback had to itself goes now, with its warnings


def left(cache, servers, namespace) -> list[Any]:
    """Return what should not be there when no call is under way."""
    runner = cache._runner
    loads = runner._loads
    return [
        *runner.undo_log.entries,
        *runner._flights._flights,
        *loads._permits._running,
        *loads._permits._turns,
        *active_loads(),
        *(
            key
            for server in servers.by_name.values()
            for family in ("load", "load-token")
            for key in server.scan_iter(f"{namespace}:@shardcache:{family}:*", count=10_000)
        ),
    ]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_load(cache, servers, namespace, call: Call) -> None:
    """After a load that was broken off the next call of the client finds nothing in its way."""
    rng = random.Random(1)
    faults = 0
    first = 1
    while True:
        for second in (0, rng.randint(1, 60)):
            key = f"k{first}-{second}"
            found = interrupted(lambda key=key: call(cache, key), first, second)
            faults += found
            assert cache.get_or_set(f"another {key}", lambda: 1, ttl=60) == 1
            with suppress(AssertionError):
                until(lambda: left(cache, servers, namespace) == [])
            assert left(cache, servers, namespace) == [], f"faults at {first} and {second}"
        if not found:
            break
        first += rng.randint(1, 9)
    assert faults > 100


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_load_within_a_load(cache, call: Call) -> None:
    """A finalizer or handler that wants the same key does not wait for its own thread."""
    policy = LoadPolicy(wait=LONG)
    for at in itertools.count(1, 17):
        key = f"k{at}"
        wanted = f"x:{key}" if call is CALLS["anew"] else key

        def between(wanted=wanted) -> None:
            with suppress(LoadCycle):  # while the loader runs, as for any loader
                found = cache.get_or_set(wanted, lambda: "loaded", ttl=60, policy=policy)
                assert found == "loaded"

        if not with_call_between(lambda key=key: call(cache, key), at, between):
            break
    assert at > 100
    assert cache.stats().loading.waits == 0
