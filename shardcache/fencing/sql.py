"""Fencing in a database: the token is checked and recorded in the transaction that it protects."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from shardcache.errors import InvalidKey, InvalidOption, StaleToken
from shardcache.fencing.paramstyle import Paramstyle, check_paramstyle, paramstyle_of
from shardcache.fencing.token import check_token

__all__ = ("FencedSQL",)

PQTRANS_IDLE = 0  # of libpq, which psycopg passes on
MAX_RESOURCE = 255  # characters: what every database can index
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?\Z")

CREATE = """\
CREATE TABLE IF NOT EXISTS {table} (
name VARCHAR(255) NOT NULL PRIMARY KEY, token BIGINT NOT NULL, checks BIGINT NOT NULL)"""
# `checks` makes every update a change. MySQL's drivers count changed rows, so without it an equal
# token would look refused.
ADMIT = (
    "UPDATE {table} SET token = {token}, checks = checks + 1 "
    "WHERE name = {name} AND token <= {limit}"
)
# A row that this transaction wrote is read as it is now, also where the database would otherwise
# show a snapshot (MySQL).
TOUCH = "UPDATE {table} SET checks = checks + 1 WHERE name = {name}"
ENTER = "INSERT INTO {table} (name, token, checks) VALUES ({name}, {token}, 1)"
SEEN = "SELECT token FROM {table} WHERE name = {name}"


class FencedSQL:
    """A table with the highest fencing token that each resource has seen, in the user's database.

    ``paramstyle``: how the driver marks parameters: "qmark", "numeric", "named", "format" or
        "pyformat". None (default) asks the module of the connection.
    ``table``: the name of the table, perhaps after a schema and a dot. Default:
        "shardcache_fences".

    It works on any connection of the Python Database API 2.0 (PEP 249).

    Guarantee: of the transactions that checked a resource and were committed, none comes after one
    with a higher token. For the check writes the row of the resource, and the database lets one
    transaction at a time do that. So either the token and the caller's writes are committed, or
    neither.

    Raises `InvalidOption` for a wrong argument.
    """

    def __init__(self, *, paramstyle: str | None = None, table: str = "shardcache_fences") -> None:
        if not isinstance(table, str) or not _TABLE.match(table):
            raise InvalidOption(
                "table must be a name of ASCII letters, digits and _, perhaps after a schema and a "
                f"dot, got {table!r:.80}"
            )
        self.table = table
        self._paramstyle = None if paramstyle is None else check_paramstyle(paramstyle)

    def create_table(self, target: Any) -> None:
        """Create the table if it is not there. Commit afterwards, as for any other table.

        ``target``: a connection, or one of its cursors.
        """
        with _cursor(target) as cursor:
            cursor.execute(CREATE.format(table=self.table))

    def check(self, target: Any, resource: str, token: int) -> None:
        """Record a token as the highest that a resource has seen, in the current transaction.

        ``target``: a connection, or one of its cursors; pending rows of the cursor are lost.
        ``resource``: what the lock protects, a str of 1 to 255 characters.
        ``token``: the fencing token of the holder, 1 to 2⁶³ - 1. An equal one is let in.

        Call it before your own writes, and commit all together. In autocommit mode, begin a
        transaction first.

        Raises before anything is sent:

        - `InvalidToken` if ``token`` is not in its range;
        - `InvalidKey` if ``resource`` is not such a str;
        - `InvalidOption` if the driver's ``paramstyle`` is not to be found.

        Raises after that:

        - `StaleToken` if a newer token was seen: roll back then;
        - `InvalidOption` if the connection is in autocommit mode and the driver says so (sqlite3,
          psycopg and MySQL Connector do);
        - the errors of the driver (busy, deadlock, serialisation): nothing was recorded then.
        """
        check_token(token)
        if not isinstance(resource, str) or not 1 <= len(resource) <= MAX_RESOURCE:
            raise InvalidKey(
                f"a resource must be a str of 1 to {MAX_RESOURCE} characters, got {resource!r:.80}"
            )
        # An UPDATE that changes the row is the check and the record in one.
        style = self._paramstyle or paramstyle_of(target)
        with _cursor(target) as cursor:
            row = _Row(cursor, self.table, style, resource, token)
            admitted = row.admit()
            # Look at the mode only now: many drivers begin a transaction with the first write.
            if _in_transaction(getattr(cursor, "connection", target)) is False:
                raise InvalidOption(
                    "the connection is in autocommit mode, where a check cannot protect the writes "
                    "after it: begin a transaction first"
                )
            if not admitted:
                row.enter()

    @contextmanager
    def transaction(self, connection: Any, resource: str, token: int) -> Iterator[Any]:
        """Check a token, and run a block with a cursor in the same transaction.

        ``connection``: a connection that is not inside a transaction.
        ``resource``: as in `check`.
        ``token``: as in `check`.

        Commits at the end of the block; rolls back if the check or the block raises. Raises as
        `check`, and `InvalidOption` if the driver says that a transaction is open already.
        """
        if _in_transaction(connection):
            raise InvalidOption(
                "the connection is inside a transaction: commit it first, or call check in it"
            )
        try:
            with closing(connection.cursor()) as cursor:
                self.check(cursor, resource, token)
                yield cursor
            connection.commit()
        except BaseException:
            connection.rollback()
            raise

    def __repr__(self) -> str:
        return f"FencedSQL(paramstyle={self._paramstyle!r}, table={self.table!r})"


class _Row:
    """The row of one resource, during one check."""

    def __init__(self, cursor: Any, table: str, style: Paramstyle, name: str, token: int) -> None:
        self._cursor = cursor
        self._table = table
        self._style = style
        self._name = name
        self._token = token
        self._values = {"name": name, "token": token, "limit": token}

    def admit(self) -> bool:
        """Record the token, and return True, if the row is there and has seen no newer token."""
        return self._changes(ADMIT)

    def enter(self) -> None:
        """Insert the row; raise `StaleToken` if it is there, with a newer token."""
        if not self._changes(TOUCH):
            # A statement that fails would spoil the caller's transaction (PostgreSQL).
            self._cursor.execute("SAVEPOINT shardcache_fence")
            try:
                self._execute(ENTER)
                return
            # An error of the driver: another transaction inserted the row at the same moment, or
            # the database does not work.
            except Exception:
                self._cursor.execute("ROLLBACK TO SAVEPOINT shardcache_fence")
                if self.admit():
                    return
                if not self._changes(TOUCH):
                    raise
        self._execute(SEEN)
        raise StaleToken(self._name, self._token, int(self._cursor.fetchone()[0]))

    def _execute(self, template: str) -> None:
        self._cursor.execute(*self._style.render(template, self._values, table=self._table))

    def _changes(self, template: str) -> bool:
        self._execute(template)
        if self._cursor.rowcount not in (0, 1):
            raise InvalidOption(
                "the driver must say how many rows an UPDATE changed (PEP 249, rowcount), got "
                f"{self._cursor.rowcount!r}"
            )
        return bool(self._cursor.rowcount)


def _in_transaction(connection: Any) -> bool | None:
    """Whether a transaction is open; None if the driver does not say."""
    known = getattr(connection, "in_transaction", None)
    if isinstance(known, bool):
        return known
    status = getattr(getattr(connection, "info", None), "transaction_status", None)
    return status != PQTRANS_IDLE if isinstance(status, int) else None


@contextmanager
def _cursor(target: Any) -> Iterator[Any]:
    """Give the block a cursor: that of ``target``, or a new one, which is closed at the end."""
    if hasattr(target, "cursor") and not hasattr(target, "fetchone"):
        with closing(target.cursor()) as cursor:
            yield cursor
    elif hasattr(target, "execute") and hasattr(target, "fetchone"):
        yield target
    else:
        raise InvalidOption(f"expected a DB-API connection or cursor, got {type(target).__name__}")
