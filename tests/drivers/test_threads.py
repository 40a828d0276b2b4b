"""Where no thread can be started: what was begun is undone, and a good value comes back."""

import ast
import asyncio
import threading
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import shardcache
from shardcache import MISS, AsyncShardCache, LoadPolicy, Options, ShardCache, errors
from shardcache.drivers.sync.lease_renewer import LeaseRenewer, LoadRenewal
from shardcache.embedded import LocalShards
from shardcache.system.threads import Worker
from tests.waiting import until

LONG_TIMEOUT = 20.0  # seconds: the deadline of what is not about time


class Limit:
    """A limit on threads of the library, by their names, while ``full`` is set."""

    def __init__(self) -> None:
        self.full = False
        self.refused: list[str] = []
        self._start = threading.Thread.start

    def start(self, thread: threading.Thread) -> None:
        if self.full and thread.name.startswith("shardcache"):
            self.refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        self._start(thread)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    limit = Limit()
    # Without the lambda, it would not be bound to the thread.
    monkeypatch.setattr(threading.Thread, "start", lambda thread: limit.start(thread))  # noqa: PLW0108
    return limit


@pytest.fixture
def shards() -> Iterator[LocalShards]:
    """Servers of this test alone, for some are ended."""
    with LocalShards(3) as servers:
        yield servers


@pytest.fixture
def told() -> list[tuple[str, str, str]]:
    """What the hook was told of threads: kind, operation, type of the error."""
    return []


@pytest.fixture
def cache(shards: LocalShards, told: list[tuple[str, str, str]]) -> Iterator[ShardCache]:
    def hook(event: shardcache.Event) -> None:
        if event.kind == "thread_not_started":
            told.append((event.operation, event.shard, type(event.error).__name__))

    with ShardCache(
        shards.urls,
        namespace=uuid.uuid4().hex,
        timeout=LONG_TIMEOUT,
        options=Options(on_event=hook, first_probe=0.01),
    ) as cache:
        yield cache


def test_a_shard_comes_back_without_its_first_prober(shards, cache, limit, told) -> None:
    """The prober is tried again by the next call that finds the shard out, and no call raises."""
    dead = cache.explain("a").shard
    server = next(server for server in shards.servers if server.name == dead)
    cache.set("a", 1)
    server.kill()
    limit.full = True
    assert [cache.get("a") for _ in range(5)] == [None] * 5
    assert cache.stats().shards[dead].state == "open"
    assert set(told) == {("probe", dead, "ThreadNotStarted")}
    server.start()
    limit.full = False
    until(lambda: cache.get("a", MISS) is MISS and cache.stats().shards[dead].state != "open")
    until(lambda: cache.set("a", 2))
    assert cache.get("a") == 2


@pytest.mark.parametrize("soft", [None, LONG_TIMEOUT], ids=["behind", "first"])
def test_a_stale_value_comes_back(cache, limit, told, soft) -> None:
    """A refresh that cannot begin costs nothing but itself, and the next one begins."""
    policy = LoadPolicy(stale_ttl=600, soft_timeout=soft, beta=0)
    loaded = iter(("old", "new", "newest"))
    assert cache.get_or_set("a", lambda: next(loaded), ttl=0.05, policy=policy) == "old"
    until(lambda: cache.ttl("a") == 0)
    limit.full = True
    assert [
        cache.get_or_set("a", lambda: next(loaded), ttl=600, policy=policy) for _ in range(3)
    ] == ["old"] * 3
    assert told == [("refresh", "", "ThreadNotStarted")] * 3
    limit.full = False
    until(lambda: cache.get_or_set("a", lambda: next(loaded), ttl=600, policy=policy) == "new")
    cache.delete("a")
    assert cache.get_or_set("a", lambda: next(loaded), ttl=600, policy=policy) == "newest"
    assert cache.get("a") == "newest"


def test_a_loader_with_a_time_limit(cache, limit, told) -> None:
    """A load that needs a thread says that it has none; its lock and its place are free at once."""
    policy = LoadPolicy(hard_timeout=LONG_TIMEOUT)
    limit.full = True
    with pytest.raises(errors.ThreadNotStarted, match="can't start new thread"):
        cache.get_or_set("a", lambda: "loaded", policy=policy)
    assert ("load", "", "ThreadNotStarted") in told
    limit.full = False
    assert cache.get_or_set("a", lambda: "loaded", policy=policy) == "loaded"
    assert cache.get("a") == "loaded"


def test_every_place_for_loaders_is_given_back(shards, limit) -> None:
    """As many failures as there are places, and then a load."""
    policy = LoadPolicy(hard_timeout=LONG_TIMEOUT)
    with ShardCache(shards.urls, timeout=LONG_TIMEOUT, options=Options(max_loads=1)) as cache:
        limit.full = True
        for _ in range(3):
            with pytest.raises(errors.ThreadNotStarted):
                cache.get_or_set("a", lambda: "loaded", policy=policy)
        limit.full = False
        assert cache.get_or_set("a", lambda: "loaded", policy=policy) == "loaded"


