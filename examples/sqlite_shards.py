"""A database over several SQLite files on a hash ring; a resize moves as few rows as can be.

Run it: ``python sqlite_shards.py``. It fills three files with customers, adds a fourth, takes the
first away, and compares what moved with what the ring had foretold.

The order of a resize is what makes it safe to be stopped at any point: the rows are copied while
the old places still count, then compared, then one file that says which places count is replaced,
and only then are the old rows deleted. A process that comes after a crash begins the resize again.
While rows move, no other process reads or writes: every process of this machine locks the folder
(flock), and looks whether the layout is still the one that it knows.
"""

import fcntl
import json
import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from math import sqrt
from pathlib import Path

from shardcache import HashRing

CUSTOMERS = 3000
TABLE = "CREATE TABLE IF NOT EXISTS customers (id TEXT PRIMARY KEY, name TEXT NOT NULL)"
INSERT = "INSERT OR REPLACE INTO customers VALUES (?, ?)"
DELETE = "DELETE FROM customers WHERE id = ?"

Row = tuple[str, str]


class ShardedCustomers:
    """Customers by id, each in its file; ``layout.json`` in the folder says which files count.

    ``files`` are the names of the first files, used only where there is no layout yet. For one
    thread of any number of processes.
    """

    ring: HashRing

    def __init__(self, folder: Path, files: Iterable[str] = ()) -> None:
        self.folder = folder
        self._layout = folder / "layout.json"
        self._open: dict[str, sqlite3.Connection] = {}
        self._known = (0, 0)
        with self._folder_locked(fcntl.LOCK_EX):
            if not self._layout.exists():
                self._write_layout(HashRing(files))
            self._read_layout()

    def put(self, names: Mapping[str, str]) -> None:
        """Write the names of customers, each into the one file that owns it."""
        with self._folder_locked(fcntl.LOCK_SH):
            self._read_layout()
            owned: dict[str, list[Row]] = {}
            for customer, name in names.items():
                owned.setdefault(self.ring.owner(customer), []).append((customer, name))
            for file, rows in owned.items():
                with self._file(file) as db:
                    db.executemany(INSERT, rows)

    def get(self, customer: str) -> str | None:
        """Return a customer's name, or None."""
        with self._folder_locked(fcntl.LOCK_SH):
            self._read_layout()
            db = self._file(self.ring.owner(customer))
            found = db.execute("SELECT name FROM customers WHERE id = ?", (customer,)).fetchone()
            return found and str(found[0])

    def rows(self, file: str) -> list[Row]:
        """Return all rows of a file."""
        return self._file(file).execute("SELECT id, name FROM customers ORDER BY id").fetchall()

    def resize(self, ring: HashRing) -> Iterator[str]:
        """Move to another ring; yield each step when it is done; all others wait until the last.

        It may be stopped at any point: nothing is lost, and the next resize cleans up.
        """
        with self._folder_locked(fcntl.LOCK_EX):
            self._read_layout()
            self._sweep()
            yield from self._move(ring)

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def _move(self, ring: HashRing) -> Iterator[str]:
        moving = self._moving(ring)
        yield f"{sum(map(len, moving.values()))} rows have another owner"

        for (_, target), rows in moving.items():
            with self._file(target) as db:
                db.executemany(INSERT, rows)
        yield "copied: both files have them, the old one counts"

        for (_, target), rows in moving.items():
            if missing := set(rows) - set(self.rows(target)):
                raise RuntimeError(
                    f"{len(missing)} rows did not arrive in {target}: nothing was deleted"
                )
        yield "verified: each row is there, and equal"

        self._write_layout(ring)
        self._read_layout()
        yield "switched: the new file counts"

        deleted = self._sweep()
        yield f"deleted {deleted} rows from the files that no longer own them"

    def _moving(self, ring: HashRing) -> dict[tuple[str, str], list[Row]]:
        """Return the rows whose owner changes, by where they are and where they go."""
        moving: dict[tuple[str, str], list[Row]] = {}
        for source in self.ring.names:
            rows = self.rows(source)
            for row, owner in zip(
                rows, ring.owner_indexes([customer.encode() for customer, _ in rows]), strict=True
            ):
                if ring.names[owner] != source:
                    moving.setdefault((source, ring.names[owner]), []).append(row)
        return moving

    def _sweep(self) -> int:
        """Delete rows in files that do not own them, and files that own none; return their number.

        Before the switch those are copies that a stopped resize left behind, after it the
        originals.
        """
        deleted = 0
        for path in sorted(self.folder.glob("*.sqlite")):
            file = path.stem
            lost = [
                (customer,) for customer, _ in self.rows(file) if self.ring.owner(customer) != file
            ]
            with self._file(file) as db:
                db.executemany(DELETE, lost)
            deleted += len(lost)
            if file not in self.ring.names:
                self._open.pop(file).close()
                path.unlink()
        return deleted

    def _file(self, file: str) -> sqlite3.Connection:
        if file not in self._open:
            self._open[file] = sqlite3.connect(self.folder / f"{file}.sqlite")
            self._open[file].execute(TABLE)
        return self._open[file]

    @contextmanager
    def _folder_locked(self, how: int) -> Iterator[None]:
        """Keep out processes that resize (LOCK_SH), or all other processes (LOCK_EX)."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(folder, how)
            yield
        finally:
            os.close(folder)

    def _read_layout(self) -> None:
        found = self._layout.stat()
        if self._known != (found.st_ino, found.st_mtime_ns):
            self._known = (found.st_ino, found.st_mtime_ns)
            self.ring = HashRing(json.loads(self._layout.read_text(encoding="utf-8")))
            # A file of a name that we know may be another one by now.
            self.close()

    def _write_layout(self, ring: HashRing) -> None:
        """Replace the layout: a reader finds the old one or the new one, after a power cut too."""
        new = self._layout.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            json.dump({node.name: node.weight for node in ring.nodes}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._layout)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def resize(customers: ShardedCustomers, ring: HashRing) -> None:
    """Resize, and compare what happened with what the ring said before."""
    foretold = customers.ring.moved(ring)
    # Copies that a stopped resize left behind are not counted.
    old = customers.ring
    before = {
        row: file for file in old.names for row in customers.rows(file) if old.owner(row[0]) == file
    }
    for step in customers.resize(ring):
        print(f"  {step}")
    after = {row: file for file in ring.names for row in customers.rows(file)}

    if before.keys() != after.keys():
        raise RuntimeError("rows were lost or made up")
    moved = Counter((before[row], after[row]) for row in before if before[row] != after[row])
    if not moved.keys() <= foretold.keys():
        raise RuntimeError(
            f"rows moved between files that the ring did not name: {moved.keys() - foretold.keys()}"
        )
    for (source, target), share in foretold.items():
        expected, spread = share * len(before), sqrt(share * (1 - share) * len(before))
        print(
            f"  {source} -> {target}: foretold {share:6.2%}, about "
            f"{expected:3.0f} rows; moved {moved[source, target]}"
        )
        # Keys fall on the ring as if at random: five standard deviations off would be no accident.
        if abs(moved[source, target] - expected) > 5 * spread + 1:
            raise RuntimeError(
                f"{moved[source, target]} rows moved from {source} to {target}, "
                f"foretold {expected:.0f}"
            )
    print(
        f"  {moved.total()} of {len(before)} rows moved "
        f"({foretold.total:.2%} foretold), all others stayed"
    )


def main() -> None:
    """Fill three files, add one, take one away."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(ShardedCustomers(Path(folder), ["db-a", "db-b", "db-c"])) as customers,
    ):
        customers.put(
            {f"customer:{number}": f"Customer No. {number}" for number in range(CUSTOMERS)}
        )
        for file in customers.ring.names:
            print(f"{file}: {len(customers.rows(file))} rows")
        print("adding db-d")
        resize(customers, customers.ring.with_node("db-d"))
        print("taking db-a away")
        resize(customers, customers.ring.without_node("db-a"))
        print(
            f"customer:42 is {customers.get('customer:42')!r}, in "
            f"{customers.ring.owner('customer:42')}"
        )


if __name__ == "__main__":
    main()
