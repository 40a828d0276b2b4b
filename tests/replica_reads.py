"""Which server a read was asked of, by what the servers have counted; and calls of each kind."""

from collections.abc import Callable
from typing import Any

import redis

from shardcache.embedded import LocalServer

# Commands that only reads and scripts are made of: the stream of a primary has none of them.
READS = {"get", "mget", "exists", "type", "eval", "scan", "blpop"}


def ask(server: LocalServer, *command: object) -> Any:
    """Send one command to a server, past the client."""
    with redis.Redis(port=server.port) as plain:
        return plain.execute_command(*command)


def reads_of(server: LocalServer) -> int:
    """Return how many commands a server has carried out that read."""
    found = ask(server, "INFO", "commandstats")
    counts = {name.removeprefix("cmdstat_"): row["calls"] for name, row in found.items()}
    return sum(counts.get(name, 0) for name in READS)


def pipelined(cache: Any, key: str) -> Any:
    """Read in a pipeline."""
    with cache.pipeline() as pipe:
        pipe.get(key)


def locked(cache: Any, key: str) -> Any:
    """Take a lock, look at it, and give it back."""
    with cache.lock(key, ttl=20) as lock:
        assert lock.locked()


FROM_REPLICA: dict[str, Callable[[Any, str], Any]] = {
    "get": lambda cache, key: cache.get(key),
    "get_many": lambda cache, key: cache.get_many([key])[key],
    "fetch_many": lambda cache, key: cache.fetch_many([key]).hits[key],
    "contains": lambda cache, key: cache.contains(key),
    "ttl": lambda cache, key: cache.ttl(key) > 0,
}

FROM_PRIMARY: dict[str, Callable[[Any, str], Any]] = {
    "command": lambda cache, key: cache.command(key, "GET"),
    "get_or_set": lambda cache, key: cache.get_or_set(key, 2),
    "get_or_set, a miss": lambda cache, _: cache.get_or_set("new", 2),
    "get_or_set_many": lambda cache, key: cache.get_or_set_many([key], dict),
    "incr": lambda cache, key: cache.incr(key),
    "decr": lambda cache, key: cache.decr(key),
    "set": lambda cache, key: cache.set(key, 2),
    "add": lambda cache, key: cache.add(key, 2),
    "replace": lambda cache, key: cache.replace(key, 2),
    "touch": lambda cache, key: cache.touch(key),
    "delete": lambda cache, key: cache.delete(key),
    "set_many": lambda cache, key: cache.set_many({key: 2}),
    "delete_many": lambda cache, key: cache.delete_many([key]),
    "invalidate_tags": lambda cache, _: cache.invalidate_tags(["t"]),
    "scan": lambda cache, _: list(cache.scan()),
    "clear": lambda cache, _: cache.clear(),
}
