"""A program that uses a client while foreign code comes in between; test_interrupted.py runs it.

``interrupted_program.py HOW SECONDS URL…``, where HOW is

- "raise": a signal handler that raises at random moments;
- "handler": a signal handler that calls the client itself;
- "collector": finalizers that call the client, at nearly any allocation.

At the end it prints what it found, as JSON.
"""

import faulthandler
import gc
import itertools
import json
import random
import signal
import sys
import threading
import time
from collections import Counter

from shardcache import LoadPolicy, ShardCache

HOW, SECONDS, *URLS = sys.argv[1:]
KEYS = [f"k{number}" for number in range(4)]
NAMES = ["l1", "l2"]
SWR = LoadPolicy(stale_ttl=60, wait=1)
STRICT = LoadPolicy(wait=1, hard_timeout=5)
rng = random.Random(int(time.time() * 1000))
done = Counter()


class Hit(BaseException):
    """What the handler raises."""


def under_a_lock(cache):
    with cache.lock(rng.choice(NAMES), 30, timeout=1):
        done["held"] += 1


def by_hand(cache):
    lock = cache.lock(rng.choice(NAMES), 30, auto_renew=True)
    try:
        try:
            lock.acquire(timeout=0.2)  # inside, for a handler may raise as soon as it has returned
            if lock.held:
                lock.extend()
        finally:
            if lock.held:
                lock.release()
    except Hit:
        if lock.held:  # the `finally` was broken off
            lock.release()
        raise


def many_locks(cache):
    with cache.lock_many(NAMES, 30, timeout=1):
        pass


def pipeline(cache):
    with cache.pipeline() as queue:
        queue.set("p", 1, ttl=60)
        queue.get("p")


WORK = [
    lambda cache: cache.set(rng.choice(KEYS), "v", 5),
    lambda cache: cache.get(rng.choice(KEYS)),
    lambda cache: cache.delete(rng.choice(KEYS)),
    lambda cache: cache.incr("n", initial=1, ttl=60),
    lambda cache: cache.set_many(dict.fromkeys(KEYS, 1), ttl=5),
    lambda cache: cache.get_many(KEYS),
    lambda cache: cache.get_or_set(rng.choice(KEYS), lambda: "loaded", ttl=0.01, policy=SWR),
    lambda cache: cache.get_or_set(rng.choice(KEYS), lambda: "loaded", ttl=60),
    lambda cache: cache.get_or_set(rng.choice(KEYS), lambda: "loaded", ttl=60, policy=STRICT),
    lambda cache: cache.get_or_set_many(KEYS, lambda keys: dict.fromkeys(keys, "loaded"), ttl=60),
    pipeline,
    under_a_lock,
    by_hand,
    many_locks,
]


def work(cache):
    try:
        rng.choice(WORK)(cache)
    except Exception as error:
        done[type(error).__name__] += 1
    done["calls"] += 1


def raising(cache):
    def handler(*_):
        raise Hit

    signal.signal(signal.SIGALRM, handler)
    end = time.monotonic() + float(SECONDS)
    while time.monotonic() < end:
        try:
            try:
                # Again after a while: the interpreter swallows one that comes in a callback of a
                # weak reference.
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0001, 0.004), 1)
                while time.monotonic() < end:
                    work(cache)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Hit:
            done["hits"] += 1


def handling(cache):
    depth = 0

    def handler(*_):
        nonlocal depth
        if depth < 2:
            depth += 1
            try:
                work(cache)
                done["inside"] += 1
            finally:
                depth -= 1

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
    end = time.monotonic() + float(SECONDS)
    while time.monotonic() < end:
        work(cache)
    signal.setitimer(signal.ITIMER_REAL, 0)


class Trash:
    """Garbage that calls the client when it is collected, and leaves more of its kind."""

    cache = None
    going = True
    inside = threading.local()
    due = itertools.count()

    def __init__(self):
        self.itself = self

    def __del__(self):
        if not Trash.going:
            return
        Trash()
        depth = getattr(Trash.inside, "depth", 0)
        if depth < 2 and next(Trash.due) % 7 == 0:
            Trash.inside.depth = depth + 1
            try:
                work(Trash.cache)
                done["inside"] += 1
            finally:
                Trash.inside.depth = depth


def collecting(cache):
    Trash.cache = cache
    for _ in range(20):
        Trash()
    before = gc.get_threshold()
    gc.set_threshold(1)
    end = time.monotonic() + float(SECONDS)

    def run():
        while time.monotonic() < end:
            work(cache)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    run()
    for thread in threads:
        thread.join()
    Trash.going = False
    gc.set_threshold(*before)
    gc.collect()


def standing(line):
    """Return how many callers stand in a line."""
    return sum(place() is not None for place in line)


def left_behind(cache):
    """Return what should not be there, when nobody is at work any more."""
    runner = cache._runner
    end = time.monotonic() + 10  # what goes on in the background ends
    while time.monotonic() < end and (
        runner._flights._flights or standing(runner._loads._permits._turns)
    ):
        time.sleep(0.01)
    found = {
        "flights": len(runner._flights._flights),
        "places": standing(runner._loads._permits._turns),
        "lines": sum(map(standing, runner.line._lines.values())),
        "states": sorted(set(runner.states().values())),
        "held": [name for name in NAMES if not cache.lock(name, 5).acquire(timeout=3)],
        "loads": [],
    }
    for key in KEYS:
        cache.delete(key)
        cache.get_or_set(key, lambda: "last", ttl=60)
        if cache.get(key) != "last":
            found["loads"].append(key)
    return found


def main():
    faulthandler.dump_traceback_later(float(SECONDS) + 45, exit=True)
    with ShardCache(URLS, namespace="storm", timeout=5) as cache:
        {"raise": raising, "handler": handling, "collector": collecting}[HOW](cache)
        left = left_behind(cache)
    print(json.dumps({"left": left, "done": done}))


main()
