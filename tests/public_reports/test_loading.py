"""Loaders and decorated functions: where they run, what they see, and which calls are the same."""

import asyncio
import contextvars
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shardcache import AsyncShardCache, LoadPolicy, ShardCache
from shardcache.errors import ShardCacheError

REQUEST = contextvars.ContextVar("REQUEST", default="nobody")
POLICIES = {
    "in the caller": LoadPolicy(),
    "hard timeout": LoadPolicy(hard_timeout=20),
    "soft timeout": LoadPolicy(stale_ttl=5, soft_timeout=20),
    "strict": LoadPolicy.strict(),
}
each_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)


# cachetools-async #10
@each_policy
def test_loader_sees_the_callers_context(shards, namespace, policy) -> None:
    """A loader sees the context variables of its caller, in whatever thread it runs."""
    with ShardCache(shards.urls, namespace=namespace, timeout=20) as cache:
        context = contextvars.copy_context()
        context.run(REQUEST.set, "mine")
        assert context.run(cache.get_or_set, "k", REQUEST.get, policy=policy) == "mine"
        many = context.run(
            cache.get_or_set_many, ["m"], lambda _: {"m": REQUEST.get()}, policy=policy
        )
        assert many == {"m": "mine"}


# cachetools-async #10
@each_policy
def test_coroutine_loader_sees_the_callers_context(shards, namespace, policy) -> None:
    """A coroutine that loads sees the context variables of its caller, in whatever task it runs."""

    async def load() -> str:
        return REQUEST.get()

    async def main() -> tuple[Any, Any]:
        async with AsyncShardCache(shards.urls, namespace=namespace, timeout=20) as cache:
            REQUEST.set("mine")
            return await cache.get_or_set("a", load, policy=policy), await cache.get_or_set(
                "b", REQUEST.get
            )

    assert asyncio.run(main()) == ("mine", "mine")


# cachetools-async #10
def test_refresh_in_the_background_sees_the_callers_context(shards, namespace) -> None:
    """A refresh in the background sees the context of the caller that began it."""
    seen: list[str] = []
    done = threading.Event()

    def load() -> None:
        seen.append(REQUEST.get())
        done.set()

    with ShardCache(shards.urls, namespace=namespace, timeout=20) as cache:
        cache.get_or_set("k", "old", ttl=0.01, policy="swr")
        time.sleep(0.05)
        context = contextvars.copy_context()
        context.run(REQUEST.set, "mine")
        context.run(cache.get_or_set, "k", load, ttl=0.01, policy="swr")
        assert done.wait(20)
    assert seen[0] == "mine"


# cashews #382 and #392
def test_decorated_once_called_in_many_loops(shards, namespace) -> None:
    """A coroutine function decorated at import is called by asyncio.run in several threads."""
    cache = AsyncShardCache(shards.urls, namespace=namespace, timeout=20)

    @cache.cached(ttl=60, key="item:{number}")
    async def item(number: int) -> str:
        return f"item {number}"

    async def several(number: int) -> list[str]:
        return list(await asyncio.gather(item(number), item(number), item(0)))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: asyncio.run(several(number)), range(8)))
    assert found == [[f"item {n}", f"item {n}", "item 0"] for n in range(8)]


# cachebox #54: a tracer or a log handler that comes back to the function it is called from
def test_decorated_function_that_comes_back_to_itself(shards, namespace) -> None:
    """A function that calls itself with the same arguments is an error in each thread."""
    with ShardCache(shards.urls, namespace=namespace, timeout=20) as cache:

        @cache.cached(ttl=60, key="f:{name}")
        def function(name: str) -> Any:
            return function(name)

        def call(_: int) -> bool:
            with pytest.raises(ShardCacheError, match="load"):
                function("same")
            return True

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(call, range(4))) == [True] * 4


CALLS: list[Any] = []


def add(a: int, b: int = 2, *, c: int = 3, **more: int) -> int:
    """A function with parameters of every kind."""
    CALLS.append((a, b, c, more))
    return a + b + c + sum(more.values())


def shown(*args: Any, **kwargs: Any) -> str:
    """A function of anything."""
    return repr((args, kwargs))


# cachetools #339, fishtest #2463
def test_one_call_written_in_several_ways(shards, namespace) -> None:
    """Defaults written out, and keywords in any order, are the same call."""
    with ShardCache(shards.urls, namespace=namespace, timeout=20) as cache:
        cached = cache.cached(ttl=60)(add)
        CALLS.clear()
        ways = [cached(1), cached(a=1), cached(1, 2), cached(1, b=2, c=3), cached(c=3, b=2, a=1)]
        ways += [cached(1, x=1, y=2), cached(1, y=2, x=1)]
        assert (ways, CALLS) == ([6] * 5 + [9] * 2, [(1, 2, 3, {}), (1, 2, 3, {"x": 1, "y": 2})])


DIFFERENT: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    *(
        ((value,), {})
        for value in (1, 1.0, True, 0, False, 0.0, -0.0, "1", b"1", None, "None", "", (), [], {})
    ),
    *(
        ((value,), {})
        for value in (
            "a:b",
            "a,b",
            ("a", "b"),
            ["a", "b"],
            {"a": 1},
            {1},
            frozenset({1}),
            "é",
            "e\u0301",
        )
    ),
    (("a", "b"), {}),
    (("a", "b", ""), {}),
    (("a=1",), {}),
    (("a",), {"b": 1}),
    ((), {"a": 1}),
    (("{", "}"), {}),
]


# aiocache #628, fishtest #2463: arguments that are told apart by a part of what they are
def test_two_calls_are_never_one(shards, namespace) -> None:
    """Different arguments are different calls, whatever separators and types they have."""
    with ShardCache(shards.urls, namespace=namespace, timeout=20) as cache:
        cached = cache.cached(ttl=60)(shown)
        for _ in range(2):
            found = [cached(*args, **kwargs) for args, kwargs in DIFFERENT]
            assert found == [shown(*args, **kwargs) for args, kwargs in DIFFERENT]


# wp-redis #448, django #15825, django-redis #257
def test_keys_named_several_times_and_not_at_all(cache) -> None:
    """A key named twice is asked for, loaded and answered once; an iterator is read once."""
    asked = []

    def load(keys: Any) -> dict[Any, int]:
        asked.append(sorted(keys))
        return dict.fromkeys(keys, 1)

    assert cache.get_or_set_many(iter(["a", "b", "a", "a"]), load) == {"a": 1, "b": 1}
    assert asked == [["a", "b"]]
    assert cache.get_many(iter(["a", "a", "c", "b"])) == {"a": 1, "b": 1}
    assert cache.delete_many(key for key in ["a", "a", "b"]) == 2
    assert (cache.get_many([]), cache.set_many({}), cache.delete_many([])) == ({}, [], 0)
