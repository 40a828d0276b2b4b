"""`command`: for what the client has no method; `redis`: a client of redis-py for a shard."""

import pytest
import redis
import redis.asyncio

from shardcache import Options, errors
from shardcache.flows.one_command import READING, WRITING, packed
from tests.hostile.server import HostileServer


def test_hash(cache, raw, namespace):
    """Arguments of every kind; the key has its namespace, and lies on its own shard."""
    assert cache.command("user:1", "HSET", "name", "Ada", b"age", 36, "score", 1.5) == 3
    assert raw(cache, "user:1").hgetall(f"{namespace}:user:1") == {
        b"name": b"Ada",
        b"age": b"36",
        b"score": b"1.5",
    }
    assert cache.command("user:1", "HGET", "name") == b"Ada"
    assert cache.command("user:1", "hincrby", "age", 1) == 37
    assert cache.command("user:1", "HMGET", "name", "nothing") == [b"Ada", None]
    assert cache.command("user:1", "HGETALL") == {b"name": b"Ada", b"age": b"37", b"score": b"1.5"}
    assert cache.command(b"user:1", "OBJECT ENCODING") in (b"listpack", b"ziplist")


@pytest.mark.parametrize(
    ("commands", "replies"),
    [
        ([("RPUSH", "a", "b"), ("LRANGE", 0, -1), ("LPOP",)], [2, [b"a", b"b"], b"a"]),
        ([("ZADD", 2.5, "a", 1, "b"), ("ZRANGE", 0, -1), ("ZSCORE", "a")], [2, [b"b", b"a"], 2.5]),
        ([("SADD", "a"), ("SISMEMBER", "a"), ("SCARD",)], [1, 1, 1]),
        ([("XADD", "1-1", "f", "v"), ("XLEN",), ("XGROUP CREATE", "g", "$")], [b"1-1", 1, b"OK"]),
        ([("SETBIT", 7, 1), ("GETRANGE", 0, 0), ("GET",)], [0, b"\x01", b"\x01"]),
        ([("PFADD", "a"), ("EXPIRE", 100), ("TYPE",)], [1, 1, b"string"]),
        ([("HGET", "f"), ("LPOP",)], [None, None]),
    ],
    ids=["list", "sorted set", "set", "stream", "bits", "generic", "absent"],
)
def test_other_types(cache, commands, replies):
    """Replies come as the server sends them."""
    assert [cache.command("k", *command) for command in commands] == replies


def test_script(cache, namespace):
    """A script gets the key with its namespace, and the arguments behind it."""
    assert cache.command("k", "EVAL", "return {KEYS[1], ARGV[1], #KEYS}", 7) == [
        f"{namespace}:k".encode(),
        b"7",
        1,
    ]
    with cache.pipeline() as pipe:
        pipe.command("k", "eval", "return redis.call('INCR', KEYS[1])")
        pipe.get("k")
    assert pipe.results == [1, 1]
    with pytest.raises(errors.InvalidArgument, match="the script as its first argument"):
        cache.command("k", "EVAL")
    with pytest.raises(errors.CommandRefused):
        cache.command("k", "EVAL", "no Lua")


def test_in_a_pipeline(cache):
    """Queued like the methods, in order."""
    with cache.pipeline() as pipe:
        pipe.command("h", "HSET", "a", 1)
        pipe.set("k", 1)
        pipe.command("h", "HGET", "a")
    assert pipe.results == [1, True, b"1"]


def test_a_write_voids_a_load(cache):
    """What was loaded before the command does not overwrite what it wrote."""
    target = getattr(cache, "_target", None)

    def load():
        cache.command("k", "SET", "newer")
        return "older"

    async def aload():
        await target.command("k", "SET", "newer")
        return "older"

    assert cache.get_or_set("k", aload if target else load) == "older"
    assert cache.get("k") == b"newer"


