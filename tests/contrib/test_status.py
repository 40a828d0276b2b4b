"""The status page: what it shows, to whom, and that it changes and tells nothing else."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shardcache import AsyncShardCache, NearCache, Options, ShardCache
from shardcache.contrib.status import ASGIStatus, WSGIStatus
from shardcache.embedded import LocalShards
from shardcache.errors import InvalidArgument
from shardcache.policy import hot_keys

TIMEOUT = 5  # seconds; on a busy machine a shard that is there must not seem to be out
Reply = tuple[int, dict[str, str], str]
Ask = Callable[..., Awaitable[Reply]]


async def by_wsgi(
    app: Any, path: str = "/.json", query: str = "", accept: str = "", method: str = "GET"
) -> Reply:
    """Ask a WSGI application, as a server would."""
    said: list[Any] = []
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "HTTP_ACCEPT": accept,
    }
    body = b"".join(app(environ, lambda *what: said.extend(what)))
    status, headers = said
    return int(status.split()[0]), {key.lower(): value for key, value in headers}, body.decode()


async def by_asgi(
    app: Any, path: str = "/.json", query: str = "", accept: str = "", method: str = "GET"
) -> Reply:
    """Ask an ASGI application, as a server would."""
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"accept", accept.encode())],
    }
    await app(scope, None, send)
    start, body = said
    headers = {key.decode(): value.decode() for key, value in start["headers"]}
    return start["status"], headers, body["body"].decode()


async def served(
    colour: str, urls: Any, visit: Callable[[Any, Ask, Any], Awaitable[None]], **settings: Any
) -> None:
    """Have ``visit`` look at the page of a client of one colour, by one interface."""
    if colour == "asgi-async":
        async with AsyncShardCache(urls, timeout=TIMEOUT, namespace="shop", **settings) as cache:
            await visit(ASGIStatus(lambda: cache), by_asgi, cache)
        return
    with ShardCache(urls, timeout=TIMEOUT, namespace="shop", **settings) as plain:
        if colour == "wsgi":
            await visit(WSGIStatus(plain), by_wsgi, plain)
        else:
            await visit(ASGIStatus(plain), by_asgi, plain)


each_colour = pytest.mark.parametrize("colour", ["wsgi", "asgi-sync", "asgi-async"])


async def done(found: Any) -> Any:
    return await found if asyncio.iscoroutine(found) else found


@each_colour
def test_what_it_shows(colour: str, shards: LocalShards) -> None:
    """Each shard with its breaker and its answer, the hit rate, and where a key lives."""

    async def visit(app: Any, ask: Ask, cache: Any) -> None:
        _, _, before = await ask(app)
        assert json.loads(before)["hit_rate"] is None
        await done(cache.set("status:a", 1))
        await done(cache.get_many(["status:a", "status:b"]))
        status, headers, body = await ask(app, query="key=status%3Aa")
        found = json.loads(body)
        assert (status, headers["content-type"]) == (200, "application/json")
        assert (found["hit_rate"], found["answering"], found["error"]) == (0.5, 4, None)
        assert (found["near"], found["hot_keys"]) == (None, None)
        assert {shard["service"] for shard in found["shards"].values()} == {"in service"}
        assert all(shard["ping"]["ok"] for shard in found["shards"].values())
        assert found["key"]["shard"] == cache.explain("status:a").shard
        assert found["key"]["key"] == "status:a"
        _, _, page = await ask(app, "/", "key=status:a")
        assert all(f"<th>{name}</th>" in page for name in shards.urls)
        assert ("4 of 4" in page, "50.0%" in page) == (True, True)
        assert f"<strong>{found['key']['shard']}</strong>" in page

    asyncio.run(served(colour, shards.urls, visit))


@each_colour
def test_hot_keys(colour: str, shards: LocalShards, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process reads most, with keys escaped, and what came from memory."""
    # On a busy machine a read would count less than the next one.
    monkeypatch.setattr(hot_keys, "HALF_LIFE", 1e12)

    async def visit(app: Any, ask: Ask, cache: Any) -> None:
        for _ in range(3):
            await done(cache.get("<b>"))
        await done(cache.get(b"\xff"))
        found = json.loads((await ask(app))[2])
        assert [(one["key"], one["share"]) for one in found["hot_keys"]] == [
            ("<b>", pytest.approx(0.75)),
            ("\\xff", pytest.approx(0.25)),
        ]
        assert found["hot_keys"][0]["shard"] == cache.explain("<b>").shard
        assert (found["near"]["hits"], found["near"]["misses"]) == (0, 4)
        _, _, page = await ask(app, "/")
        assert ("<code>&lt;b&gt;</code>" in page, "Hits in memory" in page) == (True, True)

    counted = Options(hot_keys=10, hot_keys_sample=1)
    near = NearCache(mode="ttl-only")
    asyncio.run(served(colour, shards.urls, visit, options=counted, near=near))


