"""A source that names the nodes: it changes, vanishes and hangs under calls, and no call fails."""

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from shardcache import HashRing, Node, Options, ShardCache
from shardcache.embedded import LocalShards
from shardcache.errors import (
    ClientClosed,
    DiscoveryFailed,
    InvalidNode,
    InvalidOption,
    QuorumUnavailable,
    WrongType,
)
from tests.waiting import until

KEYS = [f"k{n}" for n in range(200)]
SOON = 0.02  # seconds between polls


class Source:
    """Returns, or raises, what a test says; it hangs while ``free`` is not set."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.calls = 0
        self.free = threading.Event()
        self.free.set()

    def __call__(self) -> Any:
        self.calls += 1
        self.free.wait()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture(scope="module")
def five() -> Iterator[LocalShards]:
    with LocalShards(5) as servers:
        yield servers


@pytest.fixture
def some(five):
    """The URLs of the first servers, by name."""
    return lambda number: dict(list(five.urls.items())[:number])


@pytest.fixture
def sourced(make, events):
    """Make a client with a source, and close the source's thread at the end."""
    sources = []

    def build(answer: Any, **settings: Any) -> Any:
        source = Source(answer)
        sources.append(source)
        options = Options(discovery_interval=SOON, on_event=events.append)
        return source, make(source, options=options, **settings)

    yield build
    for source in sources:
        source.free.set()


def test_nothing_is_asked_before_the_first_call(sourced, some) -> None:
    """The constructor opens nothing; the first call waits for the nodes, and finds them."""
    source, cache = sourced(some(3))
    assert (source.calls, cache.stats().discovery.polls) == (0, 0)
    assert cache.set("a", 1) is True
    assert cache.get("a") == 1
    assert set(cache.stats().shards) == set(some(3))
    found = cache.stats().discovery
    assert (found.ok, found.changes, cache.stats().topology_changes) == (True, 1, 0)


def test_first_call_meets_a_foreign_value(sourced, some, five, namespace) -> None:
    """A first call that finds somebody else's list says so, with the name of the shard."""
    for url in some(3).values():
        with redis.Redis.from_url(url) as server:
            server.rpush(f"{namespace}:foreign", 1)
    _, cache = sourced(some(3))
    error = cache.fetch_many(["foreign"]).failures["foreign"]
    assert isinstance(error, WrongType)
    assert error.shard == cache.explain("foreign").shard


FIRST: dict[str, Callable[[Any], Any]] = {
    "get": lambda cache: cache.get("a"),
    "set": lambda cache: cache.set("a", 1),
    "delete": lambda cache: cache.delete("a"),
    "get_many": lambda cache: cache.get_many(["a", "b"]),
    "fetch_many": lambda cache: cache.fetch_many(["a"]).hits,
    "set_many": lambda cache: cache.set_many({"a": 1, "b": 2}),
    "delete_many": lambda cache: cache.delete_many(["a", "b"]),
    "tagged": lambda cache: cache.set("a", 1, tags=["t"]),
    "invalidate_tags": lambda cache: cache.invalidate_tags(["t"]),
    "get_or_set": lambda cache: cache.get_or_set("a", 5),
    "get_or_set_many": lambda cache: cache.get_or_set_many(["a"], dict.fromkeys),
    "scan": lambda cache: list(cache.scan()),
    "clear": lambda cache: cache.clear(),
}
KNOWN = {
    "get": None,
    "set": True,
    "delete": False,
    "get_many": {},
    "fetch_many": {},
    "set_many": [],
    "delete_many": 0,
    "tagged": True,
    "invalidate_tags": 0,
    "get_or_set": 5,
    "get_or_set_many": {"a": None},
    "scan": [],
    "clear": 0,
}
UNKNOWN = {**KNOWN, "set": False, "set_many": ["a", "b"], "tagged": False}


@pytest.mark.parametrize("method", sorted(FIRST))
def test_any_call_may_be_the_first(sourced, some, method) -> None:
    """Whatever is called first waits for the nodes, and does what it does with nodes."""
    source, cache = sourced(some(3), on_unavailable="raise")
    source.free.clear()
    threading.Timer(0.05, source.free.set).start()
    assert FIRST[method](cache) == KNOWN[method]
    assert cache.stats().degraded_reads == cache.stats().dropped_writes == 0


