"""Applications behind `CacheResponses`, and clients that ask them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from shardcache import AsyncShardCache
from shardcache.contrib.starlette import CacheResponses
from shardcache.embedded import LocalShards


class Clock:
    """A wall clock that tests set."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_site(shards: LocalShards, namespace: str, clock: Clock) -> Callable[..., Any]:
    """Return a context manager of an application behind the middleware, and an HTTP client."""
    httpx = pytest.importorskip("httpx", reason="the extra `test` brings httpx")

    @asynccontextmanager
    async def opened(app: Any, *, url: str = shards.url, **settings: Any) -> AsyncIterator[Any]:
        client = {"timeout": 20, **settings.pop("client", {})}
        async with AsyncShardCache.from_url(url, namespace=namespace, **client) as cache:
            site = CacheResponses(app, cache=cache, now=clock, **settings)
            transport = httpx.ASGITransport(site)
            async with httpx.AsyncClient(transport=transport, base_url="http://site") as http:
                yield SimpleNamespace(cache=cache, http=http, site=site)

    return opened


class Answering:
    """An application that counts its runs, and answers as it is told.

    ``headers``: of the answer; a function gets the headers of the request.
    """

    def __init__(
        self,
        headers: Any = (("cache-control", "max-age=60"),),
        status: int = 200,
        body: Any = None,
    ) -> None:
        self.headers = headers
        self.status = status
        self.body = body
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        asked = {name.decode(): value.decode() for name, value in scope["headers"]}
        headers = self.headers(asked) if callable(self.headers) else self.headers
        said = [(name.encode(), value.encode()) for name, value in headers]
        body = f"page {len(self.scopes)}".encode() if self.body is None else self.body
        await send({"type": "http.response.start", "status": self.status, "headers": said})
        await send({"type": "http.response.body", "body": body})

    @property
    def runs(self) -> int:
        return len(self.scopes)


@pytest.fixture
def answering() -> type[Answering]:
    return Answering
