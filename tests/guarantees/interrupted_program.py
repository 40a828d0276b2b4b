"""A program that uses a client while foreign code comes in between everywhere; run by test_interrupted.py.

``interrupted_program.py HOW SECONDS URL…``: how is "raise" (a signal handler that raises at random moments), "handler" (one that
calls the client itself) or "collector" (finalizers that do, at nearly any allocation). Prints what was found at the end, as JSON.
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
luck = random.Random(int(time.time() * 1000))
done = Counter()


class Hit(BaseException):
    """What the handler raises."""


def under_a_lock(cache):
    with cache.lock(luck.choice(NAMES), 30, timeout=1):
        done["held"] += 1


def by_hand(cache):
    lock = cache.lock(luck.choice(NAMES), 30, auto_renew=True)
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
    lambda cache: cache.set(luck.choice(KEYS), "v", 5),
    lambda cache: cache.get(luck.choice(KEYS)),
    lambda cache: cache.delete(luck.choice(KEYS)),
    lambda cache: cache.incr("n", initial=1, ttl=60),
    lambda cache: cache.set_many(dict.fromkeys(KEYS, 1), ttl=5),
    lambda cache: cache.get_many(KEYS),
    lambda cache: cache.get_or_set(luck.choice(KEYS), lambda: "loaded", ttl=0.01, policy=SWR),
    lambda cache: cache.get_or_set(luck.choice(KEYS), lambda: "loaded", ttl=60),
    lambda cache: cache.get_or_set(luck.choice(KEYS), lambda: "loaded", ttl=60, policy=STRICT),
    lambda cache: cache.get_or_set_many(KEYS, lambda keys: dict.fromkeys(keys, "loaded"), ttl=60),
    pipeline,
    under_a_lock,
    by_hand,
    many_locks,
]


def work(cache):
    try:
        luck.choice(WORK)(cache)
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
                # Again after a while: one that comes in a callback of a weak reference is swallowed by the interpreter.
                signal.setitimer(signal.ITIMER_REAL, luck.uniform(0.0001, 0.004), 1)
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


def left_behind(cache):
    """Return what should not be there, when nobody is at work any more."""
    runner = cache._runner
    end = time.monotonic() + 10  # what goes on in the background ends
    while time.monotonic() < end and (
        runner._flights._flights or runner._loads._places._turns._live()
    ):
        time.sleep(0.01)
    found = {
        "flights": len(runner._flights._flights),
        "places": len(runner._loads._places._turns._live()),
        "lines": sum(len(queue._live()) for queue in runner.line._queues.values()),
        "states": sorted(set(runner.states())),
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
