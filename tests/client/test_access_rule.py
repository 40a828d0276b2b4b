"""The user of docs/operations.md: every method works on each server, no other command does."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from shardcache import Event, Options, ShardCache
from shardcache.embedded import LocalShards
from shardcache.errors import AccessDenied

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
# A mapping is a view: what is done to it are calls of the methods below.
LOCAL = {"close", "explain", "hot_keys", "stats", "from_url", "embedded", "mapping", "use"}


def _cached(cache: Any) -> None:
    cache.cached(ttl=60, key="page:{n}", tags=["t"])


def _pipeline(cache: Any) -> None:
    with cache.pipeline() as pipe:
        pipe.set("p", 1)
        pipe.get("p")
        pipe.incr("c", initial=0)
    assert pipe.results == [True, 1, 1]


def _lock(cache: Any) -> None:
    lock = cache.lock("job", ttl=10, timeout=20)
    assert lock.acquire()
    assert (lock.extend(), lock.locked(), lock.held) == (True, True, True)
    assert cache.lock("job", ttl=10).acquire(timeout=0.05) is False
    lock.release()


def _lock_many(cache: Any) -> None:
    locks = cache.lock_many(["one", "two"], ttl=10)
    assert locks.acquire()
    locks.release()


CALLS: dict[str, Callable[[Any], Any]] = {
    "get": lambda cache: cache.get("k"),
    "get_many": lambda cache: cache.get_many(["k", "l"]),
    "fetch_many": lambda cache: cache.fetch_many(["k", "none"]),
    "set": lambda cache: cache.set("k", 1, tags=["t"]),
    "add": lambda cache: cache.add("added", 1),
    "replace": lambda cache: cache.replace("k", 2),
    "set_many": lambda cache: cache.set_many({"k": 1, "l": 2}),
    "delete": lambda cache: cache.delete("k"),
    "delete_many": lambda cache: cache.delete_many(["k", "l"]),
    "incr": lambda cache: cache.incr("n", initial=0),
    "decr": lambda cache: cache.decr("n", initial=0),
    "touch": lambda cache: (cache.touch("n", None), cache.touch("n", 60)),
    "ttl": lambda cache: cache.ttl("n"),
    "contains": lambda cache: cache.contains("n"),
    "get_or_set": lambda cache: cache.get_or_set("loaded", 5, ttl=60, tags=["t"], policy="swr"),
    "get_or_set_many": lambda cache: cache.get_or_set_many(
        ["x", "y"], lambda keys: dict.fromkeys(keys, 7)
    ),
    "invalidate_tags": lambda cache: cache.invalidate_tags(["t"]),
    "cached": _cached,
    "pipeline": _pipeline,
    "lock": _lock,
    "lock_many": _lock_many,
    "scan": lambda cache: list(cache.scan()),
    "clear": lambda cache: cache.clear(),
    "ping": lambda cache: cache.ping(),
}
# Methods that a user's own commands go through: what they need is the caller's to allow.
CALLERS_OWN = {"command", "redis"}


@pytest.fixture(scope="module")
def urls(program: str) -> Iterator[dict[str, str]]:
    """Three servers with the page's user; the URLs have its login."""
    [rule] = re.findall(r"^user (\S+) (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    with LocalShards(
        3, tcp=True, binary=program, options={"user": f"{rule[0]} {rule[1]}"}
    ) as servers:
        yield {
            name: url.replace("://", f"://{rule[0]}:secret@") for name, url in servers.urls.items()
        }


def test_every_method_is_tried() -> None:
    """No public method that asks a server is left out."""
    public = {name for name in dir(ShardCache) if not name.startswith("_")}
    assert public - LOCAL - CALLERS_OWN == {*CALLS}


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_rule_is_enough(make: Any, urls: dict[str, str], protocol: int) -> None:
    """Every method works for that user: nothing is refused, in silence or aloud."""
    events: list[Event] = []
    options = Options(on_event=events.append, protocol=protocol, client_name="shop")
    cache = make(urls, namespace="shop", options=options)
    for call in CALLS.values():
        call(cache)
    assert all(answer.ok for answer in cache.ping().values())
    assert (cache.stats().errors, cache.stats().loading.not_stored, events) == (0, 0, [])


def test_no_more_than_that(make: Any, urls: dict[str, str]) -> None:
    """The same user reaches no other namespace, and cannot empty a database."""
    with pytest.raises(AccessDenied, match="NOPERM"):
        make(urls, namespace="bank").set("k", 1)
    with pytest.raises(AccessDenied, match="NOPERM"):
        make(urls, namespace="shop").clear(flush=True)
    with redis.Redis.from_url(urls["shard-1"]) as plain:
        for command in ("KEYS *", "CONFIG GET *", "FLUSHALL", "ACL LIST"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                plain.execute_command(*command.split())
