"""One request for a page: how the page is found in the cache, or made once in the fleet.

Theory
------
At the key of an address lies a page, or, if its answers depend on headers (Vary), a record of which
ones. The versions of such a page have keys of their own, made of the address, the headers' values
and a random generation; so whoever deletes the record has deleted them all. A version that depends
on more headers than the record says is not stored, and a new record is.

All is done by `get_or_set`, whose loader runs the application. It raises

    Unstorable   for an answer that must not be stored. That is remembered for a while
                 (`LoadPolicy.negative_on`), so that requests for it do not wait for each other.
    Failed       for an error of the server, which is not remembered.

Then the request that ran the application has the answer of that run, and every other one asks the
application itself.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from shardcache.async_client import AsyncShardCache
from shardcache.contrib.starlette.app_run import AppRun, Decision
from shardcache.contrib.starlette.asgi import App, Headers, Scope, header_values
from shardcache.contrib.starlette.keys_of_pages import variant_key
from shardcache.contrib.starlette.page import Page, with_etag
from shardcache.contrib.starlette.rules import Lifetime, lifetime_of, stored_headers
from shardcache.errors import ShardCacheError
from shardcache.policy.load_policy import LoadPolicy
from shardcache.policy.load_result import LoadResult

__all__ = ("Rules", "Unstorable", "Visit", "stored_page")

_VARIANTS = "variants"
_VARIANTS_TTL = 24 * 3600.0  # seconds
# Of a request: what would have the application send less than the page.
_CONDITIONAL = frozenset({b"if-none-match", b"if-modified-since"})


class Unstorable(Exception):
    """An answer that must not be stored."""


class _Failed(Exception):
    """An answer that is no use to anybody else."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is stored, as `CacheResponses` was told."""

    ttl: int | None
    policy: LoadPolicy
    max_body: int
    allowed: frozenset[str]
    now: Callable[[], float]


