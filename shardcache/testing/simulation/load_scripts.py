"""The scripts of loading in Python, line by line, and the plain commands of loads and writes.

The scripts are those of `flows.load.scripts` and `flows.load.tags`. The tests in
`tests/testing/test_simulated_loads.py` compare them with a real server.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from shardcache.flows.load import scripts as real
from shardcache.flows.load.tags import ENSURE
from shardcache.flows.lock.scripts import EXTEND, REGISTER
from shardcache.testing.simulation.database import Database, text
from shardcache.testing.simulation.scripts import SCRIPTS, Script

__all__ = ("LOAD_SCRIPTS", "execute")


def _wait(db: Database, keys: Sequence[Any], waiter: bytes) -> None:
    db.add(keys[2], waiter)
    db.expire(keys[2], real.WAITING_MS)


def _wake(db: Database, keys: Sequence[Any]) -> None:
    names = db.find_as(keys[2], set)
    if names:
        db.delete(keys[2])
        for _ in range(min(len(names), 1000)):
            db.push(keys[3], b"1")
        db.expire(keys[3], 1000)


def _claim(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
    token, waiter, ttl, fill_token_ttl = argv
    held = db.get(keys[0])
    if held == token:
        return [1, 0, 0]
    if held is None:
        db.put(keys[0], token, ttl)
        db.put(keys[1], token, fill_token_ttl)
        db.delete(keys[3])
        return [1, 0, 0]
    if waiter:
        _wait(db, keys, waiter)
    return [0, db.left(keys[0]), 0]


def _take(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
    token, ttl, fill_token_ttl = argv
    db.put(keys[0], token, ttl)
    db.put(keys[1], token, fill_token_ttl)
    return 1


def _done(db: Database, keys: Sequence[Any], token: bytes) -> tuple[bool, bool]:
    held, passed = (db.get(key) == token for key in keys[:2])
    if held:
        db.delete(keys[0])
    if passed:
        db.delete(keys[1])
    return held, passed


def _fill(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
    token, seen, ms, expired, raw = argv
    held, passed = _done(db, keys, token)
    _wake(db, keys)
    if not (held and passed):
        return 0
    now = db.find(keys[4])
    found = (
        hashlib.sha1(now, usedforsecurity=False).hexdigest().encode()
        if isinstance(now, bytes)
        else b""
    )
    if found != seen and not (not found and int(expired)):
        return -1
    _set(db, keys[4], raw, ms)
    return 1


def _give_up(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
    token, waiter = argv
    held, _ = _done(db, keys, token)
    if waiter:
        _wait(db, keys, waiter)
    else:
        _wake(db, keys)
    return int(held)


def _ensure(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
    version, ms = argv
    found = db.get(keys[0])
    if found is None:
        _set(db, keys[0], version, ms)
        return version
    left = db.left(keys[0])
    if ms == b"":
        db.expiries.pop(keys[0], None)
    elif 0 <= left < int(ms):
        db.expire(keys[0], ms)
    return found


def _set(db: Database, key: bytes, value: Any, ms: Any = b"") -> bytes:
    db.values[key] = text(value)
    db.expiries.pop(key, None)
    if ms != b"":
        db.expire(key, ms)
    return b"OK"


LOAD_SCRIPTS: dict[bytes, Script] = {
    real.CLAIM: _claim,
    real.FILL: _fill,
    real.GIVE_UP: _give_up,
    ENSURE: _ensure,
    real.TAKE: _take,
    EXTEND: SCRIPTS[EXTEND],
    REGISTER: SCRIPTS[REGISTER],
}

_PLAIN: dict[bytes, Callable[..., Any]] = {
    b"GET": Database.get,
    b"PTTL": Database.left,
    b"BLPOP": lambda db, key, _: None if (value := db.pop(key)) is None else [key, value],
    b"MGET": lambda db, *keys: [
        value if isinstance(value := db.find(key), bytes) else None for key in keys
    ],
    b"UNLINK": lambda db, *keys: sum(map(db.delete, keys)),
    b"SET": lambda db, key, value, *px: _set(db, key, value, *px[1:]),
}


def execute(db: Database, command: Sequence[Any]) -> Any:
    """Carry out one command and return its reply."""
    if command[0] == b"EVAL":
        _, script, count, *rest = command
        keys = int(count)
        return LOAD_SCRIPTS[script](db, rest[:keys], rest[keys:])
    return _PLAIN[command[0]](db, *command[1:])
