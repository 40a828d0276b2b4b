"""Middleware that gives each request one `deadline` for all its cache calls."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from shardcache.request_deadline import deadline

__all__ = ("ASGIDeadline", "WSGIDeadline")

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]


class ASGIDeadline:
    """ASGI middleware: the cache calls of an HTTP request, with its body, take so long together.

    ``app``: the application.
    ``seconds``: as for `deadline`.

    Websockets and the lifespan, which have no end to wait for, are not bounded.
    """

    def __init__(
        self, app: Callable[[_Scope, _Receive, _Send], Awaitable[None]], seconds: float
    ) -> None:
        deadline(seconds)  # a wrong number is an error here
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "http":
            with deadline(self._seconds):
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class WSGIDeadline:
    """WSGI middleware: the cache calls of a request take so long together.

    ``app``: the application.
    ``seconds``: as for `deadline`.

    What the application does until it returns the body is bounded. A body that is made while the
    server iterates over it is not: it is made outside of any block.
    """

    def __init__(self, app: Callable[[Any, Any], Iterable[bytes]], seconds: float) -> None:
        deadline(seconds)
        self._app = app
        self._seconds = seconds

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        with deadline(self._seconds):
            return self._app(environ, start_response)
