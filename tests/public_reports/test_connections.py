"""Servers and proxies that are set up in unusual ways, and connections that end."""

import asyncio
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import redis

from shardcache import AsyncShardCache, Options, ShardCache
from shardcache.embedded import LocalShards
from shardcache.errors import ClientClosed, ShardUnavailable
from tests.waiting import until

protocols = pytest.mark.parametrize("protocol", [3, 2], ids=["resp3", "resp2"])


def plain(url: str) -> redis.Redis:
    """Return a connection that knows nothing of shardcache."""
    return redis.Redis.from_url(url, single_connection_client=True)


def with_login(url: str, login: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{login}@{rest}"


# StackExchange.Redis #2968, RedisInsight #4377
@protocols
def test_a_user_without_dangerous_commands(make, protocol) -> None:
    """A user who may run no command of the category "dangerous" loads, locks, scans and clears."""
    with LocalShards(3) as servers:
        for url in servers.urls.values():
            with plain(url) as server:
                server.execute_command(
                    "ACL", "SETUSER", "app", "on", ">secret", "~shop:*", "+@all", "-@dangerous"
                )
        urls = {name: with_login(url, "app:secret") for name, url in servers.urls.items()}
        cache = make(
            urls,
            namespace="shop",
            options=Options(protocol=protocol, client_name="web"),
            on_unavailable="raise",
        )
        assert (cache.set("k", 1), cache.get("k"), cache.incr("k")) == (True, 1, 2)
        assert cache.get_or_set("l", lambda: 1, tags=["t"]) == 1
        with cache.lock("x", 5, timeout=20) as lock:
            assert lock.held
        assert sorted(cache.scan()) == ["k", "l"]
        assert cache.clear() == 2
        assert [result.ok for result in cache.ping().values()] == [True] * 3


# redis-py #2384, apollographql/router #2825, twemproxy #460: a name for operators is nothing to
# fail for
@protocols
def test_a_server_that_takes_no_client_name(make, protocol) -> None:
    """Where CLIENT is switched off, connections go without their name."""
    with LocalShards(1, options={"rename-command": 'CLIENT ""'}) as servers:
        cache = make(
            servers.urls,
            options=Options(protocol=protocol, client_name="web"),
            on_unavailable="raise",
        )
        assert (cache.set("k", 1), cache.get("k"), cache.get_many(["k"])) == (True, 1, {"k": 1})


class Proxy(socketserver.StreamRequestHandler):
    """Speaks RESP2, knows some commands only, and refuses all others by ``server.words``."""

    def handle(self) -> None:
        known = {b"GET": b"$2\r\n42\r\n", b"AUTH": b"+OK\r\n", b"SELECT": b"+OK\r\n"}
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:-2])
            refusal = self.server.words.format(words[0].decode()).encode()  # type: ignore[attr-defined]
            self.wfile.write(known.get(words[0], b"-" + refusal + b"\r\n"))


class Refusing(socketserver.StreamRequestHandler):
    """Says one thing to everybody, and hangs up."""

    def handle(self) -> None:
        self.wfile.write(self.server.words)  # type: ignore[attr-defined]


@contextmanager
def serving(
    handler: type[socketserver.BaseRequestHandler], words: Any, path: str | None = None
) -> Iterator[str]:
    """Serve in a thread; yield the URL."""
    kind = (
        socketserver.ThreadingTCPServer if path is None else socketserver.ThreadingUnixStreamServer
    )
    with kind(path or ("127.0.0.1", 0), handler) as server:  # type: ignore[arg-type]
        server.daemon_threads = True
        server.words = words  # type: ignore[union-attr]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"unix://{path}" if path else f"redis://127.0.0.1:{server.server_address[1]}"  # type: ignore[str-bytes-safe]
        finally:
            server.shutdown()
            thread.join()


# envoy #17571 and #42744, redis-cluster-proxy #102, bk-lite #4755
@pytest.mark.parametrize(
    "words",
    [
        "unsupported command '{}'",
        "ERR unsupported command `{}`",
        "ERR unknown command '{}', with args beginning with: ",
        "NOPROTO unsupported protocol version",
        "NOAUTH Authentication required.",
    ],
)
def test_proxies_that_know_no_hello(make, words) -> None:
    """A proxy that refuses HELLO in its own words is spoken to in RESP2, without INFO or ROLE."""
    if words.startswith(("NOPROTO", "NOAUTH")):  # these two are about HELLO only
        words = "unsupported command '{}'"
    with serving(Proxy, words) as url:
        cache = make(
            {"a": with_login(url, "app:secret")},
            on_unavailable="raise",
            options=Options(client_name="web"),
        )
        assert (cache.get("k"), cache.get("k")) == (42, 42)


TOLD = {
    "maxclients": b"-ERR max number of clients reached\r\n",
    "protected mode": (
        b"-DENIED Redis is running in protected mode because protected mode "
        b"is enabled and no password is set\r\n"
    ),
}


