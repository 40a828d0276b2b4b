"""The simulated server answers as a real one does."""

import itertools
import time
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardcache.flows.lock import LockKeys
from shardcache.flows.lock import scripts as real
from shardcache.flows.lock.lock_plan import FENCE_TTL
from shardcache.keys import KeySpace
from shardcache.testing.simulation.database import Database
from shardcache.testing.simulation.scenario import ServerPlan
from shardcache.testing.simulation.scripts import SCRIPTS, run
from shardcache.testing.simulation.server import Server
from tests.testing.twins import LOOSE, Command, Twins, close, tells_apart

TOKENS = st.sampled_from([b"a", b"b", b"c"])
TTLS = st.sampled_from([100_000, 200_000])
FENCES = st.sampled_from([1, 7, 2 * 10**15, 2 * 10**15 + 1])
NAMES = st.sampled_from([b"one", b"two", b"three"])
LIVES = st.sampled_from([b"x1:17", b"x2:17", b":18", b""])
VERSIONS = st.sampled_from([b"", b"", b"1-a", b"1-b", b"2-a", b"10-a"])
LOOKS = st.sampled_from([0, 0, 0, 1])
SETS = st.sampled_from([b"", b"0123", b"4567"])
FENCE_TTLS = st.sampled_from([FENCE_TTL, FENCE_TTL // 2])

LONG_AGO = b"1000000000000000"  # µs: so that an age in another unit shows, however quick a test is

numbers = itertools.count()


def entry(name: bytes, life: bytes, state: int) -> tuple[bytes, bytes, int]:
    return name, life, state


STEPS = st.one_of(
    st.tuples(
        st.just("ACQUIRE"),
        TOKENS,
        TTLS,
        FENCE_TTLS,
        st.integers(0, 1),
        st.sampled_from([0, 100_000]),
        VERSIONS,
        LOOKS,
    ),
    st.tuples(
        st.just("CONFIGURE"),
        st.sampled_from([b"next", b"now", b""]),
        VERSIONS,
        st.sampled_from([b"m", b"n"]),
    ),
    st.tuples(st.just("CONFIRM"), TOKENS, FENCES, FENCE_TTLS),
    st.tuples(st.just("EXTEND"), TOKENS, TTLS),
    st.tuples(st.just("ADOPT"), TOKENS, TOKENS),
    st.tuples(st.just("REPAIR"), TOKENS, TTLS, FENCES, st.just(FENCE_TTL)),
    st.tuples(st.just("REPAIR"), TOKENS, TTLS, FENCES, FENCE_TTLS),
    st.tuples(st.just("RELEASE"), TOKENS),
    st.tuples(st.just("BREAK")),
    st.tuples(st.just("LOOK")),
    st.builds(
        lambda ttl, asked, which, rows: ("REGISTER", ttl, asked, which, *itertools.chain(*rows)),
        st.sampled_from([0, 100_000, 200_000]),
        NAMES,
        SETS,
        st.lists(st.builds(entry, NAMES, LIVES, st.integers(0, 2)), max_size=3),
    ),
    st.tuples(st.just("pop")),
    st.tuples(st.just("drop"), st.integers(0, 4)),
    st.tuples(st.just("end"), st.integers(0, 3)),
    st.tuples(st.just("age")),
    st.tuples(st.just("count"), FENCES),
)


class LockTwins(Twins):
    """The scripts of one lock and of its register."""

    def __init__(self, connection: redis.Redis, scripts: Mapping[str, bytes]) -> None:
        self.lock = LockKeys.of(b"%d" % next(numbers), KeySpace())
        self.register = b"register of " + self.lock.lock
        super().__init__(connection, scripts, (*self.lock, self.register))

    def command(self, name: str, arguments: tuple[Any, ...]) -> Command:
        match name:
            case "pop":
                return (b"LPOP", self.lock.wake)
            case "drop":
                return (b"DEL", self.keys[arguments[0]])
            case "end":
                return (b"PEXPIRE", self.lock[arguments[0]], 0)
            case "age":  # as if the register had been there for long
                return (b"HSET", self.register, b"born", LONG_AGO)
            case "count":  # an old counter, or one from another clock
                return (b"SET", self.lock.fence, arguments[0], b"PX", FENCE_TTL)
        return self.eval(name, self.scripts[name], arguments)

    def twin(self, name: str, arguments: tuple[Any, ...]) -> Any:
        db = self.db
        match name:
            case "pop":
                return db.pop(self.lock.wake)
            case "drop":
                return db.delete(self.keys[arguments[0]])
            case "end":
                return db.delete(self.lock[arguments[0]])
            case "age":
                new = b"born" not in db.fields(self.register)
                db.fields(self.register)[b"born"] = LONG_AGO
                return int(new)
            case "count":
                db.put(self.lock.fence, arguments[0], FENCE_TTL)
                return b"OK"
        return run(db, self.eval(name, getattr(real, name), arguments))

    def eval(self, name: str, script: bytes, arguments: tuple[Any, ...]) -> Command:
        asked = {
            **dict.fromkeys(("REGISTER", "CONFIGURE"), (self.register,)),
            **dict.fromkeys(("EXTEND", "ADOPT"), self.keys),
            "ACQUIRE": (*self.lock[:3], self.register),
        }.get(name, tuple(self.lock))
        return (b"EVAL", script, len(asked), *asked, *arguments)

    def alike(self, name: str, actual: Any, expected: Any) -> bool:
        """Whether two answers agree; times and what was read from the clock need only be near."""
        if name == "ACQUIRE" and actual[0] == expected[0] == 1:
            loose = LOOSE * 1000 if actual[2] == 1 else 0
            return (
                abs(actual[1] - expected[1]) <= loose
                and actual[2] == expected[2]
                and abs(actual[3] - expected[3]) <= LOOSE * 1000
                and abs(actual[4] - expected[4]) <= LOOSE
            )
        if name == "REGISTER":
            near = all(
                abs(one - other) <= LOOSE * 1000
                for one, other in zip(actual[1:3], expected[1:3], strict=True)
            )
            return near and [actual[0], *actual[3:]] == [expected[0], *expected[3:]]
        # Behind times left: born, and ms since then.
        if name in ("EXTEND", "ADOPT") and actual[0] == expected[0] == 1:
            near = zip(
                actual[1:],
                expected[1:],
                (LOOSE * 1000, LOOSE) if name == "EXTEND" else (LOOSE, LOOSE * 1000, LOOSE),
                strict=True,
            )
            return all(abs(one - other) <= loose for one, other, loose in near)
        return close(
            actual,
            expected,
            1 if name == "LOOK" or (name == "ACQUIRE" and actual[0] == 0) else None,
        )

    def adopt(self) -> None:
        db, connection, fence = self.db, self.connection, self.lock.fence
        there, real_one = db.values.get(fence), connection.get(fence)
        if (
            there is not None
            and real_one is not None
            and abs(int(there) - int(real_one)) <= LOOSE * 1000
        ):
            db.values[fence] = real_one
        known = db.find(self.register) or {}
        for field in (b"born", b"floor"):
            value = connection.hget(self.register, field)
            if (
                field in known
                and value is not None
                and abs(int(known[field]) - int(value)) <= LOOSE * 1000
            ):
                known[field] = value


REAL = {name: getattr(real, name) for name in real.__all__}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=25))
def test_scripts_answer_as_on_a_real_server(connection: redis.Redis, steps: list[tuple]) -> None:
    """Any sequence of the voters' scripts and of lost keys gives equal replies and keys."""
    assert LockTwins(connection, REAL).difference(steps) == ""


