"""The quorum lock in the real world: five servers, several processes, and chaos.

Each worker adds one to two numbers, as `lock_worker` says: one unguarded, one fenced. Servers are
killed, paused, restarted and cut off meanwhile, and holders are stopped for longer than their lease
lasts, so that the unguarded number *does* lose additions: no lock with a lease can prevent that,
and the number of them is reported, not hidden. The fenced one must lose none.

SHARDCACHE_CHAOS_SECONDS is how long it goes on (15 unless set), SHARDCACHE_CHAOS_SEED which chaos
it is.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from .chaos import Chaos
from .lock_worker import WORK, connect, now, prepare
from .servers import BACKENDS, Fleet, Server

SECONDS = float(os.environ.get("SHARDCACHE_CHAOS_SECONDS") or 15)
SEED = int(os.environ.get("SHARDCACHE_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
WORKERS = 4
TTL = 1.0
CALM = 3.0  # seconds at the end without chaos
WORKER = Path(__file__).with_name("lock_worker.py")
# One of each kind: containers can be cut off, and processes are there where there is no engine.
CHOSEN = [backend for backend in BACKENDS if backend.name in ("redis-container", "valkey-process")]


@contextmanager
def workers(
    servers: dict[str, Server], folder: Path, until: float
) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Start the workers; whatever happens, none is left."""
    crew = []
    try:
        for worker in range(WORKERS):
            asked = {
                "urls": {name: server.url for name, server in servers.items()},
                "folder": str(folder),
                "ttl": TTL,
                "until": until,
                "worker": worker,
            }
            with (folder / f"worker-{worker}.err").open("wb") as said:
                crew.append(
                    subprocess.Popen([sys.executable, str(WORKER), json.dumps(asked)], stderr=said)
                )
        yield crew
    finally:
        for process in crew:
            process.kill()
            process.wait()


def records(folder: Path) -> list[dict[str, object]]:
    files = [folder / f"worker-{worker}.jsonl" for worker in range(WORKERS)]
    return [
        json.loads(line) for file in files for line in file.read_text(encoding="ascii").splitlines()
    ]


def overlaps(held: list[dict[str, float]]) -> int:
    """Count the turns that began while another one still was within its validity."""
    count, latest = 0, 0.0
    for turn in sorted(
        (turn for turn in held if turn["to"] > turn["from"]), key=lambda turn: turn["from"]
    ):
        count += turn["from"] < latest
        latest = max(latest, turn["to"])
    return count


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("backend", CHOSEN, ids=lambda backend: backend.name, indirect=True)
def test_chaos(
    fleet: Fleet, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Whatever happens to servers and holders, the fenced number is exact, with one holder."""
    servers = dict(zip("abcde", fleet(5), strict=True))
    prepare(tmp_path)
    until = now() + SECONDS
    with workers(servers, tmp_path, until) as crew:
        chaos = Chaos(
            list(servers.values()),
            [one.pid for one in crew],
            tmp_path / "holder",
            ttl=TTL,
            work=WORK,
            seed=SEED,
        )
        chaos.start()
        try:
            time.sleep(max(SECONDS - CALM, 1.0))
        finally:
            chaos.end()
        codes = [process.wait() for process in crew]
    assert [path.read_text() for path in tmp_path.glob("worker-*.err")] == [""] * WORKERS
    assert codes == [0] * WORKERS

    turns = records(tmp_path)
    kinds = Counter(turn["kind"] for turn in turns)
    held = [turn for turn in turns if turn["kind"] == "held"]
    written = sum("written" in turn for turn in held)
    fenced = sum("fenced" in turn for turn in held)
    tokens = [turn["token"] for turn in held]
    lost = written - int((tmp_path / "number").read_text())
    with closing(connect(tmp_path)) as db:
        [value] = db.execute("SELECT value FROM number").fetchone()
        history = [token for (token,) in db.execute("SELECT token FROM history ORDER BY id")]
    inversions = sum(later < earlier for earlier, later in pairwise(history))

    figures = {
        "seconds": SECONDS,
        "seed": SEED,
        "chaos": dict(sorted(chaos.done.items())),
        "turns with the lock": len(held),
        "gave up, held by others": kinds["busy"],
        "gave up, no quorum": kinds["no quorum"],
        "losses noticed before the write": sum("noticed" in turn for turn in held),
        "unguarded writes": written,
        "unguarded violations (additions lost)": lost,
        "fenced writes": fenced,
        "fenced writes refused": sum("refused" in turn for turn in held),
        "fenced violations": (fenced - value) + inversions,
        "holders valid at the same time": overlaps(held),
    }
    for name, figure in figures.items():
        record_property(name, figure)

    assert (fenced - value, inversions, len(tokens) - len(set(tokens))) == (0, 0, 0)
    assert overlaps(held) == 0
    assert fenced > 0
    assert chaos.done["SIGSTOP"] > 0
