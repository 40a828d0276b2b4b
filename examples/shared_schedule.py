"""Several workers share one schedule; each task is done once per tick, whoever of them is alive.

Run it: ``python shared_schedule.py``. Three workers look through the same list of tasks in every
tick. The worker that gets a task's lock looks whether the task is done for this tick, does it, and
notes that. In the second tick one worker dies in the middle of a task: its lock ends by its ttl,
and another worker does that task.

What is noted lies in a database, behind the lock's fencing token, so that a worker that overslept
its lock cannot note a task that somebody else has done meanwhile. The doing itself may happen twice
when a worker dies or oversleeps between doing and noting: no lock can prevent that. A task whose
effect is in the same database (as here) happens exactly once.

The servers are local ones here; in production, ``nodes`` are the URLs of yours.
"""

import itertools
import multiprocessing
import os
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from multiprocessing.synchronize import Event
from pathlib import Path

from shardcache import QuorumLock
from shardcache.embedded import LocalShards
from shardcache.errors import LockError, StaleToken
from shardcache.fencing import FencedSQL

WORKERS = 3
TICKS = 3
TASKS = ("send the invoices", "tidy up", "make the report", "warm the cache", "back up")
TTL = 1.0  # seconds after which the lock of a worker that died is free; a longer task renews it
FATAL = (1, "make the report")  # the tick and the task in which one worker dies
Nodes = Mapping[str, str]
fenced = FencedSQL()


def connect(path: Path) -> sqlite3.Connection:
    """Open the database of what is done."""
    db = sqlite3.connect(path, timeout=30)
    db.execute("CREATE TABLE IF NOT EXISTS done (tick INTEGER, task TEXT, worker TEXT)")
    fenced.create_table(db)
    db.commit()
    return db


def is_done(db: sqlite3.Connection, tick: int, task: str) -> bool:
    """Return whether somebody has noted the task for this tick."""
    return (
        db.execute("SELECT 1 FROM done WHERE tick = ? AND task = ?", (tick, task)).fetchone()
        is not None
    )


def do(
    db: sqlite3.Connection, lock: QuorumLock, tick: int, task: str, worker: str, accident: Event
) -> None:
    """Do the task, unless it is done; note it with the token."""
    try:
        # The first check shows the token too: from here on no older holder can note anything.
        with fenced.transaction(db, lock.name, lock.fencing_token):
            if is_done(db, tick, task):
                return
        if (tick, task) == FATAL and not accident.is_set():
            accident.set()
            os._exit(1)  # as a power cut would: nothing is released
        time.sleep(0.02)  # the work
        with fenced.transaction(db, lock.name, lock.fencing_token) as cursor:
            cursor.execute("INSERT INTO done VALUES (?, ?, ?)", (tick, task, worker))
    except StaleToken:
        pass  # the lock is over: its next holder does the task, or has done it


def work(nodes: Nodes, path: Path, worker: str, accident: Event) -> None:
    """Go through the schedule, tick by tick."""
    first = QuorumLock("schedule", nodes=nodes)  # the others share its connections
    with closing(connect(path)) as db, closing(first):
        for tick in range(TICKS):
            left = list(TASKS)
            while left:
                for task in left:
                    lock = QuorumLock(
                        f"task:{task}", TTL, nodes=first, label=worker, auto_renew=True
                    )
                    # If another worker has the lock, or it is lost, or its release is uncertain:
                    # look again, in the next round.
                    with suppress(LockError):
                        if lock.acquire(blocking=False):
                            try:
                                do(db, lock, tick, task, worker, accident)
                            finally:
                                lock.release()
                # Tasks that are not done have other workers, which may die: look again.
                left = [task for task in left if not is_done(db, tick, task)]
                time.sleep(0.05)


def main() -> None:
    """Let the workers go through the schedule, and count what was done."""
    with LocalShards(3) as servers, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "done.sqlite"
        connect(path).close()
        context = multiprocessing.get_context("spawn")
        accident = context.Event()
        # Every worker is a process. One of them will die at its work, which sets ``accident``.
        crew = [
            context.Process(target=work, args=(servers.urls, path, f"worker-{number}", accident))
            for number in range(WORKERS)
        ]
        for process in crew:
            process.start()
        for process in crew:
            process.join()
        # Look whether each task of each tick was done, and only once.
        with closing(connect(path)) as db:
            rows = db.execute("SELECT tick, task, worker FROM done ORDER BY tick, rowid").fetchall()
        for tick, task, worker in rows:
            print(f"tick {tick}: {task}, by {worker}")
        once = sorted((tick, task) for tick, task, _ in rows) == sorted(
            itertools.product(range(TICKS), TASKS)
        )
        died = sum(process.exitcode == 1 for process in crew)
        print(
            f"{len(rows)} tasks done, {'each once' if once else 'NOT each once'}; "
            f"{died} of {WORKERS} workers died"
        )


if __name__ == "__main__":
    main()
