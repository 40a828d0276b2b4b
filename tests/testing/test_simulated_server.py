"""The simulated server answers as a real one does."""

import itertools
import time
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardcache.embedded import LocalShards
from shardcache.flows.lock import LockKeys
from shardcache.flows.lock import scripts as real
from shardcache.flows.lock.plan import FENCE_TTL
from shardcache.keys import KeySpace
from shardcache.testing.simulation.database import Database
from shardcache.testing.simulation.scenario import ServerPlan
from shardcache.testing.simulation.scripts import SCRIPTS, run
from shardcache.testing.simulation.server import Server

LOOSE = 5_000  # ms by which times left may differ on a busy machine; ttls are far above
TOKENS = st.sampled_from([b"a", b"b", b"c"])
TTLS = st.sampled_from([100_000, 200_000])
FENCES = st.sampled_from([1, 7, 2 * 10**15, 2 * 10**15 + 1])
NAMES = st.sampled_from([b"one", b"two", b"three"])
RUNS = st.sampled_from([b"x1", b"x2"])

numbers = itertools.count()


def entry(name: bytes, run_id: bytes, forgot: int) -> tuple[bytes, bytes, int]:
    return name, run_id, forgot


STEPS = st.one_of(
    st.tuples(st.just("ACQUIRE"), TOKENS, TTLS, st.just(FENCE_TTL), st.integers(0, 1), st.sampled_from([0, 100_000])),
    st.tuples(st.just("CONFIRM"), TOKENS, FENCES, st.just(FENCE_TTL)),
    st.tuples(st.just("EXTEND"), TOKENS, TTLS),
    st.tuples(st.just("ADOPT"), TOKENS, TOKENS),
    st.tuples(st.just("REPAIR"), TOKENS, TTLS, FENCES, st.just(FENCE_TTL)),
    st.tuples(st.just("RELEASE"), TOKENS),
    st.tuples(st.just("BREAK")),
    st.tuples(st.just("LOOK")),
    st.lists(st.builds(entry, NAMES, RUNS, st.integers(0, 1)), max_size=3).flatmap(
        lambda rows: TTLS.map(lambda ttl: ("REGISTER", ttl, *itertools.chain(*rows)))
    ),
    st.tuples(st.just("pop")),
    st.tuples(st.just("drop"), st.integers(0, 3)),
    st.tuples(st.just("end"), st.integers(0, 3)),
)


@pytest.fixture(scope="module")
def connection() -> Iterator[redis.Redis]:
    """A client of one real server."""
    with LocalShards(1) as shards, redis.Redis.from_url(shards.urls["shard-1"]) as client:
        yield client


def close(left: object, right: object, place: int | None) -> bool:
    """Whether two replies agree, that at ``place`` being a time left."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(
            (abs(one - other) <= LOOSE and (one < 0) == (other < 0)) if at == place else one == other
            for at, (one, other) in enumerate(zip(left, right, strict=True))
        )
    return left == right


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=25))
def test_scripts_answer_as_on_a_real_server(connection: redis.Redis, steps: list[tuple]) -> None:
    """Any sequence of the voters' scripts, of keys lost and keys that end, gives the same replies and leaves the same keys."""
    keys = LockKeys.of(b"%d" % next(numbers), KeySpace())
    register = b"register of " + keys.lock
    db = Database()
    for name, *arguments in steps:
        seconds, micros = connection.time()
        db.now = seconds * 10**6 + micros
        match name:
            case "pop":
                assert db.pop(keys.wake) == connection.lpop(keys.wake)
            case "drop":
                assert db.delete(keys[arguments[0]]) == connection.delete(keys[arguments[0]])
            case "end":
                connection.pexpire(keys[arguments[0]], 0)
                db.expire(keys[arguments[0]], -1)
            case _:
                asked = {"REGISTER": (register,), "ACQUIRE": keys[:3]}.get(name, tuple(keys))
                command = (b"EVAL", getattr(real, name), len(asked), *asked, *arguments)
                expected = connection.execute_command(*command)
                actual = run(db, command)
                if name == "ACQUIRE" and expected[::2] == [1, 1]:  # a counter that starts from the clock
                    assert actual[::2] == [1, 1]
                    assert abs(actual[1] - expected[1]) < LOOSE * 1000
                    db.values[keys.fence] = b"%d" % expected[1]
                else:
                    place = 1 if name in ("LOOK", "ADOPT") or (name == "ACQUIRE" and actual[0] == 0) else None
                    assert close(actual, expected, place), (name, arguments, actual, expected)
    for key in (*keys, register):
        left = connection.pttl(key)
        assert close([db.left(key)], [left], 0)
    assert db.fields(register) == connection.hgetall(register)


def test_every_script_is_there() -> None:
    """No script of the voters is missing."""
    assert set(SCRIPTS) == {getattr(real, name) for name in real.__all__}


def test_key_ends_after_its_last_millisecond(connection: redis.Redis) -> None:
    """A key is there until its time is over, on both."""
    keys = LockKeys.of(b"short", KeySpace())
    command = (b"EVAL", real.ACQUIRE, 3, *keys[:3], b"a", 20, FENCE_TTL, 0, 0)
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
        (b"EVAL", real.ACQUIRE, 3, *keys[:3], b"a", 100_000, FENCE_TTL, 0, 0),
        (b"EVAL", real.ACQUIRE, 3, *keys[:3], b"b", 100_000, FENCE_TTL, 0, 100_000),
        (b"EVAL", real.RELEASE, 4, *keys, b"a"),
    ):
        connection.execute_command(*command)
        server.execute(command, 0.0)
    pop = (b"BLPOP", keys.wake, b"0.010")
    assert server.execute(pop, 0.0) == connection.execute_command(*pop)
    assert server.execute(pop, 0.0) is None
    assert connection.execute_command(*pop) is None


def test_age_is_never_too_high() -> None:
    """INFO counts seconds between two readings that are cut off, up to one too many; the simulated age takes that off."""
    server = Server(0, ServerPlan(0.0, 1000.0, 0.1))
    assert [server.age(now) for now in (0.0, 0.8, 0.9, 1.0, 1.9, 2.0)] == [0.0, 0.0, 0.0, 1.0, 1.0, 2.0]
    assert all(server.age(now / 10) <= now / 10 + 0.1 for now in range(100))
