"""Credential providers: their failures, renewals on live connections, rotated passwords."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.credentials import (
    CredentialProvider,
    StreamingCredentialProvider,
    UsernamePasswordCredentialProvider,
)

from shardcache import AsyncShardCache, Options, ShardCache
from shardcache.embedded import LocalShards
from shardcache.errors import AuthenticationFailed, InvalidOption, ShardTimeout, ShardUnavailable

FAR = 60.0
QUICK = {"first_probe": 0.01, "max_probe": 0.05}


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalShards]:
    """Two servers that let everybody in, and have users besides."""
    with LocalShards(2) as started:
        for url in started.urls.values():
            with redis.Redis.from_url(url) as plain:
                for number in range(4):
                    plain.acl_setuser(
                        f"user{number}",
                        enabled=True,
                        passwords=[f"+pass{number}"],
                        commands=["+@all"],
                        keys=["*"],
                    )
        yield started


@pytest.fixture
def guarded() -> Iterator[tuple[str, Callable[[str], None]]]:
    """A server that wants a password, and a way to change it."""
    with LocalShards(1, options={"requirepass": "first"}) as started:
        url = started.urls["shard-1"]
        with redis.Redis.from_url(url, password="first") as plain:
            yield url, lambda password: plain.config_set("requirepass", password)


class TokenServiceDown(Exception):
    """What a provider raises; it has nothing to do with redis or this library."""


class Provider(CredentialProvider):
    """Says what it is told to say, or raises it."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.threads: list[int] = []

    def get_credentials(self) -> Any:
        self.threads.append(threading.get_ident())
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Awaitable(Provider):
    """One that event loops can await, and nobody else."""

    async def get_credentials_async(self) -> Any:
        await asyncio.sleep(0)
        return Provider.get_credentials(self)


@pytest.mark.parametrize("kind", [Provider, Awaitable])
@pytest.mark.parametrize(
    "trouble",
    [TokenServiceDown("s3cret"), TimeoutError("s3cret"), KeyError("s3cret")],
    ids=lambda error: type(error).__name__,
)
def test_trouble_of_a_provider_is_the_shards(make, servers, kind, trouble) -> None:
    """Under "degrade" calls miss, the breaker opens, and the shard is back when the provider is."""
    provider = kind(trouble)
    cache = make(servers.urls, options=Options(failures=2, credential_provider=provider, **QUICK))
    names = list(servers.urls)
    keys = {
        name: next(key for key in map(str, range(99)) if cache.explain(key).shard == name)
        for name in names
    }
    assert [cache.get(keys[name]) for name in names * 3] == [None] * 6
    assert cache.set_many(dict.fromkeys(keys.values(), 1)) == list(keys.values())
    states = {name: shard.state for name, shard in cache.stats().shards.items()}
    assert states == dict.fromkeys(names, "open")
    provider.answers = [("user0", "pass0")]
    while not all(cache.set(key, 1) for key in keys.values()):
        time.sleep(0.01)
    assert cache.get_many(keys.values()) == dict.fromkeys(keys.values(), 1)


def test_trouble_is_named(make, servers) -> None:
    """The error names the shard and the kind of failure; the provider's text is in no message."""
    provider = Provider(TokenServiceDown("s3cret"))
    cache = make(
        servers.urls, on_unavailable="raise", options=Options(credential_provider=provider)
    )
    with pytest.raises(
        ShardUnavailable, match=r"credential provider .* raised TokenServiceDown"
    ) as caught:
        cache.get("k")
    assert (caught.value.shard, type(caught.value.__cause__)) == (
        cache.explain("k").shard,
        TokenServiceDown,
    )
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "answer", [None, "password", ("a", "b", "c"), (), (1,), ("a", None)], ids=repr
)
def test_no_credentials(make, servers, answer) -> None:
    """What no login can be made of is said, without being shown."""
    cache = make(
        servers.urls, on_unavailable="raise", options=Options(credential_provider=Provider(answer))
    )
    with pytest.raises(ShardUnavailable, match=r"must return \(password,\) or \(user, password\)"):
        cache.get("k")


@pytest.mark.parametrize(
    "answer", [("user1", "pass1"), ["user1", b"pass1"], (b"user1", "pass1")], ids=repr
)
def test_credentials(make, servers, answer) -> None:
    """User and password, as text or bytes."""
    cache = make(
        servers.urls, on_unavailable="raise", options=Options(credential_provider=Provider(answer))
    )
    assert (cache.set("k", 1), cache.get("k")) == (True, 1)


def test_provider_of_redis_py(make, servers) -> None:
    """redis-py's own providers are taken."""
    provider = UsernamePasswordCredentialProvider("user2", "pass2")
    cache = make(
        servers.urls, on_unavailable="raise", options=Options(credential_provider=provider)
    )
    assert (cache.set("k", 1), cache.get("k"), users(servers)) == (True, 1, {"user2"})


