"""Fencing in a database: a late transaction is refused, whatever the parameter style."""

import re
import sqlite3
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache import errors
from shardcache.fencing import FencedSQL
from shardcache.fencing.paramstyle import STYLES

pytestmark = pytest.mark.long

# How a driver of each style would read its parameters, in terms of sqlite3's.
MARKS = {
    "format": (r"%s", "?"),
    "pyformat": (r"%\((\w+)\)s", r":\1"),
    "numeric": (r":\d+", "?"),
    "named": (r"$^", ""),
    "qmark": (r"$^", ""),
}


class ForeignCursor:
    """A cursor of a driver that marks parameters in its own way."""

    def __init__(self, connection: "ForeignConnection") -> None:
        self.connection = connection
        self._cursor = connection.real.cursor()

    def execute(self, statement: str, parameters: Any = ()) -> None:
        style = self.connection.style
        assert isinstance(parameters, dict) == (style in ("named", "pyformat")) or not parameters
        self._cursor.execute(re.sub(*MARKS[style], statement), parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


class ForeignConnection:
    """A connection of such a driver: no more than what PEP 249 asks for."""

    def __init__(self, real: sqlite3.Connection, style: str) -> None:
        self.real = real
        self.style = style

    def cursor(self) -> ForeignCursor:
        return ForeignCursor(self)

    def commit(self) -> None:
        self.real.commit()

    def rollback(self) -> None:
        self.real.rollback()


@pytest.fixture
def path(tmp_path) -> Path:
    """A database with a report that nobody has written, and the table of tokens."""
    path = tmp_path / "db.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE reports (id TEXT PRIMARY KEY, body TEXT)")
        db.execute("INSERT INTO reports VALUES ('r', 'nothing')")
        FencedSQL().create_table(db)
        db.commit()
    return path