@pytest.mark.parametrize("method", sorted(set(FIRST) - {"fetch_many"}))
def test_no_nodes(sourced, some, method) -> None:
    """Without an answer calls end as with a shard that is out, by "degrade" or "raise"."""
    _, degrading = sourced(OSError("secret"))
    assert FIRST[method](degrading) == UNKNOWN[method]
    source, raising = sourced(OSError("secret"), on_unavailable="raise")
    with pytest.raises(DiscoveryFailed, match=r"^no nodes from Source: OSError$"):
        FIRST[method](raising)
    source.answer = some(3)
    until(lambda: raising.stats().discovery.ok)
    assert FIRST[method](raising) == KNOWN[method]


def test_no_nodes_told_by_key(sourced) -> None:
    """`fetch_many` raises nothing, and says of each key what is missing."""
    _, cache = sourced(OSError("secret"), on_unavailable="raise")
    [outcome] = cache.fetch_many(["a"]).values()
    assert isinstance(outcome.error, DiscoveryFailed)


def test_no_nodes_elsewhere(sourced, some, events) -> None:
    """Pings, locks and explanations say what is missing, and work once it is there."""
    source, cache = sourced(OSError("secret"))
    lock = cache.lock("l", 600)
    with pytest.raises(QuorumUnavailable, match="OSError"):
        lock.acquire(timeout=0.05)
    assert [(name, one.ok, one.error) for name, one in cache.ping().items()] == [
        ("Source", False, "OSError")
    ]
    assert (cache.explain("a").shard, cache.explain("a").state) == ("Source", "open")
    with pytest.raises(DiscoveryFailed):
        cache.redis("a")
    source.answer = some(3)
    until(lambda: cache.stats().discovery.ok)
    assert lock.acquire(timeout=20) is True
    assert set(lock.voters) == set(some(3))
    lock.release()
    assert set(cache.ping()) == set(some(3))
    assert cache.explain("a").shard in some(3)
    assert [one.kind for one in events if "discovery" in one.kind] == [
        "discovery_failed",
        "discovery_back",
    ]
    assert "secret" not in str([str(one.error) for one in events]) + repr(cache)


def test_hung_source_costs_one_wait(sourced, some) -> None:
    """The first call waits in vain, and no other; when the source answers, all is well."""
    source, cache = sourced(some(3), timeout=2.0)
    source.free.clear()
    assert [cache.get("a") for _ in range(300)] == [None] * 300  # 300 waits would take 5 minutes
    assert source.calls == 1
    source.free.set()
    until(lambda: cache.set("a", 1))
    assert cache.get("a") == 1


def test_only_owed_keys_miss(sourced, some, events) -> None:
    """What the source names is in service, and moves the keys that it must; as `use` does."""
    source, cache = sourced(some(4))
    cache.set_many(dict.fromkeys(KEYS, 1), ttl=None)
    before = {key: cache.explain(key).shard for key in KEYS}
    ring = HashRing(list(some(5)))
    source.answer = [Node(name, 1, url) for name, url in some(5).items()]
    until(lambda: cache.stats().topology_changes == 1)
    moved = {key for key in KEYS if ring.owner(cache.explain(key).wire_key) != before[key]}
    assert moved
    assert set(cache.get_many(KEYS)) == set(KEYS) - moved
    assert ("topology_changed", "discovery") in [(one.kind, one.operation) for one in events]


TROUBLES: dict[str, Callable[[Source, Any], Any]] = {
    "error": lambda source, five: setattr(source, "answer", OSError()),
    "empty": lambda source, five: setattr(source, "answer", []),
    "nonsense": lambda source, five: setattr(source, "answer", ["redis://h:x"]),
    "nothing": lambda source, five: setattr(source, "answer", None),
    "hangs": lambda source, five: source.free.clear(),
}


