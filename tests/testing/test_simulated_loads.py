"""The scripts of loads do on a simulated server what they do on a real one."""

import hashlib
import itertools
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardcache.flows.load import scripts as real
from shardcache.flows.load.tags import ENSURE
from shardcache.flows.lock import LockKeys
from shardcache.flows.lock.scripts import EXTEND, REGISTER
from shardcache.keys import KeySpace
from shardcache.testing.simulation.load_scripts import LOAD_SCRIPTS, execute
from tests.testing.twins import PASS, Command, Step, Twins, close, tells_apart

TOKENS = [b"a", b"b"]
WAITERS = [b"", b"me", b"you"]
TTLS = [100_000, 200_000]
PASSES = [300_000, 400_000]  # ttls of the pass
VALUES = [b"one", b"two"]
SEEN = [b"", *(hashlib.sha1(value, usedforsecurity=False).hexdigest().encode() for value in VALUES)]
LIVES = [b"", *TTLS]
VERSIONS = [b"v" * 16, b"w" * 16]
CROWD = [b"%d" % number for number in range(1001)]  # one more than are woken at once
KINDS = [(b"RPUSH", b"1"), (b"SADD", b"1"), (b"HSET", b"1", b"1"), (b"SET", b"1")]
HOME = 5  # keys of a load on the shard of its value, that among them
REAL = {
    **{name: getattr(real, name) for name in ("CLAIM", "FILL", "GIVE_UP", "TAKE")},
    "ENSURE": ENSURE,
}

numbers = itertools.count()


class LoadTwins(Twins):
    """The scripts of one key's loads and of one tag."""

    def __init__(self, connection: redis.Redis, scripts: Mapping[str, bytes]) -> None:
        name = b"%d" % next(numbers)
        super().__init__(
            connection,
            scripts,
            (*LockKeys.of_load(name, KeySpace()), b"value " + name, b"tag " + name),
        )

    def command(self, name: str, arguments: tuple[Any, ...]) -> Command:
        if name == "pass":
            return (b"EVAL", PASS, len(self.keys), *self.keys, *arguments)
        return self.plain(name, arguments) or self.eval(
            self.scripts.get(name, EXTEND), name, arguments
        )

    def twin(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == "pass":
            self.passes(*arguments)
            return 0
        if name == "foreign":
            return self.overlaid(*arguments)
        if name == "crowd":
            before = len(self.db.find_as(self.keys[2], set) or ())
            for one in CROWD:
                self.db.add(self.keys[2], one)
            return len(self.db.find(self.keys[2])) - before
        if name == "end":
            return self.db.delete(self.keys[arguments[0]])
        plain = self.plain(name, arguments)
        return execute(self.db, plain or self.eval(REAL.get(name, EXTEND), name, arguments))

    def plain(self, name: str, arguments: tuple[Any, ...]) -> Command | None:
        """Return the command of a step that runs no script."""
        keys = self.keys
        match name, arguments:
            case "wait", _:
                return (b"BLPOP", keys[3], b"0.010")
            case "foreign", (at, kind):
                return (KINDS[kind][0], keys[at], *KINDS[kind][1:])
            case "crowd", _:
                return (b"SADD", keys[2], *CROWD)
            case "end", (at,):
                return (b"PEXPIRE", keys[at], 0)
            case "set", (value, *px):
                return (b"SET", keys[4], value, *px)
            case (("get" | "pttl" | "unlink" | "mget"), which):
                return (name.upper().encode(), *(keys[at] for at in which))
        return None

    def eval(self, script: bytes, name: str, arguments: tuple[Any, ...]) -> Command:
        keys = {"ENSURE": self.keys[HOME:], "FILL": self.keys[:HOME]}.get(name, self.keys[:4])
        return (b"EVAL", script, len(keys), *keys, *arguments)

    def overlaid(self, at: int, kind: int) -> Any:
        """Put a value of another kind where nothing is."""
        db, key = self.db, self.keys[at]
        match KINDS[kind]:
            case b"RPUSH", one:
                db.push(key, one)
                return len(db.find(key))
            case b"SADD", one:
                before = len(db.find_as(key, set) or ())
                db.add(key, one)
                return len(db.find(key)) - before
            case b"HSET", field, one:
                new = field not in db.fields(key)
                db.fields(key)[field] = one
                return int(new)
            case _, one:
                db.delete(key)
                db.values[key] = one
                return b"OK"

    def alike(self, name: str, actual: Any, expected: Any) -> bool:
        if name == "pttl":
            return close([actual], [expected], 0)
        return close(actual, expected, 1 if name == "CLAIM" else None)

    def adopt(self) -> None:
        """Nothing is read from a clock."""


def a(name: str, *choices: Any) -> tuple[str, tuple[Any, ...]]:
    return name, choices


KEYS = range(HOME + 1)
STEPS = [
    *(a("CLAIM", TOKENS, WAITERS, TTLS, PASSES) for _ in range(4)),
    *(a("FILL", TOKENS, SEEN, LIVES, [0, 1], VALUES) for _ in range(6)),
    *(a("GIVE_UP", TOKENS, WAITERS) for _ in range(2)),
    a("TAKE", TOKENS, TTLS, PASSES),
    a("EXTEND", TOKENS, [300_000]),
    *(a("ENSURE", VERSIONS, LIVES) for _ in range(4)),
    a("set", VALUES),
    a("set", VALUES, [b"PX"], TTLS),
    a("get", [4]),
    a("get", [5]),
    a("mget", [4], [5]),
    a("pttl", KEYS),
    a("unlink", [4], [5]),
    *(a("unlink", [1]) for _ in range(2)),  # what a write does to a load
    a("wait"),
    a("end", KEYS),
    a("pass", [61_000, 143_000]),  # no sum of them is a ttl, where a millisecond would decide
    *(a("foreign", [4], range(4)) for _ in range(2)),
]
RARE = [a("foreign", KEYS, range(4)), a("crowd")]
"""After these there is little to be seen for a while."""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.sampled_from([*STEPS, *RARE]).flatmap(
            lambda step: st.tuples(st.just(step[0]), *map(st.sampled_from, step[1]))
        ),
        max_size=25,
    )
)
def test_scripts_do_what_they_do_on_a_real_server(
    connection: redis.Redis, steps: list[Step]
) -> None:
    """Any sequence of loads, writes, expiries and foreign values gives equal replies and keys."""
    assert LoadTwins(connection, REAL).difference(steps) == ""


