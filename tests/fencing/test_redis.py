"""Fencing on a server: a late write is refused by the server itself, for both of redis-py."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
import redis
import redis.asyncio
import redis.crc
from hypothesis import given
from hypothesis import strategies as st

from shardcache import errors
from shardcache.embedded import LocalShards
from shardcache.fencing import FencedRedis
from shardcache.fencing.redis import guard_of
from shardcache.keys import hash_tag


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """One server for the module."""
    with LocalShards(1) as shards:
        yield shards.urls["shard-1"]


@pytest.fixture(params=[False, True], ids=["bytes", "text"])
def client(url, request) -> Iterator[redis.Redis]:
    """A client whose replies are bytes, or text."""
    with redis.Redis.from_url(url, decode_responses=request.param) as client:
        yield client


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def plain(url) -> Iterator[redis.Redis]:
    """A client to look past the fence."""
    with redis.Redis.from_url(url) as client:
        yield client


def test_paused_holder_is_refused(client, plain, key) -> None:
    """A holder that slept through its lease, and the next one's writes, changes nothing."""
    FencedRedis(client).set(key, "of B", 6)
    late = FencedRedis(client)
    for write in (
        lambda: late.set(key, "of A", 5),
        lambda: late.delete(key, 5),
        lambda: late.run("return redis.call('APPEND', KEYS[1], 'of A')", [key], [], 5),
    ):
        with pytest.raises(errors.StaleToken) as caught:
            write()
        assert (caught.value.resource, caught.value.token, caught.value.seen) == (key, 5, 6)
    assert plain.get(key) == b"of B"


def test_same_holder_writes_twice(client, plain, key) -> None:
    """An equal token is not older."""
    fenced = FencedRedis(client)
    assert [fenced.set(key, value, 6) for value in ("first", b"second", 3)] == [True] * 3
    assert plain.get(key) == b"3"


def test_deleted_key_remembers(client, plain, key) -> None:
    """Deleting leaves the guard, so that a late write does not bring the old value back."""
    fenced = FencedRedis(client)
    fenced.set(key, "of B", 6)
    assert (fenced.delete(key, 6), fenced.delete(key, 6)) == (True, False)
    with pytest.raises(errors.StaleToken):
        fenced.set(key, "of A", 5)
    assert plain.get(key) is None


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (9, 10),
        (99, 100),
        (2**53, 2**53 + 1),
        (2**63 - 2, 2**63 - 1),
        (1_800_000_000_000_000, 1_800_000_000_000_001),
    ],
)
def test_tokens_are_compared_to_the_last_digit(low, high, client, key) -> None:
    """No token is rounded on the server, and a longer one is greater."""
    fenced = FencedRedis(client)
    fenced.set(key, "low", low)
    fenced.set(key, "high", high)
    with pytest.raises(errors.StaleToken, match=f"seen token {high}, so {low} is refused"):
        fenced.set(key, "late", low)


def test_ttl(client, plain, key) -> None:
    """A ttl is seconds, as in the cache's own set; zero deletes; None stays for ever."""
    fenced = FencedRedis(client)
    fenced.set(key, "x", 1, ttl=1000)
    assert 990_000 < plain.pttl(key) <= 1_000_000
    fenced.set(key, "x", 1)
    assert (plain.pttl(key), plain.pttl(guard_of(key))) == (-1, -1)
    fenced.set(key, "x", 1, ttl=0)
    assert (plain.get(key), plain.get(guard_of(key))) == (None, b"1")


def test_guard_ttl(client, plain, key) -> None:
    """A guard that may go stays for the given time after the last write."""
    FencedRedis(client, guard_ttl=1000).set(key, "x", 1)
    assert 990_000 < plain.pttl(guard_of(key)) <= 1_000_000
    FencedRedis(client).set(key, "x", 1)
    assert plain.pttl(guard_of(key)) == -1


def test_script(client, plain, key) -> None:
    """A script sees its own keys and arguments, and its reply comes back."""
    fenced = FencedRedis(client)
    body = (
        "redis.call('RPUSH', KEYS[2], KEYS[1], unpack(ARGV)) return {#KEYS, "
        "#ARGV, tonumber(ARGV[1]) + 1} -- done"
    )
    assert fenced.run(body, [key, f"{key}:list"], [41, "b"], 7) == [2, 2, 42]
    assert plain.lrange(f"{key}:list", 0, -1) == [key.encode(), b"41", b"b"]
    assert fenced.run("local nothing", [key], [], 7) is None
    assert fenced.run("return #KEYS", [], [], 7, guard=key) == 0
    with pytest.raises(errors.StaleToken):
        fenced.run("return #KEYS", [], [], 6, guard=key)


