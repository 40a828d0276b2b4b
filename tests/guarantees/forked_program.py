"""Fork in the middle of a call: ``python forked_program.py WHAT URL...``.

Forks at every 13th step of a call, each time of another lock or key, as a signal handler or a
loader might. Prints, as JSON, how often each outcome was seen.

``WHAT``: "acquire, leave": the child of a fork in `acquire` leaves by SystemExit;
    "acquire, go on": it goes on with the call as its parent does;
    "load, leave": the child of a loader that forks leaves by SystemExit;
    "load, refuse": it leaves by an error that is to be remembered for the key.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from shardcache import LoadPolicy, ShardCache

STEPS, STRIDE = 1_000, 13


def forked_at(at: int, work: Callable[[], Any], *, leave: bool) -> tuple[int | None, Any]:
    """Do ``work``, and fork at its step ``at``; return the child (0 in it) and what came of it."""
    steps, child = 0, None

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal steps, child
        steps += event in ("call", "c_return")
        if steps == at and child is None:
            sys.setprofile(None)
            child = os.fork()
            if child == 0 and leave:
                sys.exit()

    sys.setprofile(profile)
    try:
        found = work()
    except SystemExit:
        os._exit(0)
    finally:
        sys.setprofile(None)
    return child, found


def acquire(urls: list[str], *, leave: bool) -> Counter[str]:
    """Count whether parent, child and then another client have the lock."""
    found: Counter[str] = Counter()
    with ShardCache(urls, timeout=5) as cache, ShardCache(urls, timeout=5) as other:
        cache.lock("warm").acquire()
        # Not from the first step on: until the call is noted, two processes begin one each.
        for at in range(STRIDE, STEPS, STRIDE):
            lock = cache.lock(f"l{at}", 60)
            mine, theirs = os.pipe()
            child, _ = forked_at(at, lambda lock=lock: lock.acquire(timeout=2), leave=leave)
            if child == 0:
                os.write(theirs, b"child " if lock.held else b"")
                os._exit(0)
            os.close(theirs)
            if child is None:  # the call had fewer steps
                return found
            os.waitpid(child, 0)
            has = ["parent "] * lock.held + [os.read(mine, 100).decode()]
            has += ["other"] * other.lock(f"l{at}", 60).acquire(blocking=False)
            found["".join(has).strip()] += 1
            os.close(mine)
    return found


class Refused(Exception):
    """What a loader raises for a key that has no value."""


def load(urls: list[str], *, refuse: bool) -> Counter[str]:
    """Count what the parent's load returns, what is stored, and whether another client loaded."""
    found: Counter[str] = Counter()
    policy = LoadPolicy(wait=0.2, on_wait_over="raise")
    remembering = LoadPolicy(negative_on=(Refused,), negative_ttl=60)
    with ShardCache(urls, timeout=5) as cache, ShardCache(urls, timeout=5) as other:

        def loader() -> str:
            child = os.fork()
            if child == 0 and refuse:
                raise Refused
            if child == 0:
                sys.exit()
            os.waitpid(child, 0)
            try:
                return other.get_or_set("k", lambda: "another loaded", 60, policy=policy)
            except Exception as error:
                return type(error).__name__

        try:
            got = cache.get_or_set("k", loader, 60, policy=remembering)
        except (SystemExit, Refused):
            os._exit(0)
        found[f"{got}, stored {cache.get('k')}"] += 1
    return found


if __name__ == "__main__":
    what, *servers = sys.argv[1:]
    said = (
        load(servers, refuse="refuse" in what)
        if "load" in what
        else acquire(servers, leave="leave" in what)
    )
    print(json.dumps(said))
