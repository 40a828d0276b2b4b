"""Middleware: each request has a deadline, and leaves none behind."""

import asyncio
from typing import Any

import pytest

from shardcache.contrib.deadline import ASGIDeadline, FlaskDeadline, WSGIDeadline
from shardcache.errors import InvalidArgument
from shardcache.request_deadline import caller_end, time_left


def test_asgi() -> None:
    """A request is bounded, each by itself; a websocket and the lifespan are not."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["type"], time_left()))
        await send("body")
        if scope["type"] == "http":
            raise KeyError

    async def send(_: Any) -> None:
        assert (caller_end() is None) == (seen[-1][0] != "http")

    async def serve() -> None:
        bounded = ASGIDeadline(app, 1000)
        for kind in ("lifespan", "websocket"):
            await bounded({"type": kind}, None, send)
        with pytest.raises(KeyError):
            await bounded({"type": "http"}, None, send)
        assert caller_end() is None

    asyncio.run(serve())
    assert [(kind, left is not None) for kind, left in seen] == [
        ("lifespan", False),
        ("websocket", False),
        ("http", True),
    ]


def test_wsgi() -> None:
    """What the application does until it returns is bounded; the server's iteration is not."""

    def app(environ: Any, start_response: Any) -> Any:
        assert 900 < time_left() <= 1000
        start_response("200 OK", [])
        return (str(caller_end()).encode() for _ in range(1))

    said: list[Any] = []
    body = WSGIDeadline(app, 1000)({}, lambda *what: said.append(what))
    assert (said, list(body), caller_end()) == ([("200 OK", [])], [b"None"], None)


@pytest.mark.parametrize("middleware", [ASGIDeadline, WSGIDeadline])
def test_what_cannot_be(middleware: Any) -> None:
    """A wrong number is an error when the application is put together."""
    with pytest.raises(InvalidArgument, match="a deadline must be seconds"):
        middleware(None, -1)


def test_flask() -> None:
    """The extension bounds each request of an application, as its configuration says."""
    flask = pytest.importorskip("flask")

    def site(limit: FlaskDeadline | None = None, **config: Any) -> str:
        app = flask.Flask("site")
        app.config.update(config)
        app.add_url_rule("/", view_func=lambda: f"{round(time_left() or 0, -2):.0f}")
        (limit or FlaskDeadline()).init_app(app)
        with app.test_client() as http:
            return str(http.get("/").text)

    both = FlaskDeadline(seconds=2000)
    assert [site(both), site(both, SHARDCACHE_DEADLINE=1000)] == ["2000", "1000"]
    assert [site(SHARDCACHE_DEADLINE=1000), site(SHARDCACHE_DEADLINE=None)] == ["1000", "0"]
    assert caller_end() is None
    for wrong in ({}, {"SHARDCACHE_DEADLINE": "soon"}):
        with pytest.raises(InvalidArgument, match=r"0\.2 in its config|seconds from 0 to"):
            site(**wrong)
    with pytest.raises(InvalidArgument, match="seconds from 0 to"):
        FlaskDeadline(seconds=-1)