class Visit:
    """One request.

    ``app``: the application.
    ``cache``: the client.
    ``key``: of the page that is asked for.
    ``scope``: the request.
    ``rules``: what is stored.

    ``run``: the run of the application that this request has begun.
    ``made``: the page that came of it.
    """

    def __init__(
        self, app: App, cache: AsyncShardCache, key: str, scope: Scope, rules: Rules
    ) -> None:
        self._app = app
        self._cache = cache
        self._key = key
        self._headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        self._scope = {
            **scope,
            "headers": [one for one in self._headers if one[0].lower() not in _CONDITIONAL],
            # Without other ways to send a body than as bytes: they could not be stored.
            "extensions": {
                name: value
                for name, value in (scope.get("extensions") or {}).items()
                if not name.startswith("http.response.")
            },
        }
        self._rules = rules
        self._left = False
        self.run: AppRun | None = None
        self.made: Page | None = None

    async def page_or_none(self) -> Page | None:
        """Return the page; None if there is none to be had from the cache."""
        try:
            return await self._page_of_key()
        # What the application raises is kept in its run: these are about the cache.
        except (Unstorable, _Failed, ShardCacheError):
            return None

    async def _page_of_key(self) -> Page | None:
        record = await self._get(self._key, self._load)
        variants = _variants(record)
        if variants is None:
            return Page.of(record)
        if self.made is not None:
            return self.made
        generation, names = variants
        key = variant_key(self._key, generation, names, self._headers)
        return Page.of(await self._get(key, partial(self._load_variant, names)))

    def leave(self) -> None:
        """Wait for nothing more."""
        self._left = True
        if self.run is not None:
            self.run.leave()

    async def _get(self, key: str, load: Callable[[], Awaitable[LoadResult[Any]]]) -> Any:
        policy = self._rules.policy
        record = await self._cache.get_or_set(key, load, policy=policy)
        page = Page.of(record)
        if page is not None and not page.may_serve(self._rules.now()):
            # Its answer allows less than the policy. This joins the refresh that has just begun.
            fresh = replace(policy, stale_ttl=0, soft_timeout=None)
            record = await self._cache.get_or_set(key, load, policy=fresh)
        return record

    async def _load(self) -> LoadResult[Any]:
        """Make the page, for the key of its address."""
        page, vary = await self._make()
        if not vary:
            return LoadResult(page.record, page.lifetime)
        generation = secrets.token_hex(8)
        await self._cache.get_or_set(
            variant_key(self._key, generation, vary, self._headers),
            lambda: LoadResult(page.record, page.lifetime),
            policy=self._rules.policy,
        )
        return LoadResult((_VARIANTS, generation, vary), _VARIANTS_TTL)

    async def _load_variant(self, names: tuple[str, ...]) -> LoadResult[Any]:
        """Make a version of the page."""
        page, vary = await self._make()
        if set(vary) <= set(names):
            return LoadResult(page.record, page.lifetime)
        record = (_VARIANTS, secrets.token_hex(8), tuple(sorted({*vary, *names})))
        await self._cache.set(self._key, record, _VARIANTS_TTL)
        raise _Failed

    async def _make(self) -> tuple[Page, tuple[str, ...]]:
        """Run the application; return the page, and the names of headers that it depends on."""
        if self.run is not None:
            self.run.leave()
        lifetimes: list[Lifetime] = []

        def storable(status: int, headers: Headers) -> bool:
            lifetime = self._lifetime(status, headers)
            lifetimes[:] = [lifetime] if lifetime else []
            return lifetime is not None

        self.run = run = AppRun(self._app, self._scope, storable, self._rules.max_body)
        if self._left:
            run.leave()
        try:
            decision = await run.decision()
        except asyncio.CancelledError:
            run.leave(cancel=True)
            raise
        if decision is not Decision.PAGE:
            raise Unstorable if decision is Decision.UNSTORABLE else _Failed
        [lifetime] = lifetimes
        self.made = self._page(run, lifetime)
        return self.made, lifetime.vary

    def _lifetime(self, status: int, headers: Headers) -> Lifetime | None:
        return lifetime_of(
            status,
            headers,
            ttl=self._rules.ttl,
            stale_ttl=self._rules.policy.stale_ttl,
            plain=not header_values(self._headers, b"cookie"),
            authorized=bool(header_values(self._headers, b"authorization")),
            allowed=self._rules.allowed,
        )

    def _page(self, run: AppRun, lifetime: Lifetime) -> Page:
        body = bytes(run.body)
        headers = [
            one for one in stored_headers(run.headers) if one[0].lower() != b"content-length"
        ]
        headers.append((b"content-length", b"%d" % len(body)))
        if not lifetime.said:
            # A browser must not show it any more once it has a cookie: it has another page then.
            headers += [(b"cache-control", b"max-age=%d" % lifetime.fresh), (b"vary", b"Cookie")]
        kept = with_etag(headers, body) if run.status == 200 else tuple(headers)
        return Page(
            run.status, kept, body, self._rules.now(), lifetime.fresh, float(lifetime.stale)
        )


async def stored_page(
    cache: AsyncShardCache, key: str, headers: Headers, now: float
) -> Page | None:
    """Return the page for a request if it is stored and fresh.

    ``cache``: the client.
    ``key``: of the page.
    ``headers``: those of the request.
    ``now``: seconds of the wall clock.
    """
    record = await cache.get(key)
    if (variants := _variants(record)) is not None:
        record = await cache.get(variant_key(key, *variants, headers))
    page = Page.of(record)
    return page if page is not None and now - page.made <= page.lifetime else None


def _variants(record: object) -> tuple[str, tuple[str, ...]] | None:
    """Return generation and names of headers of such a record; None for what is not one."""
    if isinstance(record, tuple) and len(record) == 3 and record[0] == _VARIANTS:
        return record[1], record[2]
    return None