@pytest.mark.parametrize("trouble", sorted(TROUBLES))
def test_last_good_nodes_stay(sourced, some, trouble) -> None:
    """However the source fails, calls go on as before: no error, and every key is found."""
    source, cache = sourced(some(4), on_unavailable="raise")
    cache.set_many(dict.fromkeys(KEYS, 1), ttl=None)
    failures, calls = cache.stats().discovery.failures, source.calls
    TROUBLES[trouble](source, some(5))
    until(lambda: source.calls > calls + 1 or trouble == "hangs")
    assert trouble == "hangs" or until(lambda: cache.stats().discovery.failures > failures)
    assert cache.get_many(KEYS) == dict.fromkeys(KEYS, 1)
    assert [cache.get(key) for key in KEYS[:20]] == [1] * 20
    assert cache.stats().topology_changes == 0
    source.answer = some(5)
    source.free.set()
    until(lambda: cache.stats().topology_changes == 1)
    until(lambda: cache.stats().discovery.ok)


def test_under_calls(sourced, some) -> None:
    """The nodes change to five and back, vanish and hang while threads call: no error at all."""
    source, cache = sourced(some(4), on_unavailable="raise")
    cache.set_many(dict.fromkeys(KEYS, 0), ttl=None)
    wrong: list[Any] = []
    stop = threading.Event()

    def work(part: int) -> None:
        keys = KEYS[part::4]
        try:
            while not stop.is_set():
                for key in keys:
                    cache.set(key, key, ttl=None)
                    wrong.extend(one for one in [cache.get(key)] if one not in (key, None, 0))
                found = cache.get_many(keys)
                wrong.extend(item for item in found.items() if item[1] not in (item[0], 0))
        except BaseException as error:
            wrong.append(error)
            raise

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(3):
            source.answer = some(5)
            until(lambda done=2 * round_ + 1: cache.stats().topology_changes == done)
            failures = cache.stats().discovery.failures
            source.answer = OSError()
            until(lambda before=failures: cache.stats().discovery.failures > before)
            source.answer = some(4)
            until(lambda done=2 * round_ + 2: cache.stats().topology_changes == done)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert (cache.stats().errors, cache.stats().degraded_reads) == (0, 0)
    # What the fifth node had when it left it may have kept, as after `use`.
    assert set(cache.get_many(KEYS)) == set(KEYS)


def test_source_has_the_last_word(sourced, some) -> None:
    """`use` is for clients without a source: the next poll would undo it."""
    _, cache = sourced(some(3))
    with pytest.raises(InvalidOption, match="a source names the nodes"):
        cache.use(some(2))


def test_nodes_that_cannot_be_used(sourced, some) -> None:
    """A first answer that no ring can have is a failure with its reason, not an empty client."""
    _, cache = sourced({"a": "redis://:secret@h1", "b": "redis://h2?name=c"})
    with pytest.raises(QuorumUnavailable, match="has another name in its URL"):
        cache.lock("l").acquire(timeout=0.05)
    assert cache.get("a") is None


def test_lock_needs_no_source(colour, some) -> None:
    """What is neither nodes nor a source is refused at once."""
    for nodes in (7, object()):
        with pytest.raises(InvalidNode, match="nodes must be URLs"):
            colour(nodes)


def test_voters_by_name(sourced, some) -> None:
    """Voters that are named can be checked as soon as there are nodes, and are refused before."""
    _, cache = sourced(some(3))
    with pytest.raises(DiscoveryFailed, match="there is no answer yet"):
        cache.lock("l", voters=["shard-1"])
    cache.ping()
    assert cache.lock("l", voters=["shard-1"]).acquire() is True
    with pytest.raises(InvalidOption, match="voters must be distinct names"):
        cache.lock("l", voters=["shard-9"])


def test_closed(sourced, some) -> None:
    """Closing ends the thread; later calls say that the client is closed."""
    _, cache = sourced(some(3))
    cache.set("a", 1)
    watch = cache._discovery._watch
    cache.close()
    until(lambda: not watch.alive)
    with pytest.raises(ClientClosed):
        cache.get("a")


def test_closed_before_the_first_answer(sourced) -> None:
    """A client that was closed before there were nodes says so, too."""
    source, cache = sourced(OSError(), timeout=0.2)
    source.free.clear()
    assert cache.get("a") is None
    cache.close()
    with pytest.raises(ClientClosed):
        cache.get("a")


