"""What a client sends changes nobody else's page, and what is for one user is stored for none."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.contrib.starlette.keys_of_pages import page_key, variant_key

Headers = Iterable[tuple[bytes, bytes]]


def scope(**parts: Any) -> Any:
    return {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "query_string": b"",
        "headers": [(b"host", b"site")],
        **parts,
    }


def key(**parts: Any) -> str:
    return page_key(scope(**parts), cookie=False)


def test_parts_of_the_key() -> None:
    """Each part of the address counts, and so does each header that stands for one."""
    others = [
        key(scheme="https"),
        key(path="/a"),
        key(root_path="/a"),
        key(raw_path=b"/%61"),
        key(query_string=b"a"),
        key(headers=[(b"host", b"other")]),
        key(headers=[(b"host", b"site"), (b"host", b"other")]),
        key(headers=[]),
        key(headers=[], server=("127.0.0.1", 80)),
        page_key(scope(), cookie=True),
        *(
            key(headers=[(b"host", b"site"), (name, b"evil")])
            for name in (b"x-forwarded-host", b"X-Original-URL", b"x-http-method-override")
        ),
    ]
    assert len({key(), *others}) == len(others) + 1
    assert key(headers=[(b"Host", b"SITE"), (b"user-agent", b"x")]) == key()
    assert key(method="HEAD") == key()
    override = [(b"host", b"site"), (b"x-http-method-override", b"PUT")]
    assert key(method="POST", headers=override) == key()


@given(st.lists(st.binary(max_size=6), min_size=4, max_size=4), st.integers(0, 3))
def test_no_bytes_move_between_parts(parts: list[bytes], at: int) -> None:
    """Bytes that go from one part of a request to the next make another key."""

    def made(path: bytes, query: bytes, host: bytes, prefix: bytes) -> str:
        return key(
            path="/" + path.decode("latin-1"),
            query_string=query,
            # As servers hand them over: no spaces around them.
            headers=[(b"host", host.strip()), (b"x-forwarded-prefix", prefix.strip())],
        )

    moved = list(parts)
    moved[(at + 1) % 4] = parts[at] + parts[(at + 1) % 4]
    moved[at] = b""
    normal = [*parts[:2], parts[2].strip().lower(), parts[3].strip()]
    other = [*moved[:2], moved[2].strip().lower(), moved[3].strip()]
    assert (made(*parts) == made(*moved)) is (normal == other)


def test_versions_do_not_meet() -> None:
    """A header that is absent, empty, or has the bytes of two, each is a version."""
    headers: list[Headers] = [
        [],
        [(b"a", b"")],
        [(b"a", b"1")],
        [(b"a", b"1"), (b"a", b"2")],
        [(b"a", b"1, 2")],
        [(b"b", b"1")],
        [(b"a", b"1"), (b"b", b"2")],
    ]
    keys = {variant_key("page:x", "g", ("a", "b"), one) for one in headers}
    assert len(keys) == len(headers)
    assert variant_key("page:x", "h", ("a", "b"), headers[0]) not in keys


@pytest.mark.parametrize(
    "request_headers",
    [
        {"authorization": "Bearer mine"},
        {"cache-control": "no-store"},
        {"cache-control": "="},
        {"range": "bytes=0-1"},
        {"if-match": '"a"'},
        {"if-unmodified-since": "Thu, 01 Jan 2026 00:00:00 GMT"},
        {"content-length": "3"},
        {"transfer-encoding": "chunked"},
    ],
)
def test_requests_that_are_not_for_a_cache(
    open_site: Any, answering: Any, request_headers: dict[str, str]
) -> None:
    """They reach the application as they are, and their answers are not stored."""

    async def visit() -> None:
        app = answering((("cache-control", "public, max-age=60"),))
        async with open_site(app) as site:
            for _ in range(2):
                await site.http.get("/", headers=request_headers)
            assert app.runs == 2
            told = dict(app.scopes[-1]["headers"])
            assert all(told[name.encode()] for name in request_headers)
            assert (await site.http.get("/")).text == "page 3"
            answer = await site.http.get("/", headers=request_headers)
            assert (answer.text, "cache-status" in answer.headers) == ("page 4", False)

    asyncio.run(visit())


@pytest.mark.parametrize(
    "headers",
    [
        (("cache-control", "max-age=60"), ("set-cookie", "user=1")),
        (("cache-control", "max-age=60, private"),),
        (("cache-control", "max-age=60, no-store"),),
        (("cache-control", "max-age=60, no-cache"),),
        (("cache-control", "max-age=60"), ("vary", "*")),
        (("cache-control", "max-age=60"), ("vary", ", ".join(f"x-{n}" for n in range(100)))),
        (),
    ],
)
def test_answers_that_are_not_for_a_cache(open_site: Any, answering: Any, headers: Any) -> None:
    """Each request has an answer of its own, as the application sent it, crowds included."""

    async def visit() -> None:
        app = answering(headers)
        async with open_site(app) as site:
            crowd = await asyncio.gather(*(site.http.get("/") for _ in range(8)))
            assert {answer.text for answer in crowd} == {f"page {n}" for n in range(1, 9)}
            for answer in crowd:
                assert [*answer.headers.multi_items()] == [*headers]
            [stored] = [one async for one in site.cache.scan()]
            assert await site.cache.get(stored) is None  # remembered, but no page

    asyncio.run(visit())


@pytest.mark.parametrize("status", [500, 503, 400, 206])
def test_errors(open_site: Any, answering: Any, status: int) -> None:
    """Errors are not stored, nor shown to others; the next request may have the page."""

    async def visit() -> None:
        app = answering(status=status)
        async with open_site(app) as site:
            crowd = await asyncio.gather(*(site.http.get("/") for _ in range(5)))
            assert {answer.status_code for answer in crowd} == {status}
            assert len({answer.text for answer in crowd}) == 5
            app.status = 200
            assert (await site.http.get("/")).status_code == 200

    asyncio.run(visit())


def test_exceptions(open_site: Any) -> None:
    """What the application raises comes out as it is, before and after its answer began."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/late":
            headers = [(b"cache-control", b"max-age=60"), (b"content-length", b"5")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"ha", "more_body": True})
        raise ZeroDivisionError(scope["path"])

    async def visit() -> None:
        async with open_site(app) as site:
            for path in ("/early", "/late", "/early"):
                with pytest.raises(ZeroDivisionError, match=path):
                    await site.http.get(path)

    asyncio.run(visit())


def test_told_to_store(open_site: Any, answering: Any) -> None:
    """What is allowed is stored; cookies reach the one client that they are for."""

    async def visit() -> None:
        app = answering((("cache-control", "public, max-age=60"), ("set-cookie", "user=1")))
        async with open_site(app, store_anyway=["authorization", "set-cookie"]) as site:
            mine = {"authorization": "Bearer mine"}
            first = await site.http.get("/", headers=mine)
            site.http.cookies.clear()
            second = await site.http.get("/", headers={"authorization": "Bearer other"})
            assert (first.text, first.headers["set-cookie"]) == ("page 1", "user=1")
            assert (second.text, "set-cookie" in second.headers) == ("page 1", False)

    asyncio.run(visit())


def test_poisoned_header(open_site: Any, answering: Any) -> None:
    """A page that was made with somebody's X-Forwarded-Host or cookie is not everybody's."""

    async def visit() -> None:
        app = answering()
        async with open_site(app) as site:
            for headers in (
                {"x-forwarded-host": "evil"},
                {"cookie": "a=1"},
                {"host": "evil"},
                {"x-original-url": "/admin"},
            ):
                await site.http.get("/", headers=headers)
            assert (await site.http.get("/")).text == "page 5"

    asyncio.run(visit())