@pytest.fixture
def db(path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as db:
        yield db


def write(db: Any, token: int, body: str, fenced: FencedSQL | None = None) -> None:
    """What each holder does: check, write, commit."""
    with (fenced or FencedSQL()).transaction(db, "report", token) as cursor:
        cursor.execute(f"UPDATE reports SET body = '{body}' WHERE id = 'r'")  # noqa: S608


def state(path: Path) -> tuple[str, list[tuple[str, int]]]:
    """Return the report and the tokens that are seen by everybody."""
    with closing(sqlite3.connect(path)) as db:
        [body] = db.execute("SELECT body FROM reports").fetchone()
        return body, db.execute(
            "SELECT name, token FROM shardcache_fences ORDER BY name"
        ).fetchall()


def test_paused_holder_is_refused(path, db) -> None:
    """A holder that slept through its lease, and the next one's writes, changes nothing."""
    with closing(sqlite3.connect(path)) as other:
        write(other, 6, "of B")
    with pytest.raises(errors.StaleToken) as caught:
        write(db, 5, "of A, late")
    assert (caught.value.resource, caught.value.token, caught.value.seen) == ("report", 5, 6)
    assert state(path) == ("of B", [("report", 6)])


def test_holder_paused_inside_its_transaction(path, db) -> None:
    """While an older holder's transaction is open, the newer one's waits."""
    FencedSQL().check(db, "report", 5)
    with closing(sqlite3.connect(path, timeout=0)) as other:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            write(other, 6, "of B")
        db.execute("UPDATE reports SET body = 'of A'")
        db.commit()
        write(other, 6, "of B")
    assert state(path) == ("of B", [("report", 6)])


def test_same_holder_writes_twice(path, db) -> None:
    """An equal token is not older."""
    write(db, 6, "first")
    write(db, 6, "second")
    assert state(path) == ("second", [("report", 6)])


def test_rollback_takes_the_token_back(path, db) -> None:
    """The token and the writes are committed together or not at all."""
    write(db, 5, "kept")
    with pytest.raises(ZeroDivisionError), FencedSQL().transaction(db, "report", 6) as cursor:
        cursor.execute("UPDATE reports SET body = 'half'")
        _ = 1 / 0
    assert (state(path), db.in_transaction) == (("kept", [("report", 5)]), False)
    write(db, 5, "again")
    assert state(path) == ("again", [("report", 5)])


def test_refusal_rolls_back(path, db) -> None:
    """After a refusal the connection is clean, and what counts refusals along the way is gone."""
    write(db, 6, "of B")
    with pytest.raises(errors.StaleToken):
        write(db, 5, "of A")
    assert (db.in_transaction, db.execute("SELECT checks FROM shardcache_fences").fetchall()) == (
        False,
        [(1,)],
    )


def test_resources_are_apart(path, db) -> None:
    """A token of one resource says nothing about another."""
    fenced = FencedSQL()
    fenced.check(db, "a", 9)
    fenced.check(db, "b", 3)
    db.commit()
    assert state(path)[1] == [("a", 9), ("b", 3)]


def test_cursor_or_connection(path, db) -> None:
    """A check goes by either, in the caller's own transaction."""
    fenced = FencedSQL()
    with closing(db.cursor()) as cursor:
        fenced.check(cursor, "report", 5)
        fenced.check(db, "report", 6)
        with pytest.raises(errors.StaleToken):
            fenced.check(cursor, "report", 5)
    assert state(path)[1] == []
    db.commit()
    assert state(path)[1] == [("report", 6)]


@pytest.mark.parametrize("style", STYLES)
def test_every_paramstyle(style, path, db) -> None:
    """The check speaks each of the five ways to mark parameters."""
    foreign = ForeignConnection(db, style)
    fenced = FencedSQL(paramstyle=style)
    write(foreign, 6, "of B", fenced)
    write(foreign, 7, "of B", fenced)
    with pytest.raises(errors.StaleToken):
        write(foreign, 6, "of A", fenced)
    assert state(path) == ("of B", [("report", 7)])


def test_driver_that_counts_changed_rows(path, db) -> None:
    """MySQL's drivers do not count an unchanged row; an equal token is admitted all the same."""

    class Changed(ForeignCursor):
        rowcount = 0

        def execute(self, statement: str, parameters: Any = ()) -> None:
            before = self.rows()
            super().execute(statement, parameters)
            if statement.startswith("UPDATE shardcache_fences"):
                self.rowcount = len(self.rows() - before)

        def rows(self) -> set[Any]:
            return set(db.execute("SELECT * FROM shardcache_fences"))

    fenced = FencedSQL(paramstyle="qmark")
    cursor = Changed(ForeignConnection(db, "qmark"))
    for token in (6, 6, 7, 7):
        fenced.check(cursor, "report", token)
    with pytest.raises(errors.StaleToken):
        fenced.check(cursor, "report", 6)
    db.commit()
    assert state(path)[1] == [("report", 7)]


def test_paramstyle_of_the_driver(monkeypatch, path, db) -> None:
    """The module of the connection's class, or one that it lies in, says the style."""
    driver = types.ModuleType("some_driver")
    driver.paramstyle = "pyformat"
    monkeypatch.setitem(sys.modules, "some_driver", driver)
    monkeypatch.setattr(ForeignConnection, "__module__", "some_driver.connections")
    write(ForeignConnection(db, "pyformat"), 6, "of B")
    assert state(path) == ("of B", [("report", 6)])


def test_subclass_of_a_drivers_connection(path) -> None:
    """A connection class of the user's own is of its base's driver."""

    class Mine(sqlite3.Connection):
        pass

    with closing(sqlite3.connect(path, factory=Mine)) as db:
        write(db, 6, "mine")
    assert state(path)[0] == "mine"


@pytest.mark.parametrize("rival", [5, 6, 7])
def test_somebody_enters_the_resource_first(rival, path, db) -> None:
    """A row that appears between select and insert undoes the insert, and is read again."""

    class Racing(ForeignCursor):
        def execute(self, statement: str, parameters: Any = ()) -> None:
            if statement.startswith("INSERT"):
                raise sqlite3.IntegrityError("UNIQUE constraint failed")
            super().execute(statement, parameters)
            if statement.startswith("ROLLBACK TO"):
                db.execute("INSERT INTO shardcache_fences VALUES ('report', ?, 1)", [rival])

    db.execute("UPDATE reports SET body = 'before the check'")
    fenced = FencedSQL(paramstyle="qmark")
    racing = Racing(ForeignConnection(db, "qmark"))
    if rival <= 6:
        fenced.check(racing, "report", 6)
    else:
        with pytest.raises(errors.StaleToken, match="seen token 7, so 6 is refused"):
            fenced.check(racing, "report", 6)
    db.commit()
    assert state(path) == ("before the check", [("report", max(rival, 6))])


def test_broken_insert_passes_through(db) -> None:
    """An error of the driver that is no race comes out as it is."""

    class Broken(ForeignCursor):
        def execute(self, statement: str, parameters: Any = ()) -> None:
            if statement.startswith("INSERT"):
                raise sqlite3.OperationalError("disk I/O error")
            super().execute(statement, parameters)

    with pytest.raises(sqlite3.OperationalError, match="disk"):
        FencedSQL(paramstyle="qmark").check(Broken(ForeignConnection(db, "qmark")), "report", 6)


def test_autocommit_is_refused(path) -> None:
    """Without a transaction the check would not protect the next statement, and says so."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        with pytest.raises(errors.InvalidOption, match="begin a transaction"):
            FencedSQL().check(db, "report", 5)
        assert db.in_transaction is False
        db.execute("BEGIN")
        FencedSQL().check(db, "report", 5)
        db.execute("COMMIT")
    assert state(path)[1] == [("report", 5)]


@pytest.mark.parametrize("status", [0, 2], ids=["idle", "in-transaction"])
def test_autocommit_of_psycopg(status, path, db) -> None:
    """Drivers on libpq say by a number whether a transaction is open."""
    connection = ForeignConnection(db, "qmark")
    connection.info = types.SimpleNamespace(transaction_status=status)
    refusal = (
        pytest.raises(errors.InvalidOption, match="begin a transaction")
        if status == 0
        else nullcontext()
    )
    with refusal:
        FencedSQL(paramstyle="qmark").check(connection.cursor(), "report", 5)
        db.commit()
    db.rollback()
    assert state(path)[1] == ([("report", 5)] if status else [])


def test_transaction_inside_a_transaction_is_refused(path, db) -> None:
    """A commit at the end of the block would commit what was there before, too."""
    db.execute("UPDATE reports SET body = 'mine'")
    with pytest.raises(errors.InvalidOption, match="inside a transaction"):
        write(db, 5, "x")
    assert db.in_transaction
    db.commit()
    assert state(path)[0] == "mine"


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: FencedSQL(paramstyle="dollar"), "paramstyle must be one of qmark"),
        (lambda: FencedSQL(paramstyle=3), "paramstyle must be one of qmark"),
        (lambda: FencedSQL(table="a; DROP TABLE b"), "table must be"),
        (lambda: FencedSQL(table="a.b.c"), "table must be"),
        (lambda: FencedSQL().check(object(), "r", 1), "give FencedSQL"),
        (
            lambda: FencedSQL(paramstyle="qmark").check(object(), "r", 1),
            "connection or cursor, got object",
        ),
    ],
    ids=["unknown-style", "no-style", "injection", "too-deep", "no-module", "no-connection"],
)
def test_wrong_options(build, complaint) -> None:
    """A wrong option is named, with what is allowed."""
    with pytest.raises(errors.InvalidOption, match=complaint):
        build()


@pytest.mark.parametrize("resource", ["", "x" * 256, b"x", None])
def test_wrong_resource(resource, db) -> None:
    """A resource that some database could not tell apart is refused."""
    with pytest.raises(errors.InvalidKey, match="1 to 255 characters"):
        FencedSQL().check(db, resource, 1)


def test_driver_that_cannot_count_is_refused(db) -> None:
    """A driver that does not count changed rows cannot say whether a token was admitted."""

    class Silent(ForeignCursor):
        rowcount = -1

    class SilentConnection(ForeignConnection):
        def cursor(self) -> ForeignCursor:
            return Silent(self)

    with pytest.raises(errors.InvalidOption, match="rowcount"):
        FencedSQL(paramstyle="qmark").check(SilentConnection(db, "qmark"), "report", 1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 2**63 - 1)), max_size=30))
def test_accepted_are_those_not_below_the_highest(attempts) -> None:
    """For any sequence of attempts the table does what a dict of maxima would."""
    fenced = FencedSQL()
    highest: dict[str, int] = {}
    with closing(sqlite3.connect(":memory:")) as db:
        fenced.create_table(db)
        for resource, token in attempts:
            seen = highest.get(resource, 0)
            refusal = (
                pytest.raises(errors.StaleToken, match=f"seen token {seen},")
                if token < seen
                else nullcontext()
            )
            with refusal:
                fenced.check(db, resource, token)
                highest[resource] = token
        assert dict(db.execute("SELECT name, token FROM shardcache_fences")) == highest


WORKER = """
import random, sqlite3, sys
from shardcache.errors import StaleToken
from shardcache.fencing import FencedSQL
path, seed = sys.argv[1:]
chance = random.Random(seed)
db = sqlite3.connect(path, timeout=60)
fenced = FencedSQL()
print("ready", flush=True)
sys.stdin.readline()
for _ in range(60):
    token = chance.randrange(1, 10_000)
    try:
        with fenced.transaction(db, "report", token) as cursor:
            cursor.execute("INSERT INTO history (token) VALUES (?)", [token])
            cursor.execute("UPDATE reports SET body = ?", [str(token)])
    except StaleToken:
        pass
db.close()
"""


def test_processes_with_random_tokens(path, db) -> None:
    """Whatever several processes try at once, no commit follows one with a higher token."""
    db.execute("CREATE TABLE history (place INTEGER PRIMARY KEY, token INTEGER)")
    db.commit()
    crew = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, path, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(4)
    ]
    for worker in crew:
        assert worker.stdout.readline() == "ready\n"
    for worker in crew:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in crew:
        worker.communicate()
    assert [worker.returncode for worker in crew] == [0] * 4
    history = [token for (token,) in db.execute("SELECT token FROM history ORDER BY place")]
    assert history == sorted(history)
    assert len(history) > 1
    assert state(path) == (str(history[-1]), [("report", history[-1])])
