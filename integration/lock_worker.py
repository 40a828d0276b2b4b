"""One worker of the chaos test, a process: it takes the lock and counts until its time is up.

``python lock_worker.py '{"urls": {…}, "folder": "…", "ttl": 1.0, "until": 123.4, "worker": 0}'``;
``until`` is a time of CLOCK_BOOTTIME, which all processes of a machine share. Everything it did is
in ``worker-N.jsonl`` of the folder.

In the critical section it adds one to two numbers, each read first and written later:

- the unguarded one is digits in a file. It looks at the lock right before it writes, as a careful
  program would, and the write takes a moment, as writes do;
- the fenced one is a row of a database, behind `FencedSQL`: the first act is to show the token, and
  with it comes the number; the write shows the token again.
"""

import contextlib
import json
import os
import sqlite3
import sys
import time
from pathlib import Path

from shardcache import QuorumLock
from shardcache.errors import LockError, LockLost, QuorumUnavailable, StaleToken
from shardcache.fencing import FencedSQL

NAME = "the counter"
WORK = 0.004  # seconds between reading and looking at the lock, and again until writing
fenced = FencedSQL()


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def prepare(folder: Path) -> None:
    """Make the two numbers, both 0."""
    (folder / "number").write_text("0")
    (folder / "holder").write_text("0")
    with contextlib.closing(connect(folder)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE number (value INTEGER)")
        db.execute("CREATE TABLE history (id INTEGER PRIMARY KEY AUTOINCREMENT, token INTEGER)")
        db.execute("INSERT INTO number VALUES (0)")
        fenced.create_table(db)
        db.commit()


def connect(folder: Path) -> sqlite3.Connection:
    db = sqlite3.connect(folder / "store.sqlite", timeout=60)
    db.execute("PRAGMA synchronous=OFF")  # processes are stopped here, not the machine
    return db


class Worker:
    """Takes the lock and counts; ``done`` is the record of one turn."""

    def __init__(self, folder: Path, lock: QuorumLock) -> None:
        self.folder = folder
        self.lock = lock
        self.db = connect(folder)
        self.number = os.open(folder / "number", os.O_RDWR)

    def turn(self) -> dict[str, object]:
        """Wait for the lock and count; return what happened."""
        begun = now()
        try:
            if not self.lock.acquire(timeout=2.0):
                return {"kind": "busy"}
        except QuorumUnavailable:
            return {"kind": "no quorum"}
        done: dict[str, object] = {
            "kind": "held",
            "token": self.lock.fencing_token,
            "waited": now() - begun,
        }
        (self.folder / "holder").write_text(str(os.getpid()))  # for the chaos to aim at
        # For so long it is entitled to believe that it holds the lock.
        start = now()
        end = start + self.lock.remaining()
        try:
            self.count(done)
        finally:
            done.update({"from": start, "to": min(now(), end)})
            with contextlib.suppress(LockError):
                self.lock.release()
        return done

    def count(self, done: dict[str, object]) -> None:
        token = self.lock.fencing_token
        try:
            # The first act shows the token: from here on nobody older gets in.
            with fenced.transaction(self.db, NAME, token) as cursor:
                [fenced_value] = cursor.execute("SELECT value FROM number").fetchone()
        except StaleToken:
            done["refused"] = True
            return
        value = int(os.pread(self.number, 20, 0))
        time.sleep(WORK)
        try:
            self.lock.ensure_held()
        except LockLost:
            done["noticed"] = True
        else:
            time.sleep(WORK)
            os.pwrite(self.number, b"%020d" % (value + 1), 0)
            done["written"] = True
        try:
            with fenced.transaction(self.db, NAME, token) as cursor:
                cursor.execute("UPDATE number SET value = ?", (fenced_value + 1,))
                cursor.execute("INSERT INTO history (token) VALUES (?)", (token,))
            done["fenced"] = True
        except StaleToken:
            done["refused"] = True


def main() -> None:
    asked = json.loads(sys.argv[1])
    folder = Path(asked["folder"])
    lock = QuorumLock(NAME, asked["ttl"], nodes=asked["urls"], label=f"worker-{asked['worker']}")
    worker = Worker(folder, lock)
    with (folder / f"worker-{asked['worker']}.jsonl").open("w") as record, contextlib.closing(lock):
        while now() < asked["until"]:
            record.write(json.dumps(worker.turn()) + "\n")
            record.flush()


if __name__ == "__main__":
    main()
