"""G8: nothing from memory is older than a write that was acknowledged `LEASE` seconds before.

One client writes past the proxies, the other reads through them, with its values kept near, while
connections are cut, stalled, delayed and killed. A judge knows when each write was acknowledged.
"""

import random
import time
from typing import Any

import pytest

from shardcache import NearCache, ShardCache
from shardcache.drivers import invalidation_listener
from shardcache.embedded import LocalShards
from shardcache.policy.near_store import NearStore
from shardcache.testing import FaultProxy
from tests.near_judge import NearJudge
from tests.waiting import until

from .conftest import BROKEN, NO_BREAKER, SCALE, trouble

pytestmark = pytest.mark.long

LEASE = 0.3  # seconds; the bound
READS = 100_000
SPAN = 1.5  # seconds that it takes at least, so that some connections are lost
KEYS = [f"key-{i}" for i in range(150)]
Proxies = dict[str, FaultProxy]


def campaign(servers: LocalShards, proxies: Proxies, reads: int) -> tuple[NearJudge, Any]:
    """Write and read under faults; return what the judge has seen, and the reader's counters."""
    judge, rng = NearJudge(KEYS, LEASE), random.Random(7)
    urls = {name: proxy.url for name, proxy in proxies.items()}
    with (
        ShardCache(servers.urls, namespace="g8", timeout=20) as writer,
        ShardCache(
            urls, namespace="g8", timeout=0.05, near=NearCache(), options=NO_BREAKER
        ) as cache,
    ):
        with (
            judge.writing(writer, 8),
            trouble(proxies.values(), random.Random(9), 0.02, lambda f: type(f) not in BROKEN),
        ):
            end = time.monotonic() + SPAN
            while judge.reads < reads or time.monotonic() < end:
                judge.read(cache, rng.choice(KEYS))
        return judge, cache.stats().near


@pytest.fixture(autouse=True)
def _short_lease(monkeypatch: pytest.MonkeyPatch, servers: LocalShards) -> None:
    """Make the bound short enough for a test; nothing is there from another one."""
    monkeypatch.setattr(invalidation_listener, "LEASE", LEASE)
    monkeypatch.setattr(invalidation_listener, "BEAT", 0.05)
    with ShardCache(servers.urls, namespace="g8", timeout=20) as cache:
        cache.clear()


def test_near_is_not_stale(servers: LocalShards, proxies: Proxies) -> None:
    """No read is older than the bound, whatever happens to the connections."""
    judge, counters = campaign(servers, proxies, READS * SCALE)
    assert judge.stale == []
    assert counters.hits > 0
    assert sum(counters.flushes.values()) > 0


def test_judge_sees_a_missing_flush(
    servers: LocalShards, proxies: Proxies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where values outlive the connection that would tell of their writes, the judge sees it."""
    monkeypatch.setattr(NearStore, "end", lambda *_: None)
    monkeypatch.setattr(invalidation_listener, "LEASE", 3600.0)
    assert campaign(servers, proxies, READS)[0].stale


@pytest.mark.parametrize("guarded", [True, False])
def test_reply_behind_its_invalidation(
    servers: LocalShards, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """A reply that its invalidation has passed is not stored; without the guard it would be."""
    keep = NearStore.keep

    def late(store: NearStore, entry: Any, wire: bytes, outcome: Any) -> None:
        if entry is not None and not passed:
            passed.append(writer.set("key", "new"))
            until(lambda: store.invalidations > heard)
            if not guarded:
                store._items[wire] = entry
        keep(store, entry, wire, outcome)

    with (
        ShardCache(servers.urls, namespace="g8", timeout=20) as writer,
        ShardCache(servers.urls, namespace="g8", timeout=20, near=NearCache()) as cache,
    ):
        writer.set("key", "old")
        until(lambda: cache.get("key") and cache.stats().near.hits)
        writer.set("key", "old")
        until(lambda: cache.stats().near.items == 0)
        passed: list[bool] = []
        # Its own fill token is told of too, so the last message is waited for.
        heard = cache.stats().near.invalidations
        monkeypatch.setattr(NearStore, "keep", late)
        assert cache.get("key") == "old"
        assert cache.get("key") == ("new" if guarded else "old")
