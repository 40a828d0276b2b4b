"""One client for the application, opened when it starts and closed when it ends."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from shardcache.async_client import AsyncShardCache
from shardcache.contrib.settings import client_of
from shardcache.contrib.starlette.asgi import Scope
from shardcache.discovery.member_source import NodeSource
from shardcache.errors import InvalidOption
from shardcache.topology.nodes import Nodes

__all__ = ("client_in", "lifespan")

_NAME = "shardcache"
_Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]


def lifespan(
    url: Nodes | NodeSource | AsyncShardCache | None = None,
    *,
    inner: _Lifespan | None = None,
    **settings: Any,
) -> Callable[[Any], AbstractAsyncContextManager[dict[str, Any]]]:
    """Return a lifespan that opens one client, for ``Starlette(lifespan=…)`` or ``FastAPI(…)``.

    ``url``: a text as for `ShardCache.from_url`, other nodes as for the constructor, or a client,
        which is closed at the end too. Default: SHARDCACHE_URL.
    ``inner``: the application's own lifespan; the client is there before it starts and after it
        ends. Default: none.
    ``settings``: parameters of `AsyncShardCache` and fields of `Options`, side by side.

    The client is ``app.state.shardcache``, ``request.state.shardcache``, and what `get_cache` and
    `CacheResponses` find. Raises `InvalidOption` for an unknown setting, when the application
    starts.
    """
    if isinstance(url, AsyncShardCache) and settings:
        raise InvalidOption(f"a client has its settings already, got {', '.join(sorted(settings))}")

    @asynccontextmanager
    async def opened(app: Any) -> AsyncIterator[dict[str, Any]]:
        client = (
            url if isinstance(url, AsyncShardCache) else client_of(AsyncShardCache, url, settings)
        )
        async with client, AsyncExitStack() as stack:
            if hasattr(app, "state"):
                setattr(app.state, _NAME, client)
            state = await stack.enter_async_context(inner(app)) if inner is not None else None
            yield {**(state or {}), _NAME: client}

    return opened


def client_in(scope: Scope) -> AsyncShardCache:
    """Return the client that `lifespan` has opened for this application.

    ``scope``: a request or a websocket.

    Raises `InvalidOption` if there is none.
    """
    state = scope.get("state") or {}
    found = state.get(_NAME) or getattr(getattr(scope.get("app"), "state", None), _NAME, None)
    if not isinstance(found, AsyncShardCache):
        raise InvalidOption(
            "this application has no client: give it lifespan=shardcache.contrib.starlette"
            ".lifespan(…), or cache=… to the middleware"
        )
    return found
