"""Pipelines: calls of any kind queued, then one exchange per shard, all shards at once."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Protocol, Self

from shardcache.codecs import Loaded
from shardcache.errors import ShardCacheError, ShardError
from shardcache.flows import Flow, Request, batch
from shardcache.flows.core import Core
from shardcache.flows.load import LoadDesk
from shardcache.flows.load.tags import plain_many
from shardcache.flows.one_command import Argument
from shardcache.keys import Key
from shardcache.results import MISS
from shardcache.ttl import DEFAULT, TTL, Default

__all__ = ("AsyncPipeline", "Pipeline", "Queue")


class Queue:
    """The queueing side of a pipeline, the same in both colours.

    Every method queues one call and returns its place in ``results``. Arguments are checked, and
    values encoded, at once. Calls for one shard keep their order; between shards there is none,
    and nothing is atomic.
    """

    def __init__(self, core: Core, desk: LoadDesk) -> None:
        self._core = core
        self._desk = desk
        self._requests: list[Request] = []
        self.results: list[Any] = []

    def __len__(self) -> int:
        return len(self._requests)

    def get(self, key: Key, default: Any = None) -> int:
        return self._add(self._core.requests.get(key, default))

    def set(self, key: Key, value: Any, ttl: TTL | Default = DEFAULT) -> int:
        return self._add(self._core.requests.set(key, value, ttl))

    def add(self, key: Key, value: Any, ttl: TTL | Default = DEFAULT) -> int:
        return self._add(self._core.requests.add(key, value, ttl))

    def replace(self, key: Key, value: Any, ttl: TTL | Default = DEFAULT) -> int:
        return self._add(self._core.requests.replace(key, value, ttl))

    def delete(self, key: Key) -> int:
        return self._add(self._core.requests.delete(key))

    def incr(self, key: Key, delta: int = 1, *, initial: int | None = None, ttl: TTL | Default = DEFAULT) -> int:
        return self._add(self._core.requests.incr(key, delta, initial, ttl))

    def decr(self, key: Key, delta: int = 1, *, initial: int | None = None, ttl: TTL | Default = DEFAULT) -> int:
        return self._add(self._core.requests.decr(key, delta, initial, ttl))

    def touch(self, key: Key, ttl: TTL | Default = DEFAULT) -> int:
        return self._add(self._core.requests.touch(key, ttl))

    def ttl(self, key: Key) -> int:
        return self._add(self._core.requests.ttl(key))

    def command(self, key: Key, name: str, *arguments: Argument) -> int:
        return self._add(self._core.requests.command(key, name, arguments))

    def contains(self, key: Key) -> int:
        return self._add(self._core.requests.contains(key))

    def _add(self, request: Request) -> int:
        self._requests.append(request)
        return len(self._requests) - 1

    def _send(self) -> tuple[Flow[None], list[bytes]]:
        """Return the flow for what is queued, once, and the keys that it writes; forget the queue."""
        requests, self._requests = self._requests, []
        self.results = []
        return self._work(requests), [request.key for request in requests if request.op.writes]

    def _work(self, requests: list[Request]) -> Flow[None]:
        """Fill ``results`` in the order of queueing; raise the first error once all are in."""
        if not requests:
            return
        answers = yield from batch.queue(self._core.placement, requests)
        first = self._settle(requests, answers)
        records = [at for at, value in enumerate(self.results) if value.__class__ is Loaded]
        values = yield from plain_many([self.results[at] for at in records], MISS, self._desk)
        for at, value in zip(records, values, strict=True):
            self.results[at] = requests[at].default if value is MISS else value
        if first is not None:
            raise first

    def _settle(self, requests: list[Request], answers: list[tuple[int, Any]]) -> ShardCacheError | None:
        ledger = self._core.ledger
        first: ShardCacheError | None = None
        for request, (shard, reply) in zip(requests, answers, strict=True):
            try:
                if isinstance(reply, ShardError):
                    self.results.append(ledger.fail(request, reply))
                else:
                    self.results.append(ledger.settle(request, reply, shard))
            except ShardCacheError as error:
                self.results.append(error)
                first = first or error
        return first


class _Runner(Protocol):
    def overtaken(self, wires: Iterable[bytes] | None = None) -> None: ...


class _SyncRunner(_Runner, Protocol):
    def run(self, flow: Flow[None]) -> None: ...


class _AsyncRunner(_Runner, Protocol):
    async def run(self, flow: Flow[None]) -> None: ...


class Pipeline(Queue):
    """A pipeline of the sync client.

    ::

        with cache.pipeline() as pipe:
            pipe.set("a", 1)
            pipe.get("b")
        stored, b = pipe.results

    A call that fails for a reason that "degrade" does not cover has its error among ``results``,
    and the first such error is raised when all the others are there. An exception inside the
    ``with`` block sends nothing.
    """

    def __init__(self, core: Core, desk: LoadDesk, runner: _SyncRunner) -> None:
        super().__init__(core, desk)
        self._runner = runner

    def execute(self) -> list[Any]:
        """Send what is queued; return the results in the order of queueing."""
        flow, written = self._send()
        try:
            self._runner.run(flow)
        finally:
            self._runner.overtaken(written)
        return self.results

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.execute()
        else:
            self._requests = []


class AsyncPipeline(Queue):
    """A pipeline of the asyncio client: as `Pipeline`, with ``async with`` and ``await execute()``."""

    def __init__(self, core: Core, desk: LoadDesk, runner: _AsyncRunner) -> None:
        super().__init__(core, desk)
        self._runner = runner

    async def execute(self) -> list[Any]:
        """Send what is queued; return the results in the order of queueing."""
        flow, written = self._send()
        try:
            await self._runner.run(flow)
        finally:
            self._runner.overtaken(written)
        return self.results

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.execute()
        else:
            self._requests = []
