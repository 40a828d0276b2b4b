"""One suite for every colour of the client: servers, a fresh namespace for each test, and ways to look past the client."""

import asyncio
import inspect
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, Self

import pytest
import redis

import shardcache
from shardcache import Event, ShardCache
from shardcache.embedded import LocalShards

PATIENCE = 20.0  # seconds: the deadline of calls that are not about time


class Awaited:
    """An asyncio client in sync style: every coroutine is run to its end on a loop that lives in a thread."""

    def __init__(self, target: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop

    def _finish(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(_finish(function, args, kwargs), self._loop).result()

    def _call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        result = self._finish(function, *args, **kwargs)
        if hasattr(result, "__anext__"):
            return self._walk(result)
        return type(self)(result, self._loop) if hasattr(result, "__aenter__") else result

    def _walk(self, walk: Any) -> Iterator[Any]:
        while (item := self._finish(anext, walk, self)) is not self:
            yield item

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        return partial(self._call, found) if inspect.isroutine(found) else found

    def __enter__(self) -> Self:
        self._call(self._target.__aenter__)
        return self

    def __exit__(self, *error: object) -> None:
        self._call(self._target.__aexit__, *error)

    def __contains__(self, key: Any) -> bool:
        return bool(self.contains(key))

    def __len__(self) -> int:
        return len(self._target)

    def __repr__(self) -> str:
        return repr(self._target)


async def _finish(function: Any, args: Any, kwargs: Any) -> Any:
    """Call on the loop, as an asyncio program would, and await what is to be awaited."""
    result = function(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


class AwaitedClass:
    """Constructors of an asyncio client: what they return is `Awaited`."""

    def __init__(self, kind: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._kind = kind
        self._loop = loop

    def __call__(self, *args: Any, **kwargs: Any) -> Awaited:
        return Awaited(self._kind(*args, **kwargs), self._loop)

    def from_url(self, *args: Any, **kwargs: Any) -> Awaited:
        return Awaited(self._kind.from_url(*args, **kwargs), self._loop)

    def embedded(self, *args: Any, **kwargs: Any) -> Awaited:
        return Awaited(self._kind.embedded(*args, **kwargs), self._loop)


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The class under test. A further colour is one more parameter."""
    if request.param == "sync":
        yield ShardCache
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield AwaitedClass(shardcache.AsyncShardCache, loop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def shards() -> Iterator[LocalShards]:
    """Three servers that no test stops."""
    with LocalShards(3) as servers:
        yield servers


@pytest.fixture
def mortal() -> Iterator[LocalShards]:
    """Three servers of this test alone, to be killed and paused."""
    with LocalShards(3) as servers:
        yield servers


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test has."""
    return uuid.uuid4().hex


@pytest.fixture
def events() -> list[Event]:
    """What the hook of the clients under test was told."""
    return []


@pytest.fixture
def make(colour: Any, shards: LocalShards, namespace: str) -> Iterator[Callable[..., Any]]:
    """Make clients that are closed at the end."""
    with ExitStack() as stack:

        def build(nodes: Any = None, **settings: Any) -> Any:
            chosen = shards.urls if nodes is None else nodes
            return stack.enter_context(colour(chosen, **{"namespace": namespace, "timeout": PATIENCE, **settings}))

        yield build


@pytest.fixture
def cache(make: Callable[..., Any]) -> Any:
    """A client with a namespace of its own."""
    return make()


@pytest.fixture
def raw(shards: LocalShards) -> Iterator[Callable[..., redis.Redis]]:
    """Look past the client: ``raw(cache, key)`` is a plain connection to the server that owns the key."""
    with ExitStack() as stack:
        plain = {name: stack.enter_context(redis.Redis.from_url(url)) for name, url in shards.urls.items()}
        yield lambda cache, key: plain[cache.explain(key).shard]
