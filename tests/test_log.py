"""What is logged under "shardcache": what an operator has to know.

There is no line for each call, and never a key, value or credential.
"""

import logging
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from shardcache import Event, Options
from shardcache.embedded import LocalShards
from shardcache.errors import AuthenticationFailed, LockLost, ShardOut
from shardcache.events import Repeats, emit

LONG_TIMEOUT = 20.0


@pytest.fixture
def name() -> str:
    """A shard's name that no other test has, so that log limits of a minute do not meet."""
    return f"shard-{uuid.uuid4().hex}"


@pytest.fixture
def server() -> Iterator[Any]:
    """One server of this test alone."""
    with LocalShards(1, tcp=True) as servers:
        yield servers.servers[0]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the warnings of the library so far, each of which must be one."""

    def read() -> list[str]:
        ours = [record for record in caplog.records if record.name == "shardcache"]
        assert {record.levelno for record in ours} <= {logging.WARNING}
        return [record.getMessage() for record in ours]

    return read


def test_out_and_back(colour: Any, server: Any, name: str, lines: Callable[[], list[str]]) -> None:
    """One warning says that a shard is out and why, one that it is back."""
    with colour(
        {name: server.url}, timeout=LONG_TIMEOUT, options=Options(first_probe=0.01, max_probe=0.02)
    ) as cache:
        cache.set("secret-key", "secret-value")
        server.kill()
        for _ in range(50):
            cache.get("secret-key")
        [out] = lines()
        assert out.startswith(f"shard '{name}' is out of service: c")
        server.start()
        while cache.stats().shards[name].state != "closed":  # ends by the limit on each test
            cache.get("secret-key")
        for _ in range(50):
            cache.get("secret-key")
        assert lines() == [out, f"shard '{name}' is back in service"]
        assert "secret" not in "".join(lines())


def test_damaged(colour: Any, server: Any, name: str, lines: Callable[[], list[str]]) -> None:
    """A hundred damaged values of a shard are one warning, without key and value."""
    with (
        colour({name: server.url}, timeout=LONG_TIMEOUT) as cache,
        redis.Redis.from_url(server.url) as plain,
    ):
        plain.mset({f"key-{n}": b"\xf8hunter2" for n in range(100)})
        for n in range(100):
            assert cache.get(f"key-{n}") is None
        cache.get_many([f"key-{n}" for n in range(100)])
    assert lines() == [
        (
            f"shard '{name}' holds a value that cannot be read: DamagedPayload "
            "in get (fetch_many says which of its keys)"
        )
    ]


def test_refused_login(colour: Any, name: str, lines: Callable[[], list[str]]) -> None:
    """Refused credentials are one warning, which has neither of them; each refusal is an event."""
    events: list[Event] = []
    with LocalShards(1, tcp=True, options={"requirepass": "hunter2"}) as servers:
        url = servers.servers[0].url.rpartition("@")[2].removeprefix("redis://")
        options = Options(on_event=events.append)
        with colour(
            {name: f"redis://someone:sesame@{url}"}, timeout=LONG_TIMEOUT, options=options
        ) as cache:
            for _ in range(3):
                with pytest.raises(AuthenticationFailed):
                    cache.get("k")
    [line] = lines()
    assert line.startswith(
        f"shard '{name}' does not accept the login, or its certificate is "
        "not accepted: refuses the login"
    )
    assert not any(secret in line + repr(events) for secret in ("someone", "sesame", "hunter2"))
    assert [event.kind for event in events] == ["auth_failed"] * 3


def test_password_rotated(
    colour: Any, server: Any, name: str, lines: Callable[[], list[str]]
) -> None:
    """A password that is changed under a running client shows in the log as what it is."""
    with (
        colour({name: server.url}, timeout=LONG_TIMEOUT) as cache,
        redis.Redis.from_url(server.url) as plain,
    ):
        assert cache.set("k", 1)
        plain.config_set("requirepass", "hunter2")
        plain.client_kill_filter(_type="normal", skipme=True)
        cache.get("k")
    assert any(line.startswith(f"shard '{name}' does not accept the login") for line in lines())


def record(at: float, about: object = "a") -> logging.LogRecord:
    return logging.makeLogRecord({"created": at, "msg": "damaged", "shardcache_repeats": about})


def test_once_in_a_while() -> None:
    """A warning of one kind about one shard passes once in its time, then counts the others."""
    limit = Repeats(60)
    times = (0.0, 1.0, 59.0, 60.0, 61.0, 125.0, 300.0)
    records = [record(at) for at in times]
    passed = [limit.filter(one) for one in records]
    assert passed == [True, False, False, True, False, True, True]
    assert [one.msg for one, through in zip(records, passed, strict=True) if through] == [
        "damaged",
        "damaged (and 2 more like it before)",
        "damaged (and 1 more like it before)",
        "damaged",
    ]
    assert [limit.filter(record(301.0, about)) for about in ("a", "b", ("a", 1))] == [
        False,
        True,
        True,
    ]


def test_flapping(lines: Callable[[], list[str]], name: str) -> None:
    """A shard that comes and goes all the time has ten lines a minute; the last one says so."""
    for _ in range(20):
        emit(None, Event("shard_out", name, error=ShardOut(name, "gone")))
        emit(None, Event("shard_back", name))
    emit(None, Event("shard_out", f"{name}-2", error=ShardOut(name, "gone")))
    out, back = f"shard '{name}' is out of service: gone", f"shard '{name}' is back in service"
    found = lines()
    assert found[:9] == [out, back] * 4 + [out]
    assert found[9].startswith(f"{back} (it comes and goes: what follows in the next ")
    assert found[10:] == [f"shard '{name}-2' is out of service: gone"]


def test_after_a_burst() -> None:
    """In the next minute the first line says how many were held back."""
    limit = Repeats(60)
    records = [record(at) for at in (0.0, 1.0, 2.0, 3.0, 61.0)]
    for one in records:
        vars(one)["shardcache_burst"] = 2
    assert [limit.filter(one) for one in records] == [True, True, False, False, True]
    assert [one.msg for one in (records[0], records[1], records[4])] == [
        "damaged",
        "damaged (it comes and goes: what follows in the next 59 s is not logged)",
        "damaged (and 2 more like it before)",
    ]


def test_a_clock_set_back_does_not_silence() -> None:
    """A clock that jumps back by more than the time lets the next warning pass."""
    limit = Repeats(60)
    assert [limit.filter(record(at)) for at in (1000.0, 990.0, 100.0)] == [True, False, True]


def test_memory_of_the_limit_is_bounded() -> None:
    """However many shards and locks there are, it does not remember more than it may."""
    limit = Repeats(60, most=10)
    assert all(limit.filter(record(0.0, number)) for number in range(1000))
    assert len(limit._let_through) <= 10


def test_other_records_pass() -> None:
    """What is not limited is not touched."""
    plain = logging.makeLogRecord({"msg": "x"})
    assert ([Repeats().filter(plain) for _ in range(3)], plain.msg) == ([True] * 3, "x")


def test_lost_lock(lines: Callable[[], list[str]], name: str) -> None:
    """A lost lock is a warning that names it."""
    emit(None, Event("lock_lost", "", "lock", 1, LockLost(name, "the lease has ended")))
    assert lines() == [f"lock '{name}' is lost: the lease has ended"]


def test_loaders_text_is_left_out(lines: Callable[[], list[str]]) -> None:
    """Of a load that failed in the background the log has only the kind of error."""
    emit(None, Event("load_failed", "", f"get_or_set-{uuid.uuid4().hex}", 1, ValueError("hunter2")))
    [line] = lines()
    assert (line.endswith(": ValueError"), "hunter2" in line) == (True, False)


@pytest.mark.parametrize("kind", ["degraded_read", "dropped_write"])
def test_calls_are_not_logged(kind: Any, lines: Callable[[], list[str]]) -> None:
    """What happens with each call is for the counters and the hook."""
    emit(None, Event(kind, "a", "get", 1, AuthenticationFailed("a", "x")))
    assert lines() == []


def test_silent_unless_asked_for() -> None:
    """An application that has set up no logging sees nothing on its standard error."""
    code = "from shardcache.events import Event, emit; emit(None, Event('shard_out', 'a'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