def test_too_long_a_reply(make):
    """A value in the reply may have about max_value bytes; an error says so, not a part of it."""
    cache = make(options=Options(max_value=64 * 1024), on_unavailable="raise")
    cache.command("l", "RPUSH", b"short", b"x" * 1_000_000)
    assert cache.command("l", "LRANGE", 0, 0) == [b"short"]
    with pytest.raises(errors.ReplyTooLarge, match="more than can be") as caught:
        cache.command("l", "LRANGE", 0, -1)
    assert caught.value.shard == cache.explain("l").shard


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("BLPOP", (0,)),
        ("SUBSCRIBE", ()),
        ("MULTI", ()),
        ("SELECT", (1,)),
        ("FLUSHALL", ()),
        ("EVALSHA", ("abc", 0)),
        ("MGET", ("other",)),
        ("DEL", ("other",)),
        ("SINTERSTORE", ("other",)),
        ("JSON.MGET", ("$",)),
        ("FT.SEARCH", ()),
        ("CLIENT KILL", ()),
        ("OBJECT", ("ENCODING",)),
        ("", ()),
        ("HSET\r\nFLUSHALL", ()),
        (b"HSET", ()),
        (None, ()),
        ("HSET", ("a", None)),
        ("HSET", ("a", True)),
        ("HSET", ("a", [1])),
        ("HSET", ("a", float("nan"))),
        ("HSET", ("a", "\udc80")),
    ],
    ids=repr,
)
def test_refused_before_anything_is_sent(make, name, arguments):
    """Other commands and arguments; the shard that is not there is never asked."""
    cache = make(["redis://127.0.0.1:1"], on_unavailable="raise")
    with pytest.raises(errors.InvalidArgument):
        cache.command("k", name, *arguments)


def test_the_key_is_checked(cache):
    """As by all methods."""
    with pytest.raises(errors.InvalidKey):
        cache.command("", "HGET", "a")


def test_errors_of_the_server(cache):
    """A wrong type and a wrong number of arguments are errors, under "degrade" too."""
    cache.set("k", "text")
    with pytest.raises(errors.WrongType) as caught:
        cache.command("k", "HGET", "a")
    assert caught.value.shard == cache.explain("k").shard
    with pytest.raises(errors.CommandRefused):
        cache.command("k", "HSET", "a")


@pytest.mark.parametrize(("name", "kind"), [("HGET", "degraded_read"), ("HSET", "dropped_write")])
def test_with_the_shard_out(make, events, name, kind):
    """None and an event under "degrade", `ShardUnavailable` under "raise"."""
    cache = make(["redis://127.0.0.1:1"], timeout=5.0, options=Options(on_event=events.append))
    assert cache.command("k", name, "a", "b") is None
    assert [event.kind for event in events if event.kind in ("degraded_read", "dropped_write")] == [
        kind
    ]
    strict = make(["redis://127.0.0.1:1"], timeout=5.0, on_unavailable="raise")
    with pytest.raises(errors.ShardUnavailable):
        strict.command("k", name, "a", "b")


def test_only_reads_are_sent_twice():
    """What may have had its effect is not repeated."""
    assert {packed(b"k", name, ())[0].idempotent for name in READING} == {True}
    assert {packed(b"k", name, ())[0].writes for name in READING} == {False}
    assert {packed(b"k", name, ())[0].idempotent for name in (*WRITING, "JSON.SET", "BF.ADD")} == {
        False
    }
    assert {packed(b"k", name, ())[0].writes for name in (*WRITING, "JSON.SET", "BF.ADD")} == {True}
    assert READING.isdisjoint(WRITING)


def test_what_the_server_says_of_them(shards):
    """Each command's own description says: one key, which is first; no wait; what is a read."""
    with redis.Redis.from_url(next(iter(shards.urls.values()))) as server:
        described = {name.decode().upper(): said for name, said in _info(server)}
    for name in READING | WRITING:
        said = described.get(name.replace(" ", "|"))
        if said is None:  # of a later server
            continue
        flags, first, last = said
        words = len(name.split())
        assert (first, last) == (words, words), name
        assert "blocking" not in flags or name.startswith("X"), name
        assert ("write" in flags) is (name in WRITING), name


