"""A page that is slow to compute, cached on shards that need no set-up.

Run it with an ASGI server: ``pip install "shardcache[embedded]" starlette uvicorn`` and
``uvicorn starlette_app:app`` in this folder; then open http://127.0.0.1:8000/squares/1000 twice.
With SHARDCACHE_URL in the environment it uses those servers instead of starting its own.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from shardcache import MISS, AsyncShardCache

PAGE_TTL = 60  # seconds


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open one client for the whole application, and close it (and the servers) with it."""
    if os.environ.get("SHARDCACHE_URL"):
        opened = AsyncShardCache.from_url(namespace="squares")
    else:
        # Starting servers takes a moment: not on the event loop.
        opened = await asyncio.to_thread(
            AsyncShardCache.embedded, 3, namespace="squares", timeout=2
        )
    async with opened as cache:
        app.state.cache = cache
        yield


async def squares(request: Request) -> Response:
    """Show a page from the cache, or compute it and keep it for a minute."""
    cache: AsyncShardCache = request.app.state.cache
    count = request.path_params["count"]
    key = f"page:{count}"
    page = await cache.get(key, MISS)
    found = page is not MISS
    if not found:
        page = await asyncio.to_thread(render, count)
        await cache.set(key, page, ttl=PAGE_TTL)
    return HTMLResponse(page, headers={"X-Cache": "hit" if found else "miss"})


async def forget(request: Request) -> Response:
    """Delete a page, so that the next visitor gets a new one."""
    cache: AsyncShardCache = request.app.state.cache
    return JSONResponse({"deleted": await cache.delete(f"page:{request.path_params['count']}")})


async def health(request: Request) -> Response:
    """Say how each shard is doing, and how often the cache helped.

    The status is 503 only if no shard answers: a site can do without one of them.
    """
    cache: AsyncShardCache = request.app.state.cache
    stats, answers = cache.stats(), await cache.ping()
    shards = {name: answer.as_dict() for name, answer in answers.items()}
    status = 200 if any(answer.ok for answer in answers.values()) else 503
    return JSONResponse({"shards": shards, "hits": stats.hits, "misses": stats.misses}, status)


def render(count: int) -> str:
    """Compute a page: the slow part, done once a minute at most for each page."""
    rows = "".join(f"<li>{number}² = {number * number}</li>" for number in range(count))
    return f"<!doctype html><title>{count} squares</title><ol>{rows}</ol>"


app = Starlette(
    routes=[
        Route("/squares/{count:int}", squares, methods=["GET"]),
        Route("/squares/{count:int}", forget, methods=["DELETE"]),
        Route("/health", health),
    ],
    lifespan=lifespan,
)
