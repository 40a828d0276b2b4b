"""Functions of the application that the library calls."""

import asyncio
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import pytest

from shardcache import AsyncShardCache, Options
from shardcache.embedded import LocalShards
from shardcache.errors import InvalidOption

NO_BREAKER = {"max_out": 0}


async def tell(_: Any) -> None:
    """A hook that nobody would ever await."""


class Teller:
    """The same as an object."""

    async def __call__(self, _: Any) -> None: ...


# pymitter #6, ztf-viewer #626
@pytest.mark.parametrize(
    "hook",
    [tell, partial(tell), Teller(), AsyncMock()],
    ids=["function", "partial", "object", "mock"],
)
def test_coroutine_functions_are_no_hooks(cache, hook) -> None:
    """A coroutine function where a plain one is called is refused at once: it would never run."""
    with pytest.raises(InvalidOption, match="on_event must be a plain function"):
        Options(on_event=hook)
    with pytest.raises(InvalidOption, match="on_lost must be a plain function"):
        cache.lock("l", 5, on_lost=hook)


# pymitter #6
def test_a_hook_that_returns_a_coroutine(make, caplog) -> None:
    """A plain function whose coroutine nobody awaits is logged as a failure of the hook."""
    with LocalShards(1) as servers:
        servers.servers[0].kill()
        # Not ``tell`` itself, which is a coroutine function.
        options = Options(on_event=lambda event: tell(event), **NO_BREAKER)  # noqa: PLW0108
        cache = make(servers.urls, options=options)
        assert cache.get("k") is None
    assert ["event hook failed" in record.getMessage() for record in caplog.records] == [True]
    assert "a coroutine" in str(caplog.records[0].exc_info)


# opentelemetry-python #4532: an observer that observes itself
def test_a_hook_that_uses_its_client(make, is_async) -> None:
    """What a hook does with its own client tells it nothing, so a failure there ends."""
    if is_async:
        pytest.skip("its hooks start tasks: see below")
    told: list[str] = []

    def hook(event: Any) -> None:
        told.append(event.kind)
        cache.incr("events", initial=1)

    with LocalShards(1) as servers:
        servers.servers[0].kill()
        cache = make(servers.urls, options=Options(on_event=hook, **NO_BREAKER))
        assert (cache.get("k"), cache.get("k")) == (None, None)
    assert told == ["degraded_read"] * 2
    assert (cache.stats().degraded_reads, cache.stats().dropped_writes) == (2, 2)


# opentelemetry-python #4532
def test_a_hook_that_starts_tasks_with_its_client() -> None:
    """Neither do the tasks that a hook starts."""
    told: list[str] = []
    tasks: list[asyncio.Task[Any]] = []

    async def main(urls: Any) -> None:
        def hook(event: Any) -> None:
            told.append(event.kind)
            tasks.append(asyncio.create_task(cache.incr("events", initial=1)))  # type: ignore[arg-type]

        async with AsyncShardCache(urls, options=Options(on_event=hook, **NO_BREAKER)) as cache:
            assert await cache.get("k") is None
            for _ in range(5):
                await asyncio.gather(*tasks)

    with LocalShards(1) as servers:
        servers.servers[0].kill()
        asyncio.run(main(servers.urls))
    assert told == ["degraded_read"]