# go-redis #2251, lettuce #2770, redis-py #3150
@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("by", ["tcp", "unix"])
def test_what_a_server_says_before_it_hangs_up(make, tmp_path, told, by) -> None:
    """A server's reason to take no connection is quoted; under "degrade" that is a miss."""
    path = str(tmp_path / "socket") if by == "unix" else None
    with serving(Refusing, TOLD[told], path) as url:
        strict = make({"a": url}, on_unavailable="raise", options=Options(max_out=0))
        for _ in range(10):
            with pytest.raises(ShardUnavailable, match=told):
                strict.get("k")
        assert make({"a": url}).get("k") is None


# go-redis #2251
@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_a_server_that_is_full(make, tcp) -> None:
    """A server at its limit of clients says so, and is served again when it has a place."""
    with LocalShards(1, tcp=tcp, options={"maxclients": "2"}) as servers, ExitStack() as stack:
        full = [stack.enter_context(plain(servers.urls["shard-1"])) for _ in range(2)]
        for each in full:
            with pytest.raises(redis.ConnectionError) if each is None else ExitStack():
                each.ping()
        cache = make(servers.urls)
        assert "maxclients" in str(cache.fetch_many(["k"]).failures["k"])
        full.pop().close()
        until(lambda: cache.set("k", 1))
        assert cache.get("k") == 1


# redis-py #4252 and #4260, blnk #389
def test_connections_closed_by_the_server_while_idle(make, colour) -> None:
    """Over connections that the server closed while idle no call fails; INCR counts once."""
    with LocalShards(2) as servers:
        cache = make(servers.urls, on_unavailable="raise")
        keys = [f"k{n}" for n in range(8)]
        cache.set_many(dict.fromkeys(keys, 0))
        for turn in range(1, 11):
            for url in servers.urls.values():
                with plain(url) as server:
                    server.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                    # It closes them a moment later.
                    until(lambda server=server: len(server.client_list()) == 1)
            # An event loop is told of it when it turns, not when a call asks.
            if colour is not ShardCache:
                until(lambda: not any(shard.idle for shard in cache.stats().shards.values()))
            assert [cache.incr(key) for key in keys] == [turn] * 8
        assert cache.get_many(keys) == dict.fromkeys(keys, 10)


# valkey-glide #5487
def test_places_in_flight_are_given_back() -> None:
    """After an overload of a stalled server nothing is in flight, and all places are free."""

    async def main(url: str, stalled: Any) -> None:
        async with AsyncShardCache(
            {"a": url}, timeout=0.2, options=Options(max_in_flight=8, max_out=0)
        ) as cache:
            stalled.pause()
            assert await asyncio.gather(*(cache.get("k") for _ in range(500))) == [None] * 500
            stalled.resume()
            async with asyncio.timeout(20):
                while not await cache.set("k", 1):  # noqa: ASYNC110  the server has no event
                    await asyncio.sleep(0.005)
                eight = [1] * 8
                while await asyncio.gather(*(cache.get("k") for _ in eight)) != eight:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)

    with LocalShards(1) as servers:
        asyncio.run(main(servers.urls["shard-1"], servers.servers[0]))


# redis-py #4208 and #4222
def test_urls_are_decoded_once() -> None:
    """A percent sign that is part of a login, a setting or a name stays one."""
    with LocalShards(1) as servers:
        url = servers.urls["shard-1"]
        with plain(url) as server:
            server.execute_command("ACL", "SETUSER", "us%20er", "on", ">p%40ss+w", "~*", "+@all")
        wide = (
            f"{with_login(url, 'us%2520er:p%2540ss+w')}"
            "&name=a%2520b&client_name=worker%2520name&namespace=s%2541"
        )
        with ShardCache.from_url(wide, on_unavailable="raise") as cache:
            assert (cache.set("k", 1), list(cache.stats().shards)) == (True, ["a%20b"])
        with plain(url) as server:
            assert server.keys("*") == [b"s%41:k"]


# valkey-glide #4591, valkey-glide-ruby #284 and #212
def test_a_client_that_is_closed_under_a_waiter(make, cache) -> None:
    """Who waits for a lock ends by a named error when the client is closed."""
    with cache.lock("l", 60):
        other = make()
        ended: list[Any] = []

        def wait() -> None:
            try:
                ended.append(other.lock("l", 60).acquire(timeout=-1))
            except Exception as error:
                ended.append(type(error))

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)  # most likely it waits by now; the outcome is the same if not
        other.close()
        thread.join(20)
        assert ended == [ClientClosed]


# valkey-glide #5806: calls that never ended when a server was busy
def test_a_server_that_is_busy_with_a_script(make) -> None:
    """A server that is busy with a script says so, and is served again when that ends."""
    with (
        LocalShards(1, options={"lua-time-limit": "5"}) as servers,
        plain(servers.urls["shard-1"]) as server,
    ):
        cache = make(servers.urls)
        cache.set("k", 1)

        def busy() -> None:
            with plain(servers.urls["shard-1"]) as other, pytest.raises(redis.ResponseError):
                other.eval("while true do end", 0)

        thread = threading.Thread(target=busy)
        thread.start()
        until(lambda: "busy with a script" in str(cache.fetch_many(["k"]).failures.get("k")))
        assert (cache.get("k"), cache.set("k", 2)) == (None, False)
        until(lambda: _killed(server))
        thread.join()
        until(lambda: cache.get("k") == 1)


def _killed(server: redis.Redis) -> bool:
    try:
        return bool(server.script_kill())
    except redis.ResponseError:
        return False
