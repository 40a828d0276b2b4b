"""Middleware of Django that gives each request one `deadline` for all its cache calls."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed

from shardcache.errors import InvalidArgument
from shardcache.request_deadline import deadline

__all__ = ("DeadlineMiddleware",)

_SETTING = "SHARDCACHE_DEADLINE"


class DeadlineMiddleware:
    """Middleware: the cache calls of a request take so long together, under WSGI and ASGI.

    ``get_response``: the rest of the site, as Django hands it over.

    How long is the setting SHARDCACHE_DEADLINE, as for `deadline`; with None there is no limit. It
    bounds what stands below it in MIDDLEWARE, and the view. A body that streams is not bounded: it
    is made outside of any block. Raises `ImproperlyConfigured` when the site starts.
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        self._seconds = _seconds()
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        if self._is_async:
            return self._respond(request)
        with deadline(self._seconds):
            return self._get_response(request)

    async def _respond(self, request: Any) -> Any:
        with deadline(self._seconds):
            return await self._get_response(request)


def _seconds() -> float:
    example = f"write {_SETTING} = 0.2 in the settings, or None for no limit"
    try:
        seconds: Any = getattr(settings, _SETTING)
    except AttributeError:
        raise ImproperlyConfigured(f"DeadlineMiddleware needs its seconds: {example}") from None
    if seconds is None:
        raise MiddlewareNotUsed(f"{_SETTING} is None")
    try:
        deadline(seconds)
    except InvalidArgument as error:
        raise ImproperlyConfigured(f"{_SETTING}: {error}; {example}") from error
    return float(seconds)
