"""What a reader of one call has to read: ``python benchmarks/call_trace.py [CALL …] [--totals]``.

Prints the files and functions of the package that the call touches in the thread that makes it, in
the order of their first call, and their numbers beside the goals. The servers are local, the client
has made such a call before, so that connections and caches are there. Comprehensions and lambdas
are not counted: they are read with the function around them.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import shardcache
from shardcache import LoadPolicy, ShardCache
from shardcache.embedded import LocalShards

__all__ = ("GOALS", "Goal", "Touched", "touched", "traced_calls")

PACKAGE = Path(shardcache.__path__[0])
SHARDS = 3


class Goal(NamedTuple):
    """The most files and functions that a call should touch."""

    files: int
    functions: int


GOALS = {
    "get": None,
    "get_many": Goal(11, 38),
    "lock.acquire": Goal(12, 45),
    "get_or_set": Goal(22, 110),
}


class Touched(NamedTuple):
    """A function that was called: its file below the package, and its qualified name."""

    file: str
    function: str


def touched(call: Callable[[], object]) -> list[Touched]:
    """Return the functions of the package that ``call`` runs in this thread, by first call."""
    seen: dict[Touched, None] = {}

    def profile(frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        path = Path(code.co_filename)
        if event == "call" and not code.co_name.startswith("<") and PACKAGE in path.parents:
            seen[Touched(path.relative_to(PACKAGE).as_posix(), code.co_qualname)] = None

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(before)
    return list(seen)


@contextmanager
def traced_calls() -> Iterator[dict[str, Callable[[], list[Touched]]]]:
    """Lend the four calls over servers of their own: each returns what its call touched."""
    with LocalShards(SHARDS) as servers, ShardCache(servers.urls) as cache:
        yield {
            "get": lambda: _get(cache),
            "get_many": lambda: _get_many(cache),
            "lock.acquire": lambda: _acquire(cache),
            "get_or_set": lambda: _get_or_set(cache),
        }


def _get(cache: ShardCache) -> list[Touched]:
    """Trace the hit of a key that has been read before."""
    cache.set("user:7", "Ada")
    cache.get("user:7")
    return touched(lambda: cache.get("user:7"))


def _get_many(cache: ShardCache) -> list[Touched]:
    """Trace hits on every shard."""
    keys = [f"user:{number}" for number in range(30)]
    owners = {cache.explain(key).shard for key in keys}
    assert len(owners) == SHARDS, owners
    cache.set_many(dict.fromkeys(keys, "Ada"))
    cache.get_many(keys)
    return touched(lambda: cache.get_many(keys))


def _acquire(cache: ShardCache) -> list[Touched]:
    """Trace the acquisition of a lock that nobody holds, after another one."""
    with cache.lock("nightly", ttl=10):
        pass
    lock = cache.lock("hourly", ttl=10)
    found = touched(lock.acquire)
    lock.release()
    return found


def _get_or_set(cache: ShardCache) -> list[Touched]:
    """Trace a miss that claims, loads and fills, by the default policy."""
    policy = LoadPolicy()
    cache.ping()  # opens what is not open yet
    cache.get_or_set("user:1:name", lambda: "Ada", ttl=60, policy=policy)
    return touched(lambda: cache.get_or_set("user:2:name", lambda: "Bob", ttl=60, policy=policy))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="call_trace", description="Files and functions of the package that a call touches."
    )
    parser.add_argument("calls", nargs="*", metavar="CALL", help=f"any of {', '.join(GOALS)}")
    parser.add_argument("--totals", action="store_true", help="print the numbers only")
    said = parser.parse_args()
    if unknown := [name for name in said.calls if name not in GOALS]:
        parser.error(f"no call is named {', '.join(unknown)}; there are {', '.join(GOALS)}")
    with traced_calls() as calls:
        found = {name: calls[name]() for name in said.calls or GOALS}
    if not said.totals:
        for name, functions in found.items():
            print(f"{name}\n{'─' * len(name)}")
            for file, function in functions:
                print(f"{file:<36} {function}")
            print()
    for name, functions in found.items():
        print(total(name, functions))


def total(name: str, functions: list[Touched]) -> str:
    """Return the line of one call: its numbers, and whether they meet the goal."""
    files = len({file for file, _ in functions})
    line = f"{name:<14} {files:>3} files {len(functions):>4} functions"
    goal = GOALS[name]
    if goal is None:
        return line
    verdict = "met" if files <= goal.files and len(functions) <= goal.functions else "MISSED"
    return f"{line}   goal ≤ {goal.files} and ≤ {goal.functions}: {verdict}"


if __name__ == "__main__":
    main()
