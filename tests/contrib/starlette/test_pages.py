"""Pages: made once, served with what HTTP says about their age and version."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shardcache import AsyncShardCache, LoadPolicy
from shardcache.contrib.starlette import CacheResponses
from shardcache.embedded import LocalShards
from shardcache.errors import InvalidOption

BUSY = 20  # requests at once


def test_hit(open_site: Any, answering: Any, clock: Any) -> None:
    """The second request is served from the cache, with the page's age; HEAD too."""

    async def visit() -> None:
        app = answering()
        async with open_site(app) as site:
            first = await site.http.get("/a?b=c")
            clock.now += 7
            second = await site.http.get("/a?b=c")
            head = await site.http.head("/a?b=c")
            assert first.text == second.text == "page 1"
            assert first.headers["cache-status"] == "shardcache; fwd=miss; stored"
            assert "age" not in first.headers
            assert second.headers["cache-status"] == "shardcache; hit; ttl=53"
            assert second.headers["age"] == head.headers["age"] == "7"
            assert (head.text, head.headers["content-length"]) == ("", "6")
            assert second.headers["etag"] == first.headers["etag"] != ""
            assert app.runs == 1
            await site.http.get("/a?b=d")
            await site.http.head("/b")  # nothing is stored by HEAD
            await site.http.get("/b")
            assert app.runs == 4

    asyncio.run(visit())


def test_once_for_a_crowd(open_site: Any, answering: Any) -> None:
    """Many requests at once for one page: one run."""

    async def visit() -> None:
        app, gate = answering(), asyncio.Event()

        async def slow(*request: Any) -> None:
            await gate.wait()
            await app(*request)

        async with open_site(slow) as site:
            crowd = [asyncio.create_task(site.http.get("/")) for _ in range(BUSY)]
            await asyncio.sleep(0.05)
            gate.set()
            assert {answer.text for answer in await asyncio.gather(*crowd)} == {"page 1"}
            assert app.runs == 1

    asyncio.run(visit())


def test_not_modified(open_site: Any, answering: Any) -> None:
    """A client that knows the page gets 304, though the application is never asked so."""
    changed = ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")

    async def visit() -> None:
        app = answering((("cache-control", "max-age=60"), changed, ("x-more", "1")))
        async with open_site(app) as site:
            get = site.http.get
            first = await get("/", headers={"if-none-match": '"other"'})
            assert first.status_code == 200
            etag = first.headers["etag"]
            for known in (
                {"if-none-match": etag},
                {"if-none-match": f'"x", {etag.removeprefix("W/")}'},
                {"if-none-match": "*"},
                {"if-modified-since": changed[1]},
            ):
                answer = await get("/", headers=known)
                assert (answer.status_code, answer.text) == (304, "")
                assert answer.headers["etag"] == etag
                assert answer.headers["cache-control"] == "max-age=60"
                assert "x-more" not in answer.headers
            for unknown in (
                {"if-none-match": '"x"', "if-modified-since": changed[1]},
                {"if-modified-since": "Wed, 31 Dec 2025 00:00:00 GMT"},
                {"if-modified-since": "yesterday"},
            ):
                assert (await get("/", headers=unknown)).status_code == 200
            assert app.runs == 1
            names = {name for name, _ in app.scopes[0]["headers"]}
            assert b"if-none-match" not in names

    asyncio.run(visit())


def test_etag_of_the_application(open_site: Any, answering: Any) -> None:
    """It stays as it is."""

    async def visit() -> None:
        app = answering((("cache-control", "max-age=60"), ("etag", '"v1"')))
        async with open_site(app) as site:
            assert (await site.http.get("/")).headers["etag"] == '"v1"'
            known = await site.http.get("/", headers={"if-none-match": 'W/"v1"'})
            assert known.status_code == 304

    asyncio.run(visit())


