"""The status page as an application, of WSGI and of ASGI."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from shardcache.async_client import AsyncShardCache
from shardcache.client import ShardCache
from shardcache.contrib.status.answer import Asked, Response, refusal_of, respond
from shardcache.errors import InvalidArgument, ShardCacheError

__all__ = ("ASGIStatus", "WSGIStatus")

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]


class WSGIStatus:
    """WSGI application: a read-only page of the shards, and the same as JSON.

    ``cache``: a `ShardCache`, or a function without parameters that returns it.

    It answers GET and HEAD under every path below where it is mounted: HTML, or JSON if the path
    ends in ``.json`` or the header Accept prefers it. ``?key=…`` shows on which shard a key lives.
    Each request pings all shards, within one ``timeout`` of the client. No credential, no value and
    nothing of the environment is shown, and there is no script. Who may see it is for the site to
    say. Raises `InvalidArgument` for anything else than such a client.
    """

    def __init__(self, cache: ShardCache | Callable[[], ShardCache]) -> None:
        self._cache = _source(cache, ShardCache)

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        asked = Asked.of(
            environ["REQUEST_METHOD"],
            environ.get("PATH_INFO", ""),
            environ.get("QUERY_STRING", ""),
            environ.get("HTTP_ACCEPT", ""),
        )
        response = refusal_of(asked) or _ask(asked, _checked(self._cache(), ShardCache))
        start_response(response.status_line, list(response.headers))
        return [response.body]


class ASGIStatus:
    """ASGI application: a read-only page of the shards, and the same as JSON.

    ``cache``: an `AsyncShardCache`, or a `ShardCache`, which is asked in a thread; or a function
        without parameters that returns one, for a client that the lifespan makes.

    All else is as in `WSGIStatus`. It answers HTTP only.
    """

    def __init__(
        self,
        cache: AsyncShardCache | ShardCache | Callable[[], AsyncShardCache | ShardCache],
    ) -> None:
        self._cache = _source(cache, AsyncShardCache, ShardCache)

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        del receive  # nothing that it answers has a body
        if scope["type"] != "http":
            raise InvalidArgument(f"the status page answers http, not {scope['type']}")
        accepts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"]
        asked = Asked.of(
            scope["method"],
            scope["path"],
            scope["query_string"].decode("latin-1"),
            ",".join(accepts),
        )
        response = refusal_of(asked) or await self._respond(asked)
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in response.headers
        ]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _respond(self, asked: Asked) -> Response:
        cache = _checked(self._cache(), AsyncShardCache, ShardCache)
        if isinstance(cache, ShardCache):
            return await asyncio.to_thread(_ask, asked, cache)
        try:
            return respond(asked, cache, await cache.ping())
        except ShardCacheError as error:
            return respond(asked, cache, error)


def _ask(asked: Asked, cache: ShardCache) -> Response:
    try:
        return respond(asked, cache, cache.ping())
    except ShardCacheError as error:
        return respond(asked, cache, error)


def _source(cache: Any, *kinds: type) -> Callable[[], Any]:
    """Return a function that gives the client, which may not be there yet."""
    if isinstance(cache, (AsyncShardCache, ShardCache)) or not callable(cache):
        _checked(cache, *kinds)
        return lambda: cache
    return cache  # type: ignore[no-any-return]


def _checked(cache: Any, *kinds: type) -> Any:
    if not isinstance(cache, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise InvalidArgument(
            f"the status page needs a client, {wanted}, or a function that returns one, "
            f"not {type(cache).__name__}"
        )
    return cache
