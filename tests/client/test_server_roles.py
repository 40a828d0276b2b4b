"""Servers that have no place on a ring: roles, logins, databases, versions without HELLO."""

import asyncio
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from shardcache import Options
from shardcache.embedded import LocalShards
from shardcache.embedded.server_program import find_server
from shardcache.errors import AuthenticationFailed, CommandRefused, InvalidURL, WrongTopology
from shardcache.urls import parse_url
from shardcache.wire.aio.dialer import AsyncDialer
from shardcache.wire.server_kind import check_kind
from shardcache.wire.sync.dialer import Dialer

LONG_TIMEOUT = 20.0  # seconds: the deadline of what is not about time
protocols = pytest.mark.parametrize("protocol", [3, 2], ids=["resp3", "resp2"])
CALLS = {
    "get": lambda cache: cache.get("k"),
    "get_many": lambda cache: cache.get_many(["k"]),
    "set": lambda cache: cache.set("k", 1),
    "set_many": lambda cache: cache.set_many({"k": 1}),
    "scan": lambda cache: list(cache.scan()),
    "clear": lambda cache: cache.clear(),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def replica() -> Iterator[str]:
    """The URL of a replica."""
    with LocalShards(1, tcp=True) as primary:
        port = primary.urls["shard-1"].rpartition(":")[2].partition("/")[0]
        with LocalShards(1, options={"replicaof": f"127.0.0.1 {port}"}) as follower:
            yield follower.urls["shard-1"]


@pytest.fixture(scope="module")
def member() -> Iterator[str]:
    """The URL of a server that is part of a Redis Cluster."""
    options = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    with LocalShards(1, tcp=True, options=options) as servers:
        yield servers.urls["shard-1"]


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory) -> Iterator[str]:
    """The URL of a Sentinel."""
    port, folder = free_port(), tmp_path_factory.mktemp("sentinel")
    config = folder / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\ndir {folder}\n")
    process = subprocess.Popen(
        [find_server(), str(config), "--sentinel"], stdout=subprocess.DEVNULL
    )
    try:
        with redis.Redis(port=port) as plain:
            while True:  # ends by the limit on each test
                try:
                    assert plain.ping()
                    break
                except redis.ConnectionError:
                    assert process.poll() is None
                    time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


@protocols
@each_call
@pytest.mark.parametrize("policy", ["degrade", "raise"])
def test_replica(make, replica, protocol, call, policy) -> None:
    """A replica is a clear error at the first connection, under "degrade" too."""
    cache = make({"a": replica}, on_unavailable=policy, options=Options(protocol=protocol))
    with pytest.raises(WrongTopology, match=r"'a'.*replica") as caught:
        call(cache)
    assert (caught.value.shard, cache.stats().errors, cache.stats().shards["a"].connects) == (
        "a",
        1,
        0,
    )


@protocols
@pytest.mark.parametrize("db", [0, 1])
def test_cluster_member(make, member, protocol, db) -> None:
    """A cluster member is a clear error, also where its URL names a database."""
    cache = make({"a": member.removesuffix("0") + str(db)}, options=Options(protocol=protocol))
    with pytest.raises(WrongTopology, match=r"Redis Cluster: write redis\+cluster://host:port"):
        cache.get("k")


@pytest.mark.parametrize("text", ["redis+cluster://h/1", "redis+cluster://h?db=1"])
def test_a_cluster_has_one_database(colour, text) -> None:
    """Another one than 0 is refused before anything is sent."""
    with pytest.raises(InvalidURL, match="a cluster has only database 0"):
        colour.from_url(text)


@protocols
@pytest.mark.parametrize("db", [0, 1])
def test_sentinel(make, sentinel, protocol, db) -> None:
    """A Sentinel is a clear error, also where its URL names a database."""
    cache = make({"a": sentinel.removesuffix("0") + str(db)}, options=Options(protocol=protocol))
    with pytest.raises(WrongTopology, match="Sentinel"):
        cache.get("k")


def test_ping_and_fetch_many_tell_the_topology(make, replica, shards) -> None:
    """Ping and fetch_many have the error in its place, and serve the other shards."""
    cache = make({"a": replica, "b": shards.urls["shard-1"]})
    keys = [str(number) for number in range(50)]
    assert (cache.ping()["a"].error_type, cache.ping()["b"].ok) == ("WrongTopology", True)
    failures = cache.fetch_many(keys).failures
    assert {type(error) for error in failures.values()} == {WrongTopology}
    assert sorted(failures) == sorted(key for key in keys if cache.explain(key).shard == "a")


# What an error says of each kind of server where another one is expected.
NAMED = {
    "standalone": "independent server|data server",
    "replica": "replica|independent server|data server",
    "cluster": "is a member of a Redis Cluster",
    "sentinel": "is a Sentinel",
}


def dial(colour: str, url: str, protocol: int, kind: str) -> None:
    """Open a connection that expects a server of this kind, and close it."""
    address, options = parse_url(url).address, Options(protocol=protocol)
    if colour == "sync":
        deadline = time.monotonic() + LONG_TIMEOUT
        Dialer("a", address, options, time.monotonic, kind)(deadline).close()
        return

    async def dial_on_a_loop() -> None:
        deadline = asyncio.get_running_loop().time() + LONG_TIMEOUT
        opened = await AsyncDialer("a", address, options, kind)(
            deadline, LONG_TIMEOUT, lambda *_: None, lambda _: None
        )
        opened.end(ConnectionError("the test is over"))
        await opened.wait_closed()

    asyncio.run(dial_on_a_loop())


