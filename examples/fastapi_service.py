"""A FastAPI service on local shards, with a status page and buttons that kill a shard.

Run it: ``pip install "shardcache[embedded]" fastapi uvicorn`` and ``python fastapi_service.py``;
then open http://127.0.0.1:8000/. What follows on the command line goes to uvicorn.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from local_site import PRODUCTS, front_page, leave_note, look_up, serve

from shardcache import AsyncShardCache
from shardcache.contrib.status import ASGIStatus


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open one client for each worker, and close it with the worker."""
    async with AsyncShardCache.from_url(namespace="shop", timeout=0.2) as cache:
        app.state.cache = cache
        yield


def the_cache(request: Request) -> AsyncShardCache:
    """Return the client of this worker."""
    cache: AsyncShardCache = request.app.state.cache
    return cache


Cache = Annotated[AsyncShardCache, Depends(the_cache)]
app = FastAPI(title="A shop on shards", lifespan=lifespan)
app.mount("/shards", ASGIStatus(lambda: app.state.cache))


@app.get("/", response_class=HTMLResponse)
async def shop(cache: Cache) -> str:
    """Show all products: one exchange per shard, all shards at once."""
    texts = await cache.get_many(PRODUCTS)
    computed = {key: await asyncio.to_thread(look_up, key) for key in PRODUCTS if key not in texts}
    await cache.set_many(computed, ttl=60)
    return front_page(
        {key: {**texts, **computed}[key] for key in PRODUCTS},
        texts,
        {key: cache.explain(key).shard for key in PRODUCTS},
        {name: shard.service for name, shard in cache.stats().shards.items()},
    )


@app.get("/products/{number}")
async def product(number: int, cache: Cache) -> dict[str, str]:
    """Show one product, computed by one worker at a time, and the shard that answers for it."""
    key = f"product:{number}"
    text = await cache.get_or_set(key, lambda: look_up(key), ttl=60)
    return {"product": text, "shard": cache.explain(key).shard}


@app.post("/{action}/{shard}")
async def change(
    action: str, shard: str, cache: Cache, sec_fetch_site: Annotated[str, Header()] = "none"
) -> RedirectResponse:
    """Kill or start a shard, for a page of this site only."""
    if sec_fetch_site not in ("none", "same-origin"):
        raise HTTPException(403, "only this site's own buttons may do that")
    if not leave_note(action, shard, cache.stats().shards):
        raise HTTPException(404, "no such shard, or nothing that can be done to it")
    return RedirectResponse("/", 303)


if __name__ == "__main__":
    uvicorn = [sys.executable, "-m", "uvicorn", "fastapi_service:app", *sys.argv[1:]]
    raise SystemExit(serve(uvicorn))