@pytest.mark.parametrize(
    "body",
    [
        "return redis.call('NOSUCH')",
        "return redis.pcall('NOSUCH')",
        "return redis.error_reply('NOSUCH')",
    ],
)
def test_failing_script(body, client, plain, key) -> None:
    """An error of the script is raised, and its token counts as seen."""
    with pytest.raises(redis.ResponseError):
        FencedRedis(client).run(body, [key], [], 7)
    assert plain.get(guard_of(key)) == b"7"


def test_foreign_guard_lets_nobody_in(client, plain, key) -> None:
    """Where the guard holds something else, nothing is written."""
    for junk in (b"", b"x", b"-1", b"007", b"7 "):
        plain.set(guard_of(key), junk)
        with pytest.raises(errors.DamagedPayload, match="should hold a fencing token"):
            FencedRedis(client).set(key, "x", 7)
    assert plain.get(key) is None


def test_asyncio(url, plain, key) -> None:
    """With redis-py's asyncio client the same calls are awaited."""

    async def work() -> None:
        async with redis.asyncio.Redis.from_url(url) as client:
            fenced = FencedRedis(client)
            assert await fenced.set(key, "of B", 6) is True
            with pytest.raises(errors.StaleToken):
                await fenced.set(key, "of A", 5)
            assert await fenced.run("return KEYS[1]", [key], [], 6) == key.encode()
            assert await fenced.delete(key, 6) is True
            with pytest.raises(errors.InvalidToken):
                fenced.set(key, "x", -1)  # at once, and nothing is left to await

    asyncio.run(work())
    assert plain.get(key) is None


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda fenced: fenced.set("", "x", 1), errors.InvalidKey),
        (lambda fenced: fenced.set(3, "x", 1), errors.InvalidKey),
        (lambda fenced: fenced.set("k", True, 1), errors.InvalidArgument),
        (lambda fenced: fenced.set("k", None, 1), errors.InvalidArgument),
        (lambda fenced: fenced.set("k", "x", 1, ttl="9"), errors.InvalidTTL),
        (lambda fenced: fenced.run(b"return 1", ["k"], [], 1), errors.InvalidArgument),
        (lambda fenced: fenced.run("return 1", [], [], 1), errors.InvalidArgument),
        (lambda fenced: fenced.run("return 1", "k", [], 1), errors.InvalidArgument),
        (FencedRedis, errors.InvalidOption),
        (lambda _: FencedRedis(redis.Redis(), guard_ttl=0), errors.InvalidTTL),
    ],
    ids=[
        "empty",
        "int-key",
        "bool",
        "none",
        "ttl",
        "script",
        "no-keys",
        "lone-key",
        "client",
        "guard-ttl",
    ],
)
def test_wrong_arguments(call, kind) -> None:
    """A wrong argument is refused before anything is sent: here there is no server at all."""

    class Nobody:
        def eval(self, *_: object) -> None:
            raise AssertionError("sent")

    with pytest.raises(kind):
        call(FencedRedis(Nobody()))


KEYS = st.text(alphabet="ab{}:", min_size=1)


@given(KEYS)
def test_guard_lies_beside_its_key(key) -> None:
    """In a cluster, key and guard have the same slot; a closing brace without a tag is refused."""
    untaggable = hash_tag(key.encode()) == key.encode() and "}" in key
    assert untaggable or redis.crc.key_slot(guard_of(key)) == redis.crc.key_slot(key.encode())


@given(st.sets(st.one_of(KEYS, st.sampled_from(["x", "{x}", "fence:{x}", "{x}:fence", "x:fence"]))))
def test_no_two_keys_share_a_guard(keys) -> None:
    """Locks of different keys know nothing of each other."""
    assert len({guard_of(key) for key in keys}) == len(keys)


WORKER = """
import random, sys
import redis
from shardcache.errors import StaleToken
from shardcache.fencing import FencedRedis
url, key, seed = sys.argv[1:]
chance = random.Random(seed)
with redis.Redis.from_url(url) as client:
    fenced = FencedRedis(client)
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(300):
        token = chance.randrange(1, 2**63)
        try:
            fenced.run("redis.call('SET', KEYS[1], ARGV[1]) redis.call('RPUSH', KEYS[2], ARGV[1])",
                       [key, key + ":history"], [token], token)
        except StaleToken:
            pass
"""


def test_processes_with_random_tokens(url, plain, key) -> None:
    """Whatever several processes try at once, no write follows one with a higher token."""
    crew = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, url, key, str(seed)],
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
    history = [int(token) for token in plain.lrange(f"{key}:history", 0, -1)]
    assert history == sorted(history)
    assert [int(plain.get(name)) for name in (key, guard_of(key))] == [history[-1]] * 2
    assert len(history) > 1