def test_load_locks_are_renewed_after_all(limit, told) -> None:
    """What could not be renewed at first is, as soon as a later load gets its thread."""

    def hook(event: shardcache.Event) -> None:
        told.append((event.kind, event.operation, type(event.error).__name__))

    renewer = LeaseRenewer(time.monotonic, hook)
    renewed: list[str] = []
    limit.full = True
    first = LoadRenewal(0.001, lambda: renewed.append("first") is None)
    renewer.add(first)
    assert told == [("thread_not_started", "renew", "ThreadNotStarted")]
    limit.full = False
    second = LoadRenewal(0.001, lambda: renewed.append("second") is None)
    renewer.add(second)
    until(lambda: {"first", "second"} <= set(renewed))
    first.stopped = second.stopped = True


def test_a_load_whose_lock_cannot_be_renewed(cache, limit, told) -> None:
    """The value comes back all the same, with an event."""
    limit.full = True
    assert cache.get_or_set("a", lambda: "loaded") == "loaded"
    assert (told, cache.get("a")) == ([("renew", "", "ThreadNotStarted")], "loaded")


def test_a_lock_that_cannot_be_renewed(cache, limit, told) -> None:
    """It is not held, neither here nor on the voters, and nothing is left to be closed."""
    lock = cache.lock("l", 600, auto_renew=True)
    limit.full = True
    with pytest.raises(errors.ThreadNotStarted):
        lock.acquire()
    assert (lock.held, told) == (False, [("renew", "", "ThreadNotStarted")])
    with pytest.raises(errors.LockNotHeld):
        lock.ensure_held()
    assert cache.lock("l").acquire(timeout=LONG_TIMEOUT) is True
    lock.close()
    limit.full = False


def test_a_handle_is_as_good_as_new(cache, limit) -> None:
    """After a failure the same handle takes the lock, and renews it."""
    lock = cache.lock("l", 600, auto_renew=True)
    limit.full = True
    with pytest.raises(errors.ThreadNotStarted):
        lock.acquire()
    limit.full = False
    with lock:
        assert (lock.held, lock._holder.hold.renewal.is_alive()) == (True, True)


def test_another_ttl_needs_no_other_thread(cache, limit) -> None:
    """Extending with another ttl goes by the thread that is there."""
    lock = cache.lock("l", 600, auto_renew=True)
    with lock:
        limit.full = True
        lease = lock._holder.hold.lease
        assert lock.extend(0.3) is True
        first = list(lease.until)
        until(lambda: lease.until != first)  # it has been renewed
        assert (lock.held, limit.refused) == (True, [])


def test_adopting_without_a_thread(cache, limit) -> None:
    """A lease that cannot be renewed is not adopted: its text is still good."""
    first = cache.lock("l", 600)
    first.acquire()
    text = first.handover()
    second = cache.lock("l", 600, auto_renew=True)
    limit.full = True
    with pytest.raises(errors.ThreadNotStarted):
        second.adopt(text)
    assert second.held is False
    limit.full = False
    second.adopt(text)
    assert second.held is True
    second.release()


def test_all_or_none_without_a_thread(cache, limit) -> None:
    """Of several locks none is held."""
    locks = cache.lock_many(["a", "b"], 600, auto_renew=True)
    limit.full = True
    with pytest.raises(errors.ThreadNotStarted):
        locks.acquire()
    limit.full = False
    assert [cache.lock(name).acquire(timeout=LONG_TIMEOUT) for name in "ab"] == [True, True]


def test_no_thread_for_looking_up_a_name(limit) -> None:
    """Without a thread for a DNS lookup that shard is out of reach, and asyncio calls go on."""
    limit.full = True

    async def main() -> tuple[Any, str]:
        async with AsyncShardCache(
            {"a": "redis://no-such-host.invalid:1"}, timeout=LONG_TIMEOUT
        ) as cache:
            found = await cache.get("k")
            return found, str((await cache.ping())["a"])

    found, why = asyncio.run(main())
    assert (found, "can't start new thread" in why) == (None, True)


def test_a_worker_that_was_broken_off_before_it_began(monkeypatch) -> None:
    """A start that a signal handler breaks off leaves a thread that works, or none for ever."""

    def breaks_before(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    done: list[str] = []
    start = threading.Thread.start

    def breaks_after(thread: threading.Thread) -> None:
        start(thread)
        until(lambda: done)
        raise KeyboardInterrupt

    for breaks, expected in ((breaks_before, []), (breaks_after, ["worked"])):
        monkeypatch.setattr(threading.Thread, "start", breaks)
        undone: list[str] = []
        with pytest.raises(KeyboardInterrupt):
            Worker("w", lambda: done.append("worked")).begin(
                None, "test", undo=partial(undone.append, "undone")
            )
        assert (done, undone) == (expected, [] if expected else ["undone"])


def test_only_one_module_starts_threads() -> None:
    """A failed start of a thread is remembered for all; connections then need no thread."""
    package = Path(shardcache.__path__[0])
    found = set()
    # A benchmark's outages happen in a thread of their own, which no client knows.
    modules = [path for path in package.rglob("*.py") if "bench" not in path.parts]
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.unparse(node) if isinstance(node, (ast.Attribute, ast.Name)) else ""
            if text in {"threading.Thread", "Thread", "start_new_thread", "_start_new_thread"}:
                found.add(str(path.relative_to(package)))
    assert found == {"system/threads.py"}
