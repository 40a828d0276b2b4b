"""The voters' scripts (`flows.lock.scripts`) in Python, line by line, by the text of the script.

The tests in `tests/testing/test_simulated_server.py` compare them with a real server.
"""

from collections.abc import Callable, Sequence
from typing import Any

from shardcache.flows.lock import scripts as real
from shardcache.testing.simulation.database import Database, text

__all__ = ("SCRIPTS", "Script", "life_of", "raise_to", "run")

Script = Callable[[Database, Sequence[Any], Sequence[Any]], Any]


def _acquire(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
    # A client with another version of the membership is refused, and told the voters.
    lock, fence, waiting, register = keys
    token, ttl, fence_ttl, polite, announce, version, look = argv
    if version and db.values.get(register, {}).get(b"version") != version:
        return [2, db.values.get(register, {}).get(b"members", b"")]
    # The grant: a counter that is new, or below the floor, starts from the clock.
    known = db.fields(register)
    born = int(known.setdefault(b"born", b"%d" % db.now))
    age = max((db.now - born) // 1000, 0)
    held = db.get(lock)
    if int(look) == 1 and held is None:
        return [1, max(db.number(fence), int(known.get(b"floor", 0))), 0, born, age]
    if held is None and not (int(polite) == 1 and db.exists(waiting)):
        db.put(lock, token, ttl)
        number, floor = db.increment(fence), int(known.get(b"floor", 0))
        if number > 1 and number > floor:
            db.expire(fence, fence_ttl)
            return [1, number, 0, born, age]
        number = max(db.now, floor + 1)
        db.put(fence, number, fence_ttl)
        return [1, number, 1, born, age]
    # No grant: the client has the lock already, must let waiting clients go first, or must wait.
    number = db.number(fence)
    if held == token:
        return [1, number, 0, born, age]
    if held is None:
        return [0, 0, number]
    if int(announce) != 0:
        db.put(waiting, b"", announce)
    return [0, db.left(lock), number, held]


def raise_to(db: Database, key: bytes, number: Any, ttl: Any) -> None:
    """Raise a counter to a number, if it is lower."""
    if db.number(key) < int(number):
        db.put(key, number, ttl)


def _confirm(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
    if db.get(keys[0]) != argv[0]:
        return 0
    raise_to(db, keys[1], argv[1], argv[2])
    return 1


def life_of(db: Database, keys: Sequence[Any]) -> list[int]:
    """Return when the register was made, in microseconds, and the milliseconds since then."""
    if len(keys) < 5:
        return [0, 0]
    born = int(db.fields(keys[4]).setdefault(b"born", b"%d" % db.now))
    return [born, max((db.now - born) // 1000, 0)]


def _extend(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
    held = db.get(keys[0])
    if held == argv[0]:
        if db.left(keys[0]) < int(argv[1]):
            db.expire(keys[0], argv[1])
        return [1, *life_of(db, keys)]
    return [0] if held is None else [-1]


def _adopt(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
    held, left = db.get(keys[0]), db.left(keys[0])
    if left <= 0:
        return [0]
    if held != text(argv[1]):
        if held != text(argv[0]):
            return [-1]
        db.put(keys[0], argv[1], left)
    return [1, left, *life_of(db, keys)]


def _repair(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
    if db.exists(keys[0]):
        return 0
    db.put(keys[0], argv[0], argv[1])
    raise_to(db, keys[1], argv[2], argv[3])
    return 1


def _wake(db: Database, keys: Sequence[Any]) -> None:
    if db.exists(keys[2]) and not db.exists(keys[3]):
        db.push(keys[3], b"1")
        db.expire(keys[3], 1000)


def _release(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
    held = db.get(keys[0])
    if held != argv[0]:
        return 0 if held is None else -1
    db.delete(keys[0])
    _wake(db, keys)
    return 1


def _break(db: Database, keys: Sequence[Any], _: Sequence[Any]) -> Any:
    found = db.delete(keys[0])
    _wake(db, keys)
    return found


def _look(db: Database, keys: Sequence[Any], _: Sequence[Any]) -> Any:
    return [db.get(keys[0]), db.left(keys[0]), db.number(keys[1])]


def _register(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
    known = db.fields(keys[0])
    born = int(known.setdefault(b"born", b"%d" % db.now))
    longest = max(int(known.get(b"longest", 0)), int(argv[0]))
    if longest:
        known[b"longest"] = b"%d" % longest
    asked, voters = text(argv[1]), text(argv[2])
    floor = int(known.get(b"floor", 0))
    out = []
    for at in range(3, len(argv), 3):
        name, life, state = map(text, argv[at : at + 3])
        was = known.get(b":" + name)
        old, before, which = was.rsplit(b":", 2) if was is not None else (b"", b"", b"")
        if was is not None and (old != life or before == b"1"):
            state = b"1"
        if old != life and name == asked and floor < db.now:
            floor = db.now
            known[b"floor"] = b"%d" % floor
        if state == b"0" and before == b"2":
            state = b"2" if which == voters else state
        else:
            known[b":" + name] = b"%b:%b:%b" % (life, state, voters if state == b"2" else b"")
        out.append(int(state))
    return [longest, born, floor, *out]


def _configure(db: Database, keys: Sequence[Any], argv: Sequence[Any]) -> Any:
    mode, version, members = map(text, argv)
    known = db.fields(keys[0])
    known.setdefault(b"born", b"%d" % db.now)
    number, asked = (int(one.split(b"-")[0] or 0) for one in (known.get(b"version", b""), version))
    if mode == b"now" and number < asked:
        known[b"version"], known[b"members"] = version, members
        known.pop(b"next", None)
        known[b"floor"] = b"%d" % max(int(known.get(b"floor", 0)), db.now)
    elif mode == b"next" and number == asked - 1 and not known.get(b"next"):
        known[b"next"] = members
    return [known.get(field, b"") for field in (b"version", b"members", b"next")]


SCRIPTS: dict[bytes, Script] = {
    real.ACQUIRE: _acquire,
    real.ADOPT: _adopt,
    real.CONFIRM: _confirm,
    real.EXTEND: _extend,
    real.REPAIR: _repair,
    real.RELEASE: _release,
    real.BREAK: _break,
    real.CONFIGURE: _configure,
    real.LOOK: _look,
    real.REGISTER: _register,
}


def run(db: Database, command: Sequence[Any]) -> Any:
    """Carry out one EVAL, and return its reply."""
    _, script, count, *rest = command
    keys = int(count)
    return SCRIPTS[script](db, rest[:keys], rest[keys:])
