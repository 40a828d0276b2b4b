"""The client as a dependency of FastAPI, and for handlers of Starlette."""

from starlette.requests import HTTPConnection

from shardcache.async_client import AsyncShardCache
from shardcache.contrib.starlette.client_lifespan import client_in

__all__ = ("get_cache",)


async def get_cache(connection: HTTPConnection) -> AsyncShardCache:
    """Return the client that `lifespan` has opened: ``cache: Annotated[…, Depends(get_cache)]``.

    ``connection``: a request or a websocket; FastAPI passes it.

    Raises `InvalidOption` if there is none.
    """
    return client_in(connection.scope)