MUTANTS = [
    ("ACQUIRE", b"n>1 and n>floor", b"n>1"),
    ("ACQUIRE", b"redis.call('PEXPIRE',KEYS[2],ARGV[3])", b""),
    ("ACQUIRE", b"if not known[1] then", b"if false then"),
    ("ACQUIRE", b"ARGV[4]=='1' and", b""),
    ("ACQUIRE", b"held==ARGV[1]", b"held"),
    ("ACQUIRE", b"math.floor((now-born)/1000)", b"(now-born)"),
    ("ACQUIRE", b"return {1,n,1,born,age}", b"return {1,n,0,born,age}"),
    ("ACQUIRE", b"if ARGV[5]~='0' then", b"if true then"),
    ("ACQUIRE", b"ARGV[6]~='' and known[3]~=ARGV[6]", b"false"),
    ("ACQUIRE", b"ARGV[7]=='1' and not held", b"ARGV[7]=='1'"),
    ("CONFIGURE", b"number<asked", b"number<=asked"),
    ("CONFIGURE", b"number==asked-1 and after==''", b"after==''"),
    ("CONFIGURE", b"number==asked-1 and after==''", b"number==asked-1"),
    ("CONFIGURE", b"redis.call('HDEL',KEYS[1],'next')", b""),
    ("CONFIRM", b"~=ARGV[1] then return 0", b"==nil then return 0"),
    ("CONFIRM", b"<tonumber(ARGV[2])", b">tonumber(ARGV[2])"),
    ("EXTEND", b"<tonumber(ARGV[2])", b">tonumber(ARGV[2])"),
    ("EXTEND", b"{-1}", b"{0}"),
    ("EXTEND", b"math.floor((now-born)/1000)", b"(now-born)"),
    ("EXTEND", b"redis.call('HSETNX',KEYS[5],'born',string.format('%.0f',now))", b""),
    ("ADOPT", b"math.floor((now-born)/1000)", b"(now-born)"),
    ("ADOPT", b"held~=ARGV[1]", b"not held"),
    ("ADOPT", b"held~=ARGV[2]", b"held==ARGV[2]"),
    ("REPAIR", b"==1 then return 0", b"==2 then return 0"),
    ("REPAIR", b"<tonumber(ARGV[3])", b">tonumber(ARGV[3])"),
    ("RELEASE", b"held~=ARGV[1]", b"not held"),
    ("RELEASE", b"redis.call('PEXPIRE',KEYS[4],1000)", b""),
    ("RELEASE", b"redis.call('EXISTS',KEYS[4])==0", b"true"),
    ("BREAK", b"redis.call('EXISTS',KEYS[3])==1", b"true"),
    ("LOOK", b"redis.call('PTTL',KEYS[1])", b"1"),
    ("REGISTER", b"tonumber(longest)<tonumber(ARGV[1])", b"true"),
    ("REGISTER", b"or before=='1'", b""),
    ("REGISTER", b"old~=life and ARGV[i]==ARGV[2]", b"ARGV[i]==ARGV[2]"),
    ("REGISTER", b"ARGV[i]==ARGV[2] and", b""),
    ("REGISTER", b"if set==ARGV[3] then", b"if true then"),
    ("REGISTER", b"was and (old~=life", b"was and (false"),
    ("REGISTER", b"redis.call('HSET',KEYS[1],'born',born)", b""),
]


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
    assert tells_apart(lambda: LockTwins(connection, scripts), random_step)