def test_versions(open_site: Any, answering: Any) -> None:
    """Each value of a header in Vary has a page; a new header makes all of them anew."""

    async def visit() -> None:
        names = ["accept-language"]
        app = answering(
            lambda _: (("cache-control", "max-age=60"), ("vary", ", ".join(names))),
        )
        async with open_site(app) as site:

            async def text(lang: str, agent: str = "a") -> str:
                headers = {"accept-language": lang, "user-agent": agent}
                return str((await site.http.get("/", headers=headers)).text)

            assert [await text("de"), await text("en"), await text("de")] == [
                "page 1",
                "page 2",
                "page 1",
            ]
            assert await text("de", "b") == "page 1"
            names.append("User-Agent")
            assert await text("fr") == "page 3"
            assert [await text("fr"), await text("fr", "b")] == ["page 4", "page 5"]
            assert [await text("fr"), await text("fr", "b")] == ["page 4", "page 5"]
            head = await site.http.head("/", headers={"accept-language": "fr", "user-agent": "b"})
            assert head.headers["cache-status"].startswith("shardcache; hit")

    asyncio.run(visit())


def test_unsafe_method_forgets(open_site: Any, answering: Any) -> None:
    """A POST that succeeded deletes the page, all versions of it; one that failed does not."""

    async def visit() -> None:
        app = answering((("cache-control", "max-age=60"), ("vary", "x-a")))
        async with open_site(app) as site:
            for value in ("1", "2"):
                await site.http.get("/", headers={"x-a": value})
            app.status = 403
            await site.http.post("/")
            app.status = 200
            assert (await site.http.get("/", headers={"x-a": "1"})).text == "page 1"
            await site.http.post("/", content=b"body")
            texts = [(await site.http.get("/", headers={"x-a": v})).text for v in ("2", "1")]
            assert texts == ["page 5", "page 6"]

    asyncio.run(visit())


@pytest.mark.long
def test_stale_while_revalidate(open_site: Any, answering: Any, clock: Any) -> None:
    """A page past its time is served at once and made anew, where its answer allows it."""

    async def visit() -> None:
        app = answering((("cache-control", "max-age=1, stale-while-revalidate=3600"),))
        policy = LoadPolicy(stale_ttl=3600, beta=0)
        async with open_site(app, policy=policy) as site:
            assert (await site.http.get("/")).text == "page 1"
            await asyncio.sleep(1.2)
            clock.now += 2
            stale = await site.http.get("/")
            assert (stale.text, stale.headers["cache-status"]) == (
                "page 1",
                "shardcache; hit; ttl=-1",
            )
            assert await made_anew(site)
            # An error of the server while it is made anew changes nothing.
            app.status = 500
            await asyncio.sleep(1.2)
            clock.now += 2
            for _ in range(5):
                assert (await site.http.get("/")).status_code == 200

    asyncio.run(visit())


async def made_anew(site: Any) -> bool:
    for _ in range(3000):
        if (await site.http.get("/")).text != "page 1":
            return True
        await asyncio.sleep(0.01)
    return False


def test_must_revalidate(open_site: Any, answering: Any, clock: Any) -> None:
    """A page that may not be stale is waited for, though it is kept for as long."""

    async def visit() -> None:
        app = answering((("cache-control", "max-age=1, must-revalidate"),))
        async with open_site(app, policy=LoadPolicy(stale_ttl=3600, beta=0)) as site:
            assert (await site.http.get("/")).text == "page 1"
            await asyncio.sleep(1.2)
            clock.now += 2
            assert (await site.http.get("/")).text == "page 2"
            assert app.runs == 2

    asyncio.run(visit())


def test_ttl(open_site: Any, answering: Any) -> None:
    """With a ttl, answers that say nothing are stored; a cookie tells users apart."""

    async def visit() -> None:
        app = answering(())
        async with open_site(app, ttl=60) as site:
            first = await site.http.get("/")
            assert first.headers["cache-control"] == "max-age=60"
            assert first.headers["vary"] == "Cookie"
            cookie = {"cookie": "user=1"}
            texts = [(await site.http.get("/", headers=cookie)).text for _ in range(2)]
            assert texts == ["page 2", "page 3"]
            assert (await site.http.get("/")).text == "page 1"

    asyncio.run(visit())