@protocols
@pytest.mark.parametrize("dialer", ["sync", "async"])
@pytest.mark.parametrize("kind", ["standalone", "replica", "cluster", "sentinel"])
def test_dialer_takes_only_the_kind_that_it_expects(
    request, shards, dialer, protocol, kind
) -> None:
    """A connection is made to a server of the kind expected only; any other is named."""
    of_kind = {
        "standalone": shards.urls["shard-1"],
        "replica": request.getfixturevalue("replica"),
        "cluster": request.getfixturevalue("member"),
        "sentinel": request.getfixturevalue("sentinel"),
    }
    fits = {kind} | ({"standalone"} if kind == "replica" else set())
    for other, url in of_kind.items():
        if other in fits:
            dial(dialer, url, protocol, kind)
        else:
            with pytest.raises(WrongTopology, match=NAMED[other]):
                dial(dialer, url, protocol, kind)


@pytest.mark.parametrize("said", [b"", b"proxy", None, [], {}], ids=repr)
@pytest.mark.parametrize("kind", ["standalone", "replica", "cluster", "sentinel"])
def test_unknown_mode_is_let_by(kind, said) -> None:
    """A proxy that says nothing of its mode and role, or something odd, is no error."""
    check_kind("a", kind, said, said)


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """``127.0.0.1:port`` of a server that asks for a password, and knows one limited user."""
    options = {"requirepass": "se/cr:et", "user": "ann on >pa@ss ~* +@all -@dangerous +scan"}
    with LocalShards(1, tcp=True, options=options) as servers:
        yield servers.urls["shard-1"].removeprefix("redis://").removesuffix("/0")


@protocols
@pytest.mark.parametrize("login", ["", "wrong@", ":wrong@", "ann:wrong@", "nobody:se%2Fcr%3Aet@"])
@pytest.mark.parametrize("call", [CALLS["get"], CALLS["set_many"]], ids=["get", "set_many"])
def test_wrong_login(make, guarded, protocol, login, call) -> None:
    """No password or a wrong one is a clear error, under "degrade" too, and is not quoted."""
    cache = make({"a": f"redis://{login}{guarded}/0"}, options=Options(protocol=protocol))
    with pytest.raises(AuthenticationFailed) as caught:
        call(cache)
    assert (caught.value.shard, "wrong@" in str(caught.value), "se/cr" in str(caught.value)) == (
        "a",
        False,
        False,
    )
    assert cache.stats().shards["a"].state == "closed"


@protocols
@pytest.mark.parametrize("login", [":se%2Fcr%3Aet@", "default:se%2Fcr%3Aet@", "ann:pa%40ss@"])
def test_login(make, guarded, protocol, login) -> None:
    """The default user's password and an ACL user's are taken, percent signs decoded."""
    cache = make({"a": f"redis://{login}{guarded}/1"}, options=Options(protocol=protocol))
    assert (cache.set("k", 1), cache.get("k"), cache.incr("n", initial=0), cache.clear()) == (
        True,
        1,
        1,
        2,
    )


def test_forbidden_command(make, guarded) -> None:
    """A command that the ACL forbids is refused with its code, not hidden by "degrade"."""
    cache = make({"a": f"redis://ann:pa%40ss@{guarded}/0"})
    with pytest.raises(CommandRefused, match="NOPERM") as caught:
        cache.clear(flush=True)
    assert caught.value.code == "NOPERM"


@protocols
def test_credential_provider(make, guarded, protocol) -> None:
    """A provider is asked for the login of each connection."""

    class Provider:
        def get_credentials(self) -> tuple[str, ...]:
            return ("se/cr:et",)

    cache = make(
        {"a": f"redis://{guarded}/0"},
        options=Options(protocol=protocol, credential_provider=Provider()),
    )
    assert (cache.set("k", 1), cache.get("k")) == (True, 1)


@protocols
def test_database(make, shards, protocol) -> None:
    """Two databases of one server are two worlds."""
    url = shards.urls["shard-1"].removesuffix("0")
    zero, three = (make({"a": f"{url}{db}"}, options=Options(protocol=protocol)) for db in (0, 3))
    zero.set("k", 1)
    assert (zero.get("k"), three.get("k"), three.clear(), zero.clear()) == (1, None, 0, 1)


@protocols
def test_database_out_of_range(make, shards, protocol) -> None:
    """A database that the server lacks is a clear error that names it, under "degrade" too."""
    cache = make(
        {"a": shards.urls["shard-1"].removesuffix("0") + "999"}, options=Options(protocol=protocol)
    )
    with pytest.raises(CommandRefused, match="999"):
        cache.get("k")


class OldServer(socketserver.StreamRequestHandler):
    """A server from before HELLO that stores nothing and has heard everything."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:-2])
            self.server.heard.append(words[0])
            self.wfile.write(
                {
                    b"INFO": b"$33\r\n# Server\r\nredis_mode:standalone\r\n\r\n",
                    b"ROLE": b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n",
                    b"GET": b"$2\r\n42\r\n",
                    b"AUTH": b"+OK\r\n",
                    b"SELECT": b"+OK\r\n",
                }.get(words[0], b"-ERR unknown command '%s'\r\n" % words[0])
            )


@pytest.fixture
def old() -> Iterator[socketserver.ThreadingTCPServer]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), OldServer) as server:
        server.daemon_threads = True
        server.heard = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_old_server(make, old) -> None:
    """A server that does not know HELLO is spoken to in RESP2 on the same connection."""
    cache = make({"a": f"redis://:secret@127.0.0.1:{old.server_address[1]}/2"})
    assert cache.get("k") == 42
    assert old.heard == [b"HELLO", b"SELECT", b"INFO", b"AUTH", b"SELECT", b"INFO", b"ROLE", b"GET"]
    cache.close()