def random_step(rng: Random) -> tuple[Any, ...]:
    """Return one step, as `STEPS` has them; `ACQUIRE` and what is about its key more often."""
    token, ttl = rng.choice([b"a", b"b"]), rng.choice([100_000, 200_000])
    fence, fence_ttl = (
        rng.choice([1, 7, 2 * 10**15, 2 * 10**15 + 1]),
        rng.choice([FENCE_TTL, FENCE_TTL // 2]),
    )
    names = [b"one", b"two"]
    lives = [b"x1:17", b"x2:17"]
    rows = [
        (rng.choice(names), rng.choice(lives), rng.randrange(3)) for _ in range(rng.randrange(3))
    ]
    return rng.choice(
        [
            ("ACQUIRE", token, ttl, fence_ttl, rng.randrange(2), rng.choice([0, 100_000]), b"", 0),
            (
                "ACQUIRE",
                token,
                ttl,
                fence_ttl,
                0,
                0,
                rng.choice([b"", b"1-a", b"2-a"]),
                rng.choice([0, 0, 1]),
            ),
            (
                "CONFIGURE",
                rng.choice([b"next", b"now"]),
                rng.choice([b"1-a", b"1-b", b"2-a", b"10-a"]),
                rng.choice([b"m", b"n"]),
            ),
            ("CONFIRM", token, fence, fence_ttl),
            ("EXTEND", token, ttl),
            ("ADOPT", token, rng.choice([b"a", b"b"])),
            ("REPAIR", token, ttl, fence, fence_ttl),
            ("RELEASE", token),
            ("RELEASE", token),
            ("BREAK",),
            ("LOOK",),
            (
                "REGISTER",
                rng.choice([0, ttl]),
                rng.choice(names),
                rng.choice([b"s", b"t"]),
                *itertools.chain(*rows),
            ),
            (
                "REGISTER",
                0,
                b"one",
                rng.choice([b"s", b"t"]),
                b"one",
                lives[rng.random() < 0.2],
                rng.randrange(3),
            ),
            (
                "REGISTER",
                0,
                b"one",
                rng.choice([b"s", b"t"]),
                b"one",
                lives[rng.random() < 0.2],
                rng.randrange(3),
            ),
            ("pop",),
            ("drop", rng.randrange(5)),
            ("end", rng.randrange(4)),
            ("age",),
            ("count", fence),
        ]
    )


def test_every_script_is_there() -> None:
    """No script of the voters is missing."""
    assert set(SCRIPTS) == {getattr(real, name) for name in real.__all__}


def test_key_ends_after_its_last_millisecond(connection: redis.Redis) -> None:
    """A key is there until its time is over, on both."""
    keys = LockKeys.of(b"short", KeySpace())
    command = (
        b"EVAL",
        real.ACQUIRE,
        4,
        *keys[:3],
        b"register of short",
        b"a",
        20,
        FENCE_TTL,
        0,
        0,
        b"",
        0,
    )
    db = Database()
    db.now = 10**15
    assert run(db, command)[0] == connection.execute_command(*command)[0] == 1
    db.now += 20_999
    assert db.left(keys.lock) == 0
    db.now += 1
    assert db.left(keys.lock) == -2
    while (left := connection.pttl(keys.lock)) != -2:
        assert 0 <= left <= 20
        time.sleep(0.001)
    assert connection.get(keys.lock) is None


def test_blocking_pop_answers_alike(connection: redis.Redis) -> None:
    """A release wakes one who waits, with the same reply."""
    keys = LockKeys.of(b"wake", KeySpace())
    server = Server(0, ServerPlan(0.0, 1.7e9, 10.0))
    for command in (
        (
            b"EVAL",
            real.ACQUIRE,
            4,
            *keys[:3],
            b"register of wake",
            b"a",
            100_000,
            FENCE_TTL,
            0,
            0,
            b"",
            0,
        ),
        (
            b"EVAL",
            real.ACQUIRE,
            4,
            *keys[:3],
            b"register of wake",
            b"b",
            100_000,
            FENCE_TTL,
            0,
            100_000,
            b"",
            0,
        ),
        (b"EVAL", real.RELEASE, 4, *keys, b"a"),
    ):
        connection.execute_command(*command)
        server.execute(command, 0.0)
    pop = (b"BLPOP", keys.wake, b"0.010")
    assert server.execute(pop, 0.0) == connection.execute_command(*pop)
    assert server.execute(pop, 0.0) is None
    assert connection.execute_command(*pop) is None


def test_age_is_never_too_high() -> None:
    """INFO's seconds may be one too many; the simulated age takes that off."""
    server = Server(0, ServerPlan(0.0, 1000.0, 0.1))
    assert [server.age(now) for now in (0.0, 0.8, 0.9, 1.0, 1.9, 2.0)] == [
        0.0,
        0.0,
        0.0,
        1.0,
        1.0,
        2.0,
    ]
    assert all(server.age(now / 10) <= now / 10 + 0.1 for now in range(100))