@each_colour
@pytest.mark.long
def test_a_shard_is_out(colour: str, mortal: LocalShards) -> None:
    """A shard that hangs and one that is dead show as such; the page is there."""

    async def visit(app: Any, ask: Ask, cache: Any) -> None:
        dead, hung = mortal.servers
        dead.kill()
        hung.pause()
        try:
            status, _, body = await ask(app)
        finally:
            hung.resume()
        found = json.loads(body)
        pings = [shard["ping"] for shard in found["shards"].values()]
        assert (status, found["answering"]) == (200, 0)
        assert [one["error_type"] for one in pings] == ["ShardUnavailable", "ShardTimeout"]
        for _ in range(20):  # each waits a timeout at most
            _, _, page = await ask(app, "/")
            if "1 of 2" in page:
                break
        assert "1 of 2" in page
        assert page.count('<td class="bad">none: ') == 1

    asyncio.run(served(colour, mortal.urls, visit))


@each_colour
def test_it_is_read_only(colour: str, shards: LocalShards) -> None:
    """What would change something is refused, and HEAD has no body."""

    async def visit(app: Any, ask: Ask, cache: Any) -> None:
        connects = [shard.connects for shard in cache.stats().shards.values()]
        for method in ("POST", "DELETE", "OPTIONS"):
            status, headers, _ = await ask(app, method=method)
            assert (status, headers["allow"]) == (405, "GET, HEAD")
        assert [shard.connects for shard in cache.stats().shards.values()] == connects
        status, headers, body = await ask(app, method="HEAD")
        assert (status, body) == (200, "")
        assert int(headers["content-length"]) > 0

    asyncio.run(served(colour, shards.urls, visit))


def test_it_is_safe_to_show(shards: LocalShards) -> None:
    """Nothing of a request gets into the page as HTML; the browser is told to run nothing."""

    async def visit(app: Any, ask: Ask, cache: Any) -> None:
        del cache
        query = "key=%3Cscript%3E%22%27%26"
        _, headers, page = await ask(app, "/", query)
        assert ("<script" in page, "&lt;script&gt;&quot;&#x27;&amp;" in page) == (False, True)
        assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha")
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        for odd in ("key=", "key=%00%ff", "key=" + "a" * 70_000, "=&&;", "key=%F0%9F%92%A9"):
            status, _, _ = await ask(app, "/", odd)
            assert status == 200
        _, _, body = await ask(app, query="key=" + "a" * 70_000)
        assert "a key may take" in json.loads(body)["key"]["error"]

    asyncio.run(served("wsgi", shards.urls, visit))


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/html"),
        ("*/*", "text/html"),
        ("text/html,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("application/json", "application/json"),
        ("text/html;q=0.5, application/*", "application/json"),
        ("application/json;q=nonsense", "text/html"),
    ],
)
def test_json_by_accept(accept: str, kind: str, shards: LocalShards) -> None:
    """Who prefers JSON has it."""

    async def visit(app: Any, ask: Ask, cache: Any) -> None:
        del cache
        _, headers, _ = await ask(app, "/", accept=accept)
        assert headers["content-type"].split(";")[0] == kind

    asyncio.run(served("wsgi", shards.urls, visit))


@each_colour
def test_no_credentials(colour: str) -> None:
    """User and password of a shard are nowhere, be it out or not."""
    nodes = {"a": "redis://somebody:hidden@127.0.0.1:1", "b": "unix://:hidden@/nowhere?db=1"}

    async def visit(app: Any, ask: Ask, cache: Any) -> None:
        del cache
        for path in ("/", "/.json"):
            for key in ("1", "2", "3", "4"):
                _, _, body = await ask(app, path, f"key={key}")
                assert ("hidden" in body, "somebody" in body) == (False, False)

    asyncio.run(served(colour, nodes, visit))


@each_colour
def test_closed_client(colour: str, shards: LocalShards) -> None:
    """A client that is of no use is the one reason for another status than 200."""

    async def visit(app: Any, ask: Ask, cache: Any) -> None:
        await done(cache.close())
        status, _, body = await ask(app)
        assert (status, "closed" in json.loads(body)["error"]) == (503, True)
        status, _, page = await ask(app, "/", "key=a")
        assert (status, 'role="alert"' in page) == (503, True)

    asyncio.run(served(colour, shards.urls, visit))


def test_what_cannot_be(shards: LocalShards) -> None:
    """What is no client is refused when it is known: at once, or when the function returns it."""
    with pytest.raises(InvalidArgument, match=r"needs a client, ShardCache, .* not str"):
        WSGIStatus("redis://h1")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="not AsyncShardCache"):
        WSGIStatus(AsyncShardCache(shards.urls))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=r"AsyncShardCache or ShardCache, .* not NoneType"):
        asyncio.run(by_asgi(ASGIStatus(lambda: None)))  # type: ignore[arg-type, return-value]
    with pytest.raises(InvalidArgument, match="answers http, not websocket"):
        asyncio.run(ASGIStatus(lambda: None)({"type": "websocket"}, None, None))  # type: ignore[arg-type, return-value]
