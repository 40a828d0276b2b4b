"""A program whose signal handler raises an `Exception` at random moments inside of `get`.

``raising_program.py SECONDS URL…``. At the end it prints how often the handler raised inside of a
call, and how often the call returned all the same, without the value.
"""

import json
import random
import signal
import sys
import time

from shardcache import ShardCache

SECONDS, *URLS = sys.argv[1:]
VALUES = {"text": "v" * 100, "bytes": b"v" * 100, "number": 123456}


class TimeOver(Exception):
    """As Celery's SoftTimeLimitExceeded: no BaseException."""


armed = False
raised = []


def handler(*_):
    if armed:
        raised.append(time.monotonic())
        raise TimeOver


signal.signal(signal.SIGALRM, handler)
swallowed = 0
with ShardCache(URLS, timeout=60) as cache:
    cache.set_many(VALUES)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
    end = time.monotonic() + float(SECONDS)
    while time.monotonic() < end:
        key = random.choice([*VALUES])
        found = VALUES[key]
        try:
            armed = True
            found = cache.get(key)
            armed = False
        except TimeOver:
            armed = False
        swallowed += found != VALUES[key]
    signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps({"raised": len(raised), "swallowed": swallowed}))