def users(servers: LocalShards) -> set[str]:
    """Return as whom the connections of clients are logged in, those of this test aside."""
    found = set()
    for url in servers.urls.values():
        with redis.Redis.from_url(url) as plain:
            found |= {
                row["user"] for row in plain.client_list() if row["id"] != str(plain.client_id())
            }
    return found


def test_provider_that_hangs(make, servers) -> None:
    """A token service that hangs costs a call its deadline, and many calls one thread."""
    go = threading.Event()

    class Slow(CredentialProvider):
        asked = 0

        def get_credentials(self) -> tuple[str, str]:
            self.asked += 1
            go.wait(FAR)
            return ("user0", "pass0")

    provider = Slow()
    cache = make(
        servers.urls,
        timeout=0.2,
        on_unavailable="raise",
        options=Options(credential_provider=provider),
    )
    with pytest.raises(ShardTimeout, match=r"asking the credential provider|no connection"):
        cache.get("k")
    assert {result.error_type for _ in range(2) for result in cache.ping().values()} == {
        "ShardTimeout"
    }
    assert provider.asked == 1
    go.set()
    patient = make(
        servers.urls, on_unavailable="raise", options=Options(credential_provider=provider)
    )
    assert (patient.set("k", 1), patient.get("k")) == (True, 1)


def test_loop_never_waits_for_a_blocking_provider(servers) -> None:
    """A provider with nothing to await is asked in another thread; redis-py's substitute is not."""
    provider, awaitable = Provider(("user0", "pass0")), Awaitable(("user0", "pass0"))

    async def main() -> list[bool]:
        found = []
        for each in (provider, awaitable):
            options = Options(credential_provider=each)
            async with AsyncShardCache(servers.urls, timeout=FAR, options=options) as cache:
                found.append(await cache.set("k", 1))
        return found

    assert asyncio.run(main()) == [True, True]
    me = threading.get_ident()
    assert (me in provider.threads, set(awaitable.threads)) == (False, {me})


def test_awaitable_provider_that_hangs_or_is_cancelled(servers) -> None:
    """The deadline holds for an awaited provider; a cancellation inside it is a failure of it."""

    class Odd:
        hangs = True

        async def get_credentials_async(self) -> tuple[str]:
            if self.hangs:
                await asyncio.sleep(FAR)
            raise asyncio.CancelledError

    async def main(hangs: bool) -> Exception:
        provider = Odd()
        provider.hangs = hangs
        options = Options(credential_provider=provider)
        async with AsyncShardCache(
            servers.urls, timeout=0.3 if hangs else FAR, on_unavailable="raise", options=options
        ) as cache:
            try:
                await cache.get("k")
            except ShardUnavailable as error:
                return error
        raise AssertionError

    assert type(asyncio.run(main(hangs=True))) is ShardTimeout
    assert "raised CancelledError" in str(asyncio.run(main(hangs=False)))


def test_provider_for_another_colour(servers) -> None:
    """A coroutine where the sync client needs a plain function is an error, not unawaited."""

    class Coroutine:
        async def get_credentials(self) -> tuple[str, str]:
            return ("user3", "pass3")

    options = Options(credential_provider=Coroutine())
    sync = ShardCache(servers.urls, on_unavailable="raise", options=options)
    with sync, pytest.raises(ShardUnavailable, match="only the asyncio client"):
        sync.get("k")

    async def main() -> bool:
        async with AsyncShardCache(servers.urls, timeout=FAR, options=options) as cache:
            return await cache.set("k", 1)

    assert asyncio.run(main()) is True


class Token:
    """A token as redis-py's token managers hand it out."""

    def __init__(self, user: str | None, value: str) -> None:
        self.user = user
        self.value = value

    def try_get(self, name: str) -> str | None:
        assert name == "oid"
        return self.user

    def get_value(self) -> str:
        return self.value


class Streaming(StreamingCredentialProvider):
    """A provider whose renewals are the test's."""

    def __init__(self) -> None:
        self.login = ("user0", "pass0")
        self.next: list[Callable[[Any], Any]] = []
        self.errors: list[Callable[[Exception], Any]] = []

    def get_credentials(self) -> tuple[str, str]:
        return self.login

    def on_next(self, callback: Callable[[Any], Any]) -> None:
        self.next = [callback]  # the last one wins, as in redis-entraid

    def on_error(self, callback: Callable[[Exception], Any]) -> None:
        self.errors = [callback]

    def is_streaming(self) -> bool:
        return True


def test_renewal_logs_in_live_connections(make, servers) -> None:
    """New credentials are used by the open connections of every client; none is opened for it."""
    provider = Streaming()
    caches = [make(servers.urls, options=Options(credential_provider=provider)) for _ in range(2)]
    for cache in caches:
        cache.set_many({str(number): number for number in range(50)})
    before = users(servers)
    connects = [shard.connects for cache in caches for shard in cache.stats().shards.values()]
    provider.login = ("user1", "pass1")
    provider.next[0](Token(*provider.login))
    while users(servers) != {"user1"}:
        time.sleep(0.01)
    assert before == {"user0"}
    assert [cache.get("7") for cache in caches] == [7, 7]
    assert [
        shard.connects for cache in caches for shard in cache.stats().shards.values()
    ] == connects


