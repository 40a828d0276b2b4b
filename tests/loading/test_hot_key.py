"""How often real clients load a hot value: many readers and processes, ten expiries.

Only loads are counted.
"""

import math
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "hot_reader.py"
PROCESSES, READERS, SECONDS = 8, 8, 10
TTL, MOST = 1.0, 12  # seconds; loads in SECONDS if each takes 0.1 s


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_hot_key_is_loaded_once_for_each_ttl(kind, shards, namespace) -> None:
    """64 readers in 8 processes, ttl 1 s, a loader of 0.1 s: 10 to 12 loads in 10 s.

    A refresh begins one and a half times as long before the end as the last load took, on the
    average, so one follows the other after the ttl less half of that. From a third of a second on,
    which a busy machine may make of the tenth, that is more often than 12 times, and is meant to
    be.
    """
    nodes = ",".join(f"{url}&name={name}" for name, url in shards.urls.items())
    urls = f"{nodes}&namespace={namespace}&timeout=20"
    with ExitStack() as stack:
        crowd = []
        for _ in range(PROCESSES):
            command = [sys.executable, str(PROGRAM), kind, urls, str(READERS)]
            one = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(one)
            stack.callback(one.kill)
            crowd.append(one)
        for one in crowd:
            assert one.stdout.readline() == "ready\n"
        # The same for all: a process that is late does not go on for longer.
        end = time.monotonic() + SECONDS
        for one in crowd:
            one.stdin.write(f"{end}\n")
            one.stdin.flush()
        said = [one.communicate(timeout=100)[0].split() for one in crowd]
    loads, took = sum(int(number) for number, _ in said), sum(float(seconds) for _, seconds in said)
    most = max(MOST, math.ceil(1 + SECONDS / (TTL - took / loads / 2))) if loads else 0
    assert 1 <= loads <= most, said