def test_starlette(open_site: Any) -> None:
    """Middleware that makes streams of all answers, files, and tasks behind answers."""
    pytest.importorskip("starlette", reason="the extra `test` brings it")
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import FileResponse, PlainTextResponse
    from starlette.routing import Route

    runs: list[str] = []
    headers = {"cache-control": "max-age=60"}
    source = Path(__file__).read_text(encoding="utf-8")

    async def plain(request: Any) -> Any:
        return PlainTextResponse("plain", 200, headers, None, BackgroundTask(runs.append, "task"))

    async def file(request: Any) -> Any:
        runs.append("file")
        return FileResponse(__file__, headers=headers)

    class Counting(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            runs.append("middleware")
            return await call_next(request)

    app = Starlette(routes=[Route("/plain", plain), Route("/file", file)])
    app.add_middleware(Counting)

    async def visit() -> None:
        async with open_site(app) as site:
            for _ in range(2):
                assert (await site.http.get("/plain")).text == "plain"
                answer = await site.http.get("/file")
                assert answer.text == source
            known = {"if-none-match": answer.headers["etag"]}
            assert (await site.http.get("/file", headers=known)).status_code == 304

    asyncio.run(visit())
    assert runs == ["middleware", "task", "middleware", "file"]


@pytest.mark.parametrize("on_unavailable", ["degrade", "raise"])
def test_dead_shards(
    mortal: LocalShards, open_site: Any, answering: Any, on_unavailable: str
) -> None:
    """With every shard out, whether that is an error or not, each page is computed."""

    async def visit() -> None:
        app, client = answering(), {"timeout": 1, "on_unavailable": on_unavailable}
        async with open_site(app, url=mortal.url, client=client) as site:
            await site.http.get("/")
            for server in mortal.servers:
                server.kill()
            for path in ("/", "/a", "/b"):
                for method in ("GET", "HEAD", "POST"):
                    answer = await site.http.request(method, path)
                    assert answer.status_code == 200

    asyncio.run(visit())


def test_values_of_others(open_site: Any, answering: Any) -> None:
    """What is no page, at the key of a page, is none: the application is asked."""

    async def visit() -> None:
        app = answering()
        async with open_site(app) as site:
            await site.http.get("/")
            [key] = [key async for key in site.cache.scan("page:*")]
            for value in (b"bytes", 7, ("page", 1), ["page"], None):
                await site.cache.set(key, value)
                assert (await site.http.get("/")).status_code == 200
                assert (await site.http.head("/")).status_code == 200

    asyncio.run(visit())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ttl": 0}, "ttl must be an integer from 1 to 31536000, got 0"),
        ({"ttl": "60"}, "ttl must be"),
        ({"max_body": -1}, "max_body must be"),
        ({"store_anyway": "private"}, "store_anyway must be a collection of"),
        ({"store_anyway": ["vary"]}, "store_anyway must be a collection of"),
        ({"cache": "redis://h"}, "cache must be an AsyncShardCache, got a str"),
        ({"policy": "sometimes"}, "policy must be"),
    ],
)
def test_what_cannot_be(settings: dict[str, Any], said: str) -> None:
    """A wrong argument is an error when the application is put together."""
    with pytest.raises(InvalidOption, match=said):
        CacheResponses(None, **settings)  # type: ignore[arg-type]


def test_other_protocols(open_site: Callable[..., Any]) -> None:
    """Websockets and the lifespan go to the application as they are."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    async def visit() -> None:
        async with AsyncShardCache.from_url("redis://127.0.0.1:1") as cache:
            for kind in ("lifespan", "websocket"):
                await CacheResponses(app, cache=cache)({"type": kind}, None, None)  # type: ignore[arg-type]

    asyncio.run(visit())
    assert seen == [{"type": "lifespan"}, {"type": "websocket"}]
