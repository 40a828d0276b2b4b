"""Whatever a command does, a storm of Ctrl-C ends it as one interrupt would, or not at all."""

import random
import signal
import sys
import time
from pathlib import Path
from subprocess import Popen

import pytest

from shardcache import ShardCache

RUNS = 4
MOST = 6  # signals in a storm
JOB = ["sleep", "0.2"]  # says nothing when it is interrupted, so whatever is said is ours
COMMANDS = {  # and about how many seconds it takes
    "ring": (["ring", "--node", "a", "--node", "b"], 0.5),
    "get": (["get", "k"], 0.6),
    "set": (["set", "k", "v", "--ttl", "100"], 0.6),
    "lock run": (["lock", "run", "job", "--", *JOB], 1.2),
    "up": (["up", "--shards", "2"], 1.5),
    "demo": (["demo", "--shards", "2", "--seconds", "2"], 4.0),
}

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        sys.platform != "linux", reason="when it is ready for signals is looked up in /proc"
    ),
]


def await_ready(process: "Popen[str]") -> None:
    """Wait for its first step: the interpreter's own start, before that, is nobody's to protect."""
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:") and int(line.split()[1], 16) >> (signal.SIGALRM - 1) & 1:
                return
        time.sleep(0.001)


@pytest.mark.parametrize("seed", range(RUNS))
@pytest.mark.parametrize("name", COMMANDS)
def test_storm(name, seed, command, url):
    """The exit code is one of the table, one line is printed, and nothing is left behind."""
    arguments, seconds = COMMANDS[name]
    with ShardCache.from_url(url) as cache:
        cache.set("k", "v")
        chance = random.Random(f"{name} {seed}")
        moments = sorted(chance.uniform(0, seconds) for _ in range(chance.randint(1, MOST)))
        environ = {} if name == "demo" else {"SHARDCACHE_URL": url}
        process = command.start(*arguments, **environ)
        await_ready(process)
        begun = time.monotonic()
        for moment in moments:
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            process.send_signal(signal.SIGINT)  # to one that has ended it does nothing
        _, err = process.communicate(timeout=100)
        told = ("", "shardcache: interrupted\n")
        assert (process.returncode in (0, 130), err in told) == (True, True), (
            process.returncode,
            err,
        )
        assert (command.processes(), command.files(), cache.lock("job").locked()) == ([], [], False)