def _info(server):
    """Yield every command and subcommand with its flags and the places of its keys.

    They are read from the reply itself, past redis-py's reading of it.
    """
    connection = server.connection_pool.get_connection()
    try:
        connection.send_command("COMMAND")
        for name, _, flags, first, last, _, _, _, _, subcommands in connection.read_response():
            yield name, ({flag.decode() for flag in flags}, first, last)
            for inner, _, more, begin, end, *_ in subcommands:
                yield inner, ({flag.decode() for flag in more}, begin, end)
    finally:
        server.connection_pool.release(connection)


def test_a_client_of_redis_py(cache, namespace):
    """For all else: the key's own shard, and what it writes is there."""
    target = getattr(cache, "_target", None)
    cache.set("k", 1)
    wire = cache.explain("k").wire_key
    if target is None:
        with cache.redis("k") as plain:
            assert (type(plain), plain.get(wire), plain.rename(wire, f"{namespace}:{{k}}")) == (
                redis.Redis,
                b"1",
                True,
            )
        return

    async def run():
        async with target.redis("k") as plain:
            assert (type(plain), await plain.get(wire)) == (redis.asyncio.Redis, b"1")

    cache._finish(run)


@pytest.mark.parametrize(
    ("url", "settings", "expected"),
    [
        (
            "redis://user:s3cret@h1:7/3",
            {},
            {
                "host": "h1",
                "port": 7,
                "db": 3,
                "username": "user",
                "password": "s3cret",
                "socket_timeout": 0.25,
            },
        ),
        (
            "redis://:s3cret@h1",
            {"client_name": "web", "protocol": 2},
            {"username": None, "password": "s3cret", "client_name": "web"},
        ),
        ("unix:///run/v.sock?db=2", {}, {"path": "/run/v.sock", "db": 2}),
        (
            "rediss://h1?ssl_cert_reqs=none",
            {},
            {"host": "h1", "ssl_cert_reqs": "none", "ssl_check_hostname": False},
        ),
        (
            "rediss://h1",
            {},
            {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": None},
        ),
    ],
    ids=["login", "password", "unix", "unverified", "tls"],
)
def test_with_login_and_tls(make, url, settings, expected):
    """Address, login, database, TLS and timeout are the shard's; nothing connects before use."""
    cache = make([url], timeout=0.25, options=Options(**settings))
    found = cache.redis("k").connection_pool.connection_kwargs
    assert {name: found[name] for name in expected} == expected
    assert (
        "SSL"
        in getattr(cache, "_target", cache).redis("k").connection_pool.connection_class.__name__
    ) is url.startswith("rediss")


def test_with_a_credential_provider(make):
    """It is asked, and a login in the URL is not used besides."""
    provider = redis.UsernamePasswordCredentialProvider("user", "s3cret")
    cache = make(["redis://other:login@h1"], options=Options(credential_provider=provider))
    found = cache.redis("k").connection_pool.connection_kwargs
    assert (found["credential_provider"] is provider, found.get("password")) == (True, None)


def test_nothing_is_tried_again(make):
    """A command is sent once, because each further try would take the timeout anew."""
    with HostileServer(lambda command: [b"" if command[0] == b"GET" else b"+OK\r\n"]) as server:
        cache = make([server.url], timeout=5.0)
        target = getattr(cache, "_target", None)

        async def ask():
            async with target.redis("k") as plain:
                await plain.get("k")

        with pytest.raises(redis.ConnectionError):
            if target is not None:
                cache._finish(ask)
            else:
                with cache.redis("k") as plain:
                    plain.get("k")
        assert [command[0] for command in server.asked].count(b"GET") == 1