@pytest.mark.parametrize("loop", [False, True], ids=["called", "awaited"])
def test_callbacks_may_be_called_or_awaited(make, servers, loop, caplog) -> None:
    """Token managers of both kinds are served; an error of theirs is logged by its type."""
    provider = Streaming()
    cache = make(servers.urls, options=Options(credential_provider=provider))
    cache.get("k")

    async def both() -> None:
        await provider.next[0](Token("user2", "pass2"))
        await provider.errors[0](TokenServiceDown("s3cret"))

    with caplog.at_level(logging.WARNING, "shardcache"):
        if loop:
            asyncio.run(both())
        else:
            provider.next[0](Token("user2", "pass2"))
            provider.errors[0](TokenServiceDown("s3cret"))
    while users(servers) != {"user2"}:
        time.sleep(0.01)
    assert ["TokenServiceDown" in record.getMessage() for record in caplog.records] == [True]
    assert "s3cret" not in caplog.text


def test_renewal_that_is_refused(make, servers, caplog) -> None:
    """Connections stay as they are, and the log says so; it also tells of an unreadable token."""
    provider = Streaming()
    cache = make(servers.urls, options=Options(credential_provider=provider))
    cache.set_many({str(number): number for number in range(50)})
    with caplog.at_level(logging.WARNING, "shardcache"):
        provider.next[0](Token("user1", "wrong-pass1"))
        while sum("renewed credentials" in record.getMessage() for record in caplog.records) < 2:
            time.sleep(0.01)
        provider.next[0](object())
    assert (cache.get("7"), users(servers)) == (7, {"user0"})
    assert "wrong-pass1" not in caplog.text
    assert "cannot be used" in caplog.records[-1].getMessage()


def test_renewal_reaches_connections_in_use(make, servers) -> None:
    """A connection that is out at work is not handed on with the credentials from before."""
    provider = Streaming()
    cache = make(servers.urls, options=Options(credential_provider=provider))
    thread = threading.Thread(target=lambda: cache.lock("held").acquire(timeout=1))
    # The other one listens on connections of its own, until the renewal and after.
    with cache.lock("held"):
        thread.start()
        time.sleep(0.2)
        provider.login = ("user3", "pass3")
        provider.next[0](Token(*provider.login))
        thread.join()
    for number in range(20):
        cache.set(str(number), number)
    while users(servers) != {"user3"}:
        cache.get("k")
        time.sleep(0.01)


def test_rotated_password_is_logged_once(make, guarded, caplog) -> None:
    """Open connections go on; a new one is refused, the log says it once, the breaker opens."""
    url, rotate = guarded
    secret = url.replace("unix://", "unix://:first@")
    cache = make({"a": secret}, options=Options(failures=3, first_probe=60, max_probe=60))
    cache.set("k", 1)
    rotate("second")
    with caplog.at_level(logging.WARNING, "shardcache"):
        going_on = cache.get("k")
        with redis.Redis.from_url(url, password="second") as plain:
            plain.client_kill_filter(_type="normal", skipme=True)
        found = [cache.get("k") for _ in range(5)]
    said = [
        record.getMessage()
        for record in caplog.records
        if "does not accept the login" in record.getMessage()
    ]
    assert (going_on, found, cache.stats().shards["a"].state) == (1, [None] * 5, "open")
    assert (len(said), "new connections were accepted before" in said[0]) == (1, True)
    assert ("'a'" in said[0], "first" in said[0], "second" in said[0]) == (True, False, False)


def test_provider_follows_a_rotated_password(make, guarded) -> None:
    """With a provider the next connection has the new password: nothing needs a restart."""
    url, rotate = guarded
    provider = Provider(("first",))
    cache = make({"a": url}, on_unavailable="raise", options=Options(credential_provider=provider))
    cache.set("k", 1)
    rotate("second")
    provider.answers = [("second",)]
    with redis.Redis.from_url(url, password="second") as plain:
        plain.client_kill_filter(_type="normal", skipme=True)
    assert cache.get("k") == 1


def test_wrong_from_the_beginning(make, guarded) -> None:
    """Credentials that never fitted are an error, under "degrade" too, whatever their source."""
    url, _ = guarded
    cache = make({"a": url}, options=Options(credential_provider=Provider(("wrong",))))
    with pytest.raises(AuthenticationFailed):
        cache.get("k")


@pytest.mark.parametrize("provider", [3, ("user", "password"), "password"], ids=repr)
def test_no_provider(provider) -> None:
    """What is no provider is refused at once, without being shown."""
    with pytest.raises(InvalidOption, match="get_credentials") as caught:
        Options(credential_provider=provider)
    assert "password" not in str(caught.value)
