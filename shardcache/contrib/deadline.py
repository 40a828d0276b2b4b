"""Middleware, and an extension of Flask: each request has one `deadline` for its cache calls."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from shardcache.errors import InvalidArgument
from shardcache.request_deadline import deadline

__all__ = ("ASGIDeadline", "FlaskDeadline", "WSGIDeadline")

_SETTING = "SHARDCACHE_DEADLINE"

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


class FlaskDeadline:
    """Extension of Flask: the cache calls of a request take so long together.

    ``app``: the application; None (the default): `init_app` is told later, of one or several.
    ``seconds``: as for `deadline`, if the application's setting SHARDCACHE_DEADLINE says nothing.
        Default: none.

    It does what `WSGIDeadline` does. With None in the setting there is no limit. Raises
    `InvalidArgument`.
    """

    def __init__(self, app: Any = None, seconds: float | None = None) -> None:
        if seconds is not None:
            deadline(seconds)
        self._seconds = seconds
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Any) -> None:
        """Bound the requests of an application. Raises `InvalidArgument`."""
        if _SETTING not in app.config and self._seconds is None:
            raise InvalidArgument(
                f"{app.name} needs the seconds: {_SETTING} = 0.2 in its configuration (None for no "
                "limit), or FlaskDeadline(seconds=0.2)"
            )
        seconds = app.config.setdefault(_SETTING, self._seconds)
        if seconds is not None:
            app.wsgi_app = WSGIDeadline(app.wsgi_app, seconds)
        app.extensions["shardcache_deadline"] = self
