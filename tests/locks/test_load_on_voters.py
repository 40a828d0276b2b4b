"""What heavy use leaves behind on the voters: found by the benchmark."""

import time

import redis

from shardcache import ShardCache
from shardcache.embedded import LocalShards


def test_a_sign_that_somebody_waits_is_not_renewed_by_who_lets_others_go_first(
    cache, plain
) -> None:
    """One contention does not cost the later acquisitions a second attempt."""
    lock = cache.lock("l", 600)
    for name in lock.voters:
        plain[name].set(lock._holder.plan.keys.waiting, "", px=600_000)
    assert lock.acquire()
    lock.release()
    left = [plain[name].pttl(lock._holder.plan.keys.waiting) for name in lock.voters]
    assert [0 < one <= 600_000 and one > 590_000 for one in left] == [True] * len(left)


def test_frozen_voters_are_asked_a_few_times_and_keep_no_key_when_they_wake() -> None:
    """An acquire of up to 16 KiB on a closed connection leaves no key: its release is behind it."""
    with LocalShards(5) as servers, ShardCache(servers.urls, timeout=0.3) as cache:
        lock = cache.lock("l", 600)
        lock.acquire()
        lock.release()
        frozen = servers.servers[:2]
        before = [evals(server.url) for server in frozen]
        for server in frozen:
            server.pause()
        end = time.monotonic() + 0.5  # past the voters' timeout
        while time.monotonic() < end:
            assert lock.acquire(timeout=5)
            lock.release()
        for server in frozen:
            server.resume()
        left = []
        for server in frozen:
            with redis.Redis.from_url(server.url) as client:
                left.append(client.exists(lock._holder.plan.keys.lock))
        asked = [
            evals(server.url) - earlier for server, earlier in zip(frozen, before, strict=True)
        ]
    assert left == [0, 0]
    assert max(asked) <= 10


def evals(url: str) -> int:
    """Return how many scripts a server has run."""
    with redis.Redis.from_url(url) as client:
        return int(client.info("commandstats")["cmdstat_eval"]["calls"])