@pytest.mark.parametrize("answered", [True, False])
def test_client_that_nobody_has(some, answered, young) -> None:
    """A client that is dropped goes, and the thread that watched its source with it."""
    source = Source(some(2))
    if not answered:
        source.free.clear()
    cache = ShardCache(source, timeout=0.2, options=Options(discovery_interval=SOON))
    cache.get("a")
    worker = cache._discovery._watch._worker
    gone = weakref.ref(cache)
    del cache
    gc.collect()
    assert gone() is None
    until(lambda: not worker.is_alive())
    source.free.set()


CHILD = """
import os, sys, threading
from shardcache import Options, ShardCache

urls = sys.argv[1:]
answer = list(urls[:2])
if os.environ.get("WAIT") == "1":
    answer = []
cache = ShardCache(lambda: list(answer), namespace=str(os.getpid()), timeout=30,
    options=Options(discovery_interval=0.01))
names = lambda: [one.name for one in threading.enumerate()]
if answer:
    assert cache.set("a", 1)
else:
    assert cache.get("a") is None
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
    assert "shardcache discovery" in names()
    sys.exit()
assert names() == ["MainThread"], names()
before = cache.stats().topology_changes
answer[:] = urls
grandchild = os.fork()
if grandchild:
    assert os.waitpid(grandchild, 0)[1] == 0
assert names() == ["MainThread"], names()
cache.get("a")
assert "shardcache discovery" in names(), names()
while len(cache.stats().shards) < 3:
    cache.get("b")
for n in range(50):
    assert cache.set(str(n), n) and cache.get(str(n)) == n
assert cache._current.now.owner_index.__qualname__.startswith(("HashRing", "_one")), (
    cache._current.now.owner_index)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("wait", ["0", "1"], ids=["answered", "not-yet"])
def test_fork(five, wait) -> None:
    """A forked child watches the source for itself, from its first call on; so does its child."""
    # CPython 3.12 and later warn of any fork of a process with threads.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CHILD]
    done = subprocess.run(
        [*command, *list(five.urls.values())[:3]],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "WAIT": wait},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_thread(sourced, some, events, monkeypatch) -> None:
    """Where the system has no thread calls fail, each with its reason, and the next one tries."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "shardcache discovery":
            raise RuntimeError("can't start new thread")
        start(thread)

    source, cache = sourced(some(2), on_unavailable="raise")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(2):
        with pytest.raises(DiscoveryFailed, match="can't start new thread"):
            cache.get("a")
    assert {(one.kind, one.operation) for one in events} == {("thread_not_started", "discovery")}
    monkeypatch.setattr(threading.Thread, "start", start)
    assert cache.get("a") is None
    assert source.calls >= 1


def test_no_thread_in_a_child(sourced, some, monkeypatch) -> None:
    """A forked child without a thread goes on with the nodes that it has, and tries again."""
    _, cache = sourced(some(2), on_unavailable="raise")
    cache.set("a", 1)
    start = threading.Thread.start
    now = [1000.0]
    tried: list[float] = []

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "shardcache discovery":
            tried.append(now[0])
            raise RuntimeError("can't start new thread")
        start(thread)

    # As in a child: the thread is not there, and the next use is to start one.
    discovery, watch = cache._discovery, cache._discovery._watch
    real = discovery._context.current.now
    watch.close()
    until(lambda: not watch.alive)
    watch._closed = False
    monkeypatch.setattr(threading.Thread, "start", refuse)
    discovery._clock = lambda: now[0]
    discovery.after_fork()
    assert [cache.get("a") for _ in range(5)] == [1] * 5
    assert tried == [1000.0]
    now[0] += 1.5
    assert cache.get_many(["a"]) == {"a": 1}
    assert tried == [1000.0, 1001.5]
    # Once there is a thread, calls use the very topology that was there before.
    monkeypatch.setattr(threading.Thread, "start", start)
    now[0] += 1.5
    assert cache.get("a") == 1
    assert watch.alive
    assert discovery._context.current.now is real
