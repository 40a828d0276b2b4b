"""`CacheResponses`: ASGI middleware that keeps pages, each made once in the fleet."""

import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from shardcache.async_client import AsyncShardCache
from shardcache.contrib.starlette.asgi import App, Message, Receive, Scope, Send, header_values
from shardcache.contrib.starlette.client_lifespan import client_in
from shardcache.contrib.starlette.header_lists import directives
from shardcache.contrib.starlette.keys_of_pages import page_key
from shardcache.contrib.starlette.page import Page
from shardcache.contrib.starlette.rules import FORBIDDING
from shardcache.contrib.starlette.visit import Rules, Unstorable, Visit, stored_page
from shardcache.errors import InvalidOption, ShardCacheError
from shardcache.policy.load_policy import LoadPolicy, Preset

__all__ = ("CacheResponses",)

_UNSTORABLE_TTL = 10  # seconds
# Requests that are about a part or a version of a page go to the application, which may know.
_FOR_THE_APP = (b"if-match", b"if-range", b"if-unmodified-since", b"range", b"transfer-encoding")
_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")


class CacheResponses:
    """ASGI middleware: keeps answers to GET, and serves GET and HEAD from them.

    ``app``: the application.
    ``cache``: an `AsyncShardCache`, with the serializer "safe" or "pickle". Default: that of
        `lifespan`.
    ``ttl``: seconds, 1 to a year, for answers of status 200 that say no lifetime, to requests
        without a cookie. Default: None: only what says max-age, s-maxage or Expires is stored.
    ``policy``: a `LoadPolicy` or the name of one. Its ``stale_ttl`` is the most that a page is
        served for after its time, where stale-while-revalidate allows it, or where the page is
        stored by ``ttl``. Default: "swr", 60 seconds.
    ``max_body``: bytes, 0 to 512 MiB: longer bodies are not stored. Default: 1 MiB.
    ``store_anyway``: which of "authorization", "no-store", "private" and "set-cookie" do not keep
        an answer from being stored. Set-Cookie itself never is. Answers to Authorization must say
        public, s-maxage or must-revalidate all the same (RFC 9111, section 3.5). Default: none.
    ``now``: returns the seconds of the wall clock, for Age. Default: `time.time`.

    What is stored is in the module `rules`. An answer that streams, or is not to be stored, reaches
    its client message by message as if this were not there. A shard that is out never makes an
    error: the page is computed. Raises `InvalidOption` for arguments that cannot be.

    Guarantee: as of `AsyncShardCache.get_or_set`: one run of the application for one page at a time
    in the fleet.
    """

    def __init__(
        self,
        app: App,
        *,
        cache: AsyncShardCache | None = None,
        ttl: int | None = None,
        policy: LoadPolicy | Preset | None = "swr",
        max_body: int = 1 << 20,
        store_anyway: Collection[str] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        if cache is not None and not isinstance(cache, AsyncShardCache):
            raise InvalidOption(f"cache must be an AsyncShardCache, got a {type(cache).__name__}")
        if ttl is not None:
            _whole("ttl", ttl, 1, 365 * 24 * 3600)
        _whole("max_body", max_body, 0, 512 << 20)
        if isinstance(store_anyway, str) or not set(store_anyway) <= set(FORBIDDING):
            raise InvalidOption(
                f"store_anyway must be a collection of {', '.join(map(repr, FORBIDDING))}, "
                f"got {store_anyway!r:.80}"
            )
        chosen = LoadPolicy.of(policy)
        self._app = app
        self._cache = cache
        self._rules = Rules(
            ttl,
            replace(
                chosen,
                negative_on=(*chosen.negative_on, Unstorable),
                negative_ttl=chosen.negative_ttl or _UNSTORABLE_TTL,
            ),
            max_body,
            frozenset(store_anyway),
            now,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cache = self._cache or client_in(scope)
        if scope["method"] not in _SAFE:
            await self._change(cache, scope, receive, send)
        elif scope["method"] in ("GET", "HEAD") and self._may_use(scope):
            key = page_key(scope, cookie=bool(header_values(scope["headers"], b"cookie")))
            serve = self._get if scope["method"] == "GET" else self._head
            await serve(cache, key, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _may_use(self, scope: Scope) -> bool:
        """Whether a stored page may answer this request, and its answer be stored."""
        headers = scope["headers"]
        if any(header_values(headers, name) for name in _FOR_THE_APP):
            return False
        if any(length != b"0" for length in header_values(headers, b"content-length")):
            return False
        if header_values(headers, b"authorization") and "authorization" not in self._rules.allowed:
            return False
        said = directives(header_values(headers, b"cache-control"))
        return said is not None and "no-store" not in said

    async def _get(
        self, cache: AsyncShardCache, key: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        visit = Visit(self._app, cache, key, scope, self._rules)
        try:
            page = await visit.page_or_none()
            run = visit.run
            if page is None and run is not None and run.goes_on:
                await run.forward(receive, send)
            elif page is None:
                await self._app(scope, receive, send)
            elif run is not None and page == visit.made:
                cookies = [one for one in run.headers if one[0].lower() == b"set-cookie"]
                await self._send(page, scope, send, b"fwd=miss; stored", cookies)
                await run.finish()
            else:
                await self._send(page, scope, send)
        finally:
            visit.leave()

    async def _head(
        self, cache: AsyncShardCache, key: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer with the headers of a stored page, or ask the application, and store nothing."""
        try:
            page = await stored_page(cache, key, scope["headers"], self._rules.now())
        except ShardCacheError:
            page = None
        if page is None:
            await self._app(scope, receive, send)
        else:
            await self._send(page, scope, send)

    async def _send(
        self,
        page: Page,
        scope: Scope,
        send: Send,
        how: bytes | None = None,
        own: Collection[tuple[bytes, bytes]] = (),
    ) -> None:
        now = self._rules.now()
        how = how or b"hit; ttl=%d" % (page.lifetime - page.age(now))
        head = scope["method"] == "HEAD"
        for message in page.messages(scope["headers"], now, head=head, how=how, own=own):
            await send(message)

    async def _change(
        self, cache: AsyncShardCache, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Run a method that may change the page, and forget it (RFC 9111, section 4.4)."""

        async def forget_first(message: Message) -> None:
            if message["type"] == "http.response.start" and 200 <= message["status"] < 400:
                keys = [page_key(scope, cookie=cookie) for cookie in (False, True)]
                # If the shard cannot be asked, the page ends by its lifetime.
                with contextlib.suppress(ShardCacheError):
                    await cache.delete_many(keys)
            await send(message)

        await self._app(scope, receive, forget_first)


def _whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidOption(f"{name} must be an integer from {low} to {high}, got {value!r:.80}")
