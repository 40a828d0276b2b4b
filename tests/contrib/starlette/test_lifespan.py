"""The client of an application: opened, found and closed; sessions in it."""

import asyncio
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest

from shardcache import AsyncShardCache
from shardcache.contrib.starlette import CacheResponses, lifespan
from shardcache.embedded import LocalShards
from shardcache.errors import ClientClosed, InvalidOption

fastapi = pytest.importorskip("fastapi", reason="the extra `test` brings it")
httpx = pytest.importorskip("httpx", reason="the extra `test` brings it")


def test_fastapi(shards: LocalShards, namespace: str) -> None:
    """Dependency, middleware and the application's own lifespan find one client."""
    from shardcache.contrib.starlette.dependency import get_cache

    seen: list[Any] = []

    @asynccontextmanager
    async def mine(app: Any) -> Any:
        seen.append(app.state.shardcache)
        yield {"mine": 1}
        assert await app.state.shardcache.get("a") == "b"  # still open

    app = fastapi.FastAPI(
        lifespan=lifespan(shards.url, inner=mine, namespace=namespace, timeout=20)
    )
    app.add_middleware(CacheResponses, ttl=60)

    @app.get("/")
    async def page(
        request: fastapi.Request, cache: Annotated[AsyncShardCache, fastapi.Depends(get_cache)]
    ) -> dict[str, Any]:
        seen.append(cache)
        return {"stored": await cache.set("a", "b")}

    async def visit() -> None:
        async with app.router.lifespan_context(app) as state:
            assert state == {"mine": 1, "shardcache": seen[0]}
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://site") as http:
                texts = [(await http.get("/")).json() for _ in range(2)]
                assert texts == [{"stored": True}] * 2
                assert (await http.head("/")).status_code == 200  # of the page; FastAPI has none
        with pytest.raises(ClientClosed):
            await seen[0].get("a")

    asyncio.run(visit())
    assert len(seen) == 2
    assert seen[0] is seen[1]


def test_no_client() -> None:
    """An application without a client is told what to do."""

    async def visit() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        with pytest.raises(InvalidOption, match="this application has no client: give it lifespan"):
            await CacheResponses(None)(scope, None, None)  # type: ignore[arg-type]

    asyncio.run(visit())


def test_settings_that_cannot_be() -> None:
    """A client has its settings; others are checked when the application starts."""

    async def visit() -> None:
        async with AsyncShardCache.from_url("redis://127.0.0.1:1") as client:
            with pytest.raises(InvalidOption, match="a client has its settings already, got ttl"):
                lifespan(client, ttl=1)
        with pytest.raises(InvalidOption, match="'namespac' is no setting"):
            async with lifespan("redis://127.0.0.1:1", namespac="a")(None):
                pass

    asyncio.run(visit())


def test_sessions(shards: LocalShards, namespace: str) -> None:
    """A session comes back, is deleted, and has a ttl even if its length is not set."""
    pytest.importorskip("starsessions", reason="tox -e web brings it")
    from shardcache.contrib.starlette.sessions import SessionStore

    async def visit() -> None:
        async with AsyncShardCache.from_url(shards.url, namespace=namespace, timeout=20) as cache:
            store = SessionStore(cache)
            assert await store.read("a", 60) == b""
            assert await store.write("a", b"data", 60, 50) == "a"
            assert await store.read("a", 60) == b"data"
            assert 0 < (await cache.ttl("session:a") or 0) <= 50
            await store.write("b", b"data", 0, 0)
            assert (await cache.ttl("session:b") or 0) > 24 * 3600
            await store.remove("a")
            assert await store.read("a", 60) == b""
        with pytest.raises(InvalidOption, match="cache must be an AsyncShardCache"):
            SessionStore("redis://h")  # type: ignore[arg-type]

    asyncio.run(visit())


def test_sessions_of_an_application(shards: LocalShards, namespace: str) -> None:
    """What one request puts into a session, the next one finds; an answer with it is not stored."""
    starsessions = pytest.importorskip("starsessions", reason="tox -e web brings it")
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from shardcache.contrib.starlette.sessions import SessionStore

    async def count(request: Any) -> Any:
        await starsessions.load_session(request)
        request.session["visits"] = request.session.get("visits", 0) + 1
        return PlainTextResponse(str(request.session["visits"]))

    async def visit() -> None:
        async with AsyncShardCache.from_url(shards.url, namespace=namespace, timeout=20) as cache:
            app = Starlette(routes=[Route("/", count)])
            store = SessionStore(cache)
            app.add_middleware(starsessions.SessionMiddleware, store=store, cookie_https_only=False)
            app.add_middleware(CacheResponses, cache=cache, ttl=60)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://site") as http:
                assert [(await http.get("/")).text for _ in range(3)] == ["1", "2", "3"]
            async with httpx.AsyncClient(transport=transport, base_url="http://site") as http:
                assert (await http.get("/")).text == "1"

    asyncio.run(visit())