def random_step(rng: Random) -> Step:
    """Return one step."""
    name, choices = rng.choice(STEPS) if rng.random() < 0.97 else rng.choice(RARE)
    return (name, *map(rng.choice, choices))


GET_LOCK, GET_FILL_TOKEN = (
    b"redis.call('GET',KEYS[1])==ARGV[1]",
    b"redis.call('GET',KEYS[2])==ARGV[1]",
)
DROP_LOCK, DROP_FILL_TOKEN = (
    b"if held then redis.call('DEL',KEYS[1]) end",
    b"if passed then redis.call('DEL',KEYS[2]) end",
)
KEEP_LOCK, KEEP_FILL_TOKEN = (
    b"redis.call('SET',KEYS[1],ARGV[1],",
    b"redis.call('SET',KEYS[2],ARGV[1],",
)
WAKES = [
    (b"if n>0 then", b"if n>1 then"),
    (b"redis.call('DEL',KEYS[3])", b""),
    (b"math.min(n,1000)", b"1"),
    (b"math.min(n,1000)", b"n"),
    (b"redis.call('PEXPIRE',KEYS[4],1000)", b""),
]
WAITS = [
    (b"if ARGV[2]~='' then", b"if true then"),
    (b"if ARGV[2]~='' then", b"if false then"),
    (b"redis.call('SADD',KEYS[3],ARGV[2])", b"redis.call('SADD',KEYS[3],ARGV[1])"),
    (b"redis.call('PEXPIRE',KEYS[3],1000)", b""),
]
DONE = [
    (GET_LOCK, b"redis.call('EXISTS',KEYS[1])==1"),
    (GET_FILL_TOKEN, b"redis.call('EXISTS',KEYS[2])==1"),
    (DROP_LOCK, b""),
    (DROP_LOCK, b"redis.call('DEL',KEYS[1])"),
    (DROP_LOCK, b"if passed then redis.call('DEL',KEYS[1]) end"),
    (DROP_FILL_TOKEN, b""),
    (DROP_FILL_TOKEN, b"redis.call('DEL',KEYS[2])"),
    (DROP_FILL_TOKEN, b"if held then redis.call('DEL',KEYS[2]) end"),
]
CHANGES = {
    "CLAIM": [
        *WAITS,
        (b"if held==ARGV[1] then return {1,0,0} end", b""),
        (b"if held==ARGV[1]", b"if held"),
        (b"if not held then", b"if true then"),
        (KEEP_LOCK + b"'PX',ARGV[3])", KEEP_LOCK + b"'PX',ARGV[4])"),
        (KEEP_LOCK + b"'PX',ARGV[3])", KEEP_LOCK[:-1] + b")"),
        (KEEP_FILL_TOKEN + b"'PX',ARGV[4])", KEEP_FILL_TOKEN + b"'PX',ARGV[3])"),
        (KEEP_FILL_TOKEN + b"'PX',ARGV[4])", b""),
        (b"redis.call('DEL',KEYS[4])", b""),
        (b"redis.call('PTTL',KEYS[1])", b"redis.call('PTTL',KEYS[2])"),
    ],
    "TAKE": [
        (KEEP_LOCK, b"redis.call('SET',KEYS[1],ARGV[1],'NX',"),
        (KEEP_LOCK + b"'PX',ARGV[2])", KEEP_LOCK + b"'PX',ARGV[3])"),
        (KEEP_FILL_TOKEN + b"'PX',ARGV[3])", KEEP_FILL_TOKEN + b"'PX',ARGV[2])"),
        (KEEP_FILL_TOKEN + b"'PX',ARGV[3])", b""),
        (b"return 1", b"return 0"),
    ],
    "FILL": [
        *DONE,
        *WAKES,
        (b"held and passed", b"held"),
        (b"held and passed", b"passed"),
        (b"held and passed", b"held or passed"),
        (b"redis.pcall('GET',KEYS[5])", b"redis.call('GET',KEYS[5])"),
        (b"redis.sha1hex(now)", b"now"),
        (b"now~=ARGV[2] and", b""),
        (b"and not (now=='' and ARGV[4]=='1')", b""),
        (b"and not (now=='' and ARGV[4]=='1')", b"and not (now=='')"),
        (b"and not (now=='' and ARGV[4]=='1')", b"and not (ARGV[4]=='1')"),
        (b"return -1", b"return 0"),
        (b"redis.call('SET',KEYS[5],ARGV[5],'PX',ARGV[3])", b"redis.call('SET',KEYS[5],ARGV[5])"),
        (
            b"if ARGV[3]=='' then",
            b"if ARGV[3]~='' then redis.call('SET',KEYS[5],ARGV[5],'KEEPTTL')\nelseif true then",
        ),
        (b"end\nreturn 1", b"end\nreturn 0"),
    ],
    "GIVE_UP": [
        *WAITS,
        *DONE,
        *WAKES,
        (b"held and 1 or 0", b"passed and 1 or 0"),
    ],
    "ENSURE": [
        (b"if not found then", b"if true then"),
        (b"found=ARGV[1]", b"found='v'"),
        (b"redis.call('SET',KEYS[1],found,'PX',ARGV[2])", b"redis.call('SET',KEYS[1],found)"),
        (b"redis.call('PERSIST',KEYS[1])", b""),
        (b"left>=0 and left<tonumber(ARGV[2])", b"left<tonumber(ARGV[2])"),
        (b"left>=0 and left<tonumber(ARGV[2])", b"left>=0 and left>tonumber(ARGV[2])"),
        (b"left>=0 and left<tonumber(ARGV[2])", b"left>=0"),
    ],
}
MUTANTS = [(name, old, new) for name, changes in CHANGES.items() for old, new in changes]


@pytest.mark.long  # about the scripts, which servers run
@pytest.mark.parametrize("connection", ["valkey"], indirect=True)
@pytest.mark.parametrize(
    ("name", "old", "new"), MUTANTS, ids=[f"{name}-{at}" for at, (name, _, _) in enumerate(MUTANTS)]
)
def test_a_script_that_is_changed_is_noticed(
    connection: redis.Redis, name: str, old: bytes, new: bytes
) -> None:
    """Random sequences tell a script from one that differs in one place."""
    assert REAL[name].count(old) == 1
    scripts = {**REAL, name: REAL[name].replace(old, new)}
    assert tells_apart(lambda: LoadTwins(connection, scripts), random_step)


def test_every_script_is_there() -> None:
    """No script of loads is missing; two are those of locks, in `test_simulated_server`."""
    named = {getattr(real, name) for name in real.__all__ if isinstance(getattr(real, name), bytes)}
    assert named < set(REAL.values())
    assert set(LOAD_SCRIPTS) == {*REAL.values(), EXTEND, REGISTER}
