"""How often a hot value is loaded by real clients: many readers in many processes, over ten expiries. Only loads are counted."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "hot_reader.py"
PROCESSES, READERS, SECONDS = 8, 8, 10
MOST = 15  # 10 to 12 on an idle machine; a busy one is slow to load, so it refreshes earlier


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_hot_key_is_loaded_once_for_each_ttl(kind, shards, namespace) -> None:
    """64 readers in 8 processes, ttl 1 s, a loader of 0.1 s: about once a second, not once for each reader or process."""
    urls = f"{','.join(f'{url}&name={name}' for name, url in shards.urls.items())}&namespace={namespace}&timeout=20"
    with ExitStack() as stack:
        crowd = []
        for _ in range(PROCESSES):
            command = [sys.executable, str(PROGRAM), kind, urls, str(SECONDS), str(READERS)]
            one = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.enter_context(one)
            stack.callback(one.kill)
            crowd.append(one)
        for one in crowd:
            assert one.stdout.readline() == "ready\n"
        for one in crowd:
            one.stdin.write("go\n")
            one.stdin.flush()
        loads = [int(one.communicate(timeout=100)[0]) for one in crowd]
    assert 1 <= sum(loads) <= MOST, loads
