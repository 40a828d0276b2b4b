"""Loading on real servers: loaders that stop at a gate, several clients as processes."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from shardcache.embedded import LocalShards
from tests.waiting import until

LONG_TIMEOUT = 20.0  # seconds: the deadline of what is not about time


class Gate:
    """A loader that counts its calls and stops until it is opened.

    For the asyncio client it is a coroutine function.
    """

    def __init__(self, is_async: bool) -> None:
        self.calls = 0
        self.running = 0
        self.most = 0
        self.cancelled = 0
        self.is_async = is_async
        self._open = threading.Event()
        self._guard = threading.Lock()

    def open(self) -> None:
        self._open.set()

    def begun(self, calls: int = 1) -> None:
        """Wait until so many calls have begun."""
        until(lambda: self.calls >= calls)

    def __call__(
        self, value: Any = "loaded", error: BaseException | None = None
    ) -> Callable[..., Any]:
        def enter() -> None:
            with self._guard:
                self.calls += 1
                self.running += 1
                self.most = max(self.most, self.running)

        def leave() -> Any:
            with self._guard:
                self.running -= 1
            if error is not None:
                raise error
            return value

        def load(*_: Any) -> Any:
            enter()
            assert self._open.wait(LONG_TIMEOUT)
            return leave()

        async def aload(*_: Any) -> Any:
            enter()
            try:
                while not self._open.is_set():  # noqa: ASYNC110  it is opened by another thread
                    await asyncio.sleep(0.002)
            except asyncio.CancelledError:
                self.cancelled += 1
                self.running -= 1
                raise
            return leave()

        return aload if self.is_async else load


class Counter:
    """A loader that counts, and returns how often it was called.

    ``of`` makes one that calls something, awaited where need be.
    """

    def __init__(self, is_async: bool) -> None:
        self.calls = 0
        self.is_async = is_async

    def __call__(self) -> Any:
        self.calls += 1
        return self.calls

    def of(self, function: Callable[[], Any]) -> Callable[..., Any]:
        def load(*args: Any) -> Any:
            self.calls += 1
            return function(*args)

        async def aload(*args: Any) -> Any:
            self.calls += 1
            result = function(*args)
            return await result if inspect.isawaitable(result) else result

        return aload if self.is_async else load


class Servers:
    """The keys of the servers, past the client."""

    def __init__(self, urls: Any, stack: ExitStack) -> None:
        self.by_name = {
            name: stack.enter_context(redis.Redis.from_url(url)) for name, url in urls.items()
        }

    def keys(self, namespace: str) -> dict[bytes, int]:
        """Return every key of a namespace with its PTTL.

        That is the shortest, if the key is on several servers.
        """
        found: dict[bytes, int] = {}
        for server in self.by_name.values():
            for key in server.scan_iter(match=f"*{namespace}*"):
                left = server.pttl(key)
                if left != -2:
                    found[key] = min(found.get(key, left), left)
        return found

    def calls(self, command: str) -> int:
        """Return how often a command has been carried out, all servers together."""
        total = 0
        for server in self.by_name.values():
            stats = server.info("commandstats").get(f"cmdstat_{command}")
            total += stats["calls"] if stats else 0
        return total

    def locked(self, cache: Any, key: str) -> list[str]:
        """Return the servers that hold the load lock of a key."""
        name = cache._context.keys.internal(b"load", cache.explain(key).wire_key)
        return [server for server, plain in self.by_name.items() if plain.exists(name)]

    def own_shard(self, cache: Any, key: str) -> redis.Redis:
        return self.by_name[cache.explain(key).shard]


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
def servers(shards: LocalShards) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(shards.urls, stack)


@pytest.fixture
def gate(is_async: bool) -> Iterator[Gate]:
    gate = Gate(is_async)
    yield gate
    gate.open()


@pytest.fixture
def counter(is_async: bool) -> Counter:
    return Counter(is_async)


@pytest.fixture
def begin(gate: Gate) -> Iterator[Callable[..., Future[Any]]]:
    """Start a call in a thread; its result is looked at later."""
    with ThreadPoolExecutor(64) as pool:
        yield pool.submit
        gate.open()
