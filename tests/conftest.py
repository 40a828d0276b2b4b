"""What every test shares: settings, both colours of the client as one, programs, names."""

import asyncio
import gc
import inspect
import os
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, Self

import pytest
from hypothesis import settings

import shardcache
from shardcache import Event, ShardCache
from shardcache.embedded import LocalShards
from shardcache.events import repeats
from tests.names import FakeNames
from tests.programs import programs

# No example is judged by its duration: the machine may be busy with something else. Each
# interpreter draws other examples, so tox asks for fewer on each.
settings.register_profile(
    "shardcache", deadline=None, max_examples=int(os.environ.get("SHARDCACHE_EXAMPLES", "100"))
)
settings.load_profile("shardcache")

# A shell that starts the tests in the background has them, and what they start, ignore Ctrl-C. Some
# tests are about it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _log_from_the_start() -> None:
    """Let no warning be kept back because another test has caused the like of it."""
    repeats.forget()


@pytest.fixture
def young() -> Iterator[None]:
    """Have `gc.collect` look only at what this test has made.

    All other objects that are loaded by now would take a tenth of a second.
    """
    gc.freeze()
    yield
    gc.unfreeze()


class Awaited:
    """An asyncio client in sync style: coroutines run to their end on a loop in a thread."""

    def __init__(self, target: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop

    def _finish(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(
            _finish(function, args, kwargs), self._loop
        ).result()

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

    def like(self, kind: Any) -> "AwaitedClass":
        """Return another class on the same loop."""
        return type(self)(kind, self._loop)

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


@pytest.fixture
def is_async(colour: Any) -> bool:
    """Whether the class under test is an asyncio one."""
    return colour is not ShardCache


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test has."""
    return uuid.uuid4().hex


@pytest.fixture
def events() -> list[Event]:
    """What the hook of the clients under test was told."""
    return []


@pytest.fixture
def host() -> str:
    """A host name that no other test has looked up."""
    return f"{uuid.uuid4().hex}.example"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNames]:
    """What the system's resolver answers."""
    found = FakeNames()
    monkeypatch.setattr(socket, "getaddrinfo", found)
    yield found
    found.let_go()


@pytest.fixture(scope="module", params=programs())
def program(request: pytest.FixtureRequest) -> str:
    """A server program."""
    return str(request.param)


@pytest.fixture
def make(colour: Any, shards: LocalShards, namespace: str) -> Iterator[Callable[..., Any]]:
    """Make clients that are closed at the end.

    ``shards``: the servers, a fixture of the test's folder.
    """
    with ExitStack() as stack:

        def build(nodes: Any = None, **settings: Any) -> Any:
            chosen = shards.urls if nodes is None else nodes
            return stack.enter_context(
                # The deadline of calls that are not about time.
                colour(chosen, **{"namespace": namespace, "timeout": 20.0, **settings})
            )

        yield build


@pytest.fixture
def cache(make: Callable[..., Any]) -> Any:
    """A client with a namespace of its own."""
    return make()
