"""Pipelines: calls of any kind queued, then one exchange per shard, all shards at once."""

from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from shardcache.codecs import Loaded
from shardcache.errors import ShardCacheError, ShardError
from shardcache.flows import Flow, Request, batch
from shardcache.flows.context import ClientContext
from shardcache.flows.load import LoadContext
from shardcache.flows.load.tags import plain_many
from shardcache.flows.one_command import Argument
from shardcache.keys import Key
from shardcache.results import MISS
from shardcache.ttl import DEFAULT, TTL, Default
from shardcache.turns import IN_ONE_TURN, Turns, in_turns, parts_of

__all__ = ("AsyncPipeline", "Pipeline", "Queue")

T = TypeVar("T")


class Queue:
    """The queueing side of a pipeline, the same for sync and asyncio.

    Every method queues one call of the client, and returns its index in ``results``. Arguments are
    checked, and values encoded, at once. Calls for one shard keep their order; between shards there
    is none, and nothing is atomic.
    """

    def __init__(self, context: ClientContext, load_context: LoadContext) -> None:
        self._context = context
        self._load_context = load_context
        self._requests: list[Request] = []
        self.results: list[Any] = []

    def __len__(self) -> int:
        return len(self._requests)

    def get(self, key: Key, default: Any = None) -> int:
        """Queue `ShardCache.get`.

        ``key``: the key.
        ``default``: the result if the key is not there. Default: None.
        """
        return self._add(self._context.requests.get(key, default))

    def set(self, key: Key, value: Any, ttl: TTL | Default = DEFAULT) -> int:
        """Queue `ShardCache.set`, without tags.

        ``key``: the key.
        ``value``: whatever the serializer takes.
        ``ttl``: seconds or a timedelta; None: no expiry; zero or less deletes. Default: the
            client's.
        """
        return self._add(self._context.requests.set(key, value, ttl))

    def add(self, key: Key, value: Any, ttl: TTL | Default = DEFAULT) -> int:
        """Queue `ShardCache.add`: store a value only if the key is absent.

        ``key``: the key.
        ``value``: as for `set`.
        ``ttl``: as for `set`.
        """
        return self._add(self._context.requests.add(key, value, ttl))

    def replace(self, key: Key, value: Any, ttl: TTL | Default = DEFAULT) -> int:
        """Queue `ShardCache.replace`: store a value only if the key is present.

        ``key``: the key.
        ``value``: as for `set`.
        ``ttl``: as for `set`.
        """
        return self._add(self._context.requests.replace(key, value, ttl))

    def delete(self, key: Key) -> int:
        """Queue `ShardCache.delete`.

        ``key``: the key.
        """
        return self._add(self._context.requests.delete(key))

    def incr(
        self, key: Key, delta: int = 1, *, initial: int | None = None, ttl: TTL | Default = DEFAULT
    ) -> int:
        """Queue `ShardCache.incr`: add a number to an integer.

        ``key``: the key.
        ``delta``: the number, of 64 bits. Default: 1.
        ``initial``: the number that an absent key starts from; None (the default): the result is
            `KeyMissing`, an error.
        ``ttl``: that of a key that starts, as for `set`.
        """
        return self._add(self._context.requests.incr(key, delta, initial, ttl))

    def decr(
        self, key: Key, delta: int = 1, *, initial: int | None = None, ttl: TTL | Default = DEFAULT
    ) -> int:
        """Queue `ShardCache.decr`: subtract a number from an integer.

        ``key``: the key.
        ``delta``: the number, of 64 bits. Default: 1.
        ``initial``: as for `incr`.
        ``ttl``: as for `incr`.
        """
        return self._add(self._context.requests.decr(key, delta, initial, ttl))

    def touch(self, key: Key, ttl: TTL | Default = DEFAULT) -> int:
        """Queue `ShardCache.touch`.

        ``key``: the key.
        ``ttl``: its new ttl, as for `set`.
        """
        return self._add(self._context.requests.touch(key, ttl))

    def ttl(self, key: Key) -> int:
        """Queue `ShardCache.ttl`.

        ``key``: the key.
        """
        return self._add(self._context.requests.ttl(key))

    def command(self, key: Key, name: str, *arguments: Argument) -> int:
        """Queue `ShardCache.command`, for the commands that it takes.

        ``key``: the key.
        ``name``: the command, such as "HSET".
        ``arguments``: what follows the key: bytes, str (as UTF-8), int, float.
        """
        return self._add(self._context.requests.command(key, name, arguments))

    def contains(self, key: Key) -> int:
        """Queue `ShardCache.contains`.

        ``key``: the key.
        """
        return self._add(self._context.requests.contains(key))

    def _add(self, request: Request) -> int:
        self._requests.append(request)
        return len(self._requests) - 1

    def _take(self) -> tuple[list[Request], list[bytes]]:
        """Return the queued requests and the keys that they write; forget queue and results."""
        requests, self._requests = self._requests, []
        self.results = []
        return requests, [request.key for request in requests if request.op.writes]

    def _work(self, requests: list[Request]) -> Flow[tuple[list[Any], ShardCacheError | None]]:
        """Return the results in the order of queueing, and the first error among them."""
        if not requests:
            return [], None
        answers = yield from batch.queue(self._context.topology, requests)
        return (yield from self._settled(requests, answers))

    def _settled(
        self, requests: list[Request], answers: list[tuple[int, Any]]
    ) -> Flow[tuple[list[Any], ShardCacheError | None]]:
        results, first = self._settle(requests, answers)
        records = [at for at, value in enumerate(results) if value.__class__ is Loaded]
        values = yield from plain_many([results[at] for at in records], MISS, self._load_context)
        for at, value in zip(records, values, strict=True):
            results[at] = requests[at].default if value is MISS else value
        return results, first

    def _settle(
        self, requests: list[Request], answers: list[tuple[int, Any]]
    ) -> tuple[list[Any], ShardCacheError | None]:
        reply_policy = self._context.reply_policy
        results: list[Any] = []
        first: ShardCacheError | None = None
        for request, (shard, reply) in zip(requests, answers, strict=True):
            try:
                if isinstance(reply, ShardError):
                    results.append(reply_policy.fail(request, reply))
                else:
                    results.append(reply_policy.settle(request, reply, shard))
            except ShardCacheError as error:
                results.append(error)
                first = first or error
        return results, first


class _Runner(Protocol):
    def forget_flights(self, wires: Iterable[bytes] | None = None) -> None: ...


class _SyncRunner(_Runner, Protocol):
    def run(self, flow: Flow[T]) -> T: ...


class _AsyncRunner(_Runner, Protocol):
    async def run(self, flow: Flow[T]) -> T: ...


class Pipeline(Queue):
    """A pipeline of the sync client; `ShardCache.pipeline` makes it.

    ::

        with cache.pipeline() as pipe:
            pipe.set("a", 1)
            pipe.get("b")
        stored, b = pipe.results

    A call that fails for a reason that "degrade" does not cover has its error among ``results``,
    and the first such error is raised when all the others are there. An exception inside the
    ``with`` block sends nothing.
    """

    def __init__(
        self, context: ClientContext, load_context: LoadContext, runner: _SyncRunner
    ) -> None:
        super().__init__(context, load_context)
        self._runner = runner

    def execute(self) -> list[Any]:
        """Send the queued calls; return the results in the order of queueing.

        Raises the first error among the results, after all calls were made.
        """
        requests, written = self._take()
        try:
            self.results, error = self._runner.run(self._work(requests))
        finally:
            self._runner.forget_flights(written)
        if error is not None:
            raise error
        return self.results

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.execute()
        else:
            self._requests = []


class AsyncPipeline(Queue):
    """A pipeline of the asyncio client: `Pipeline` with ``async with`` and ``await execute()``."""

    def __init__(
        self, context: ClientContext, load_context: LoadContext, runner: _AsyncRunner
    ) -> None:
        super().__init__(context, load_context)
        self._runner = runner

    async def execute(self) -> list[Any]:
        """Send the queued calls; return the results in the order of queueing.

        Raises the first error among the results, after all calls were made.
        """
        requests, written = self._take()
        try:
            if len(requests) > IN_ONE_TURN:
                parts = await in_turns(partial(self._part, turns=Turns()), parts_of(requests))
            else:
                parts = [await self._runner.run(self._work(requests))]
        finally:
            self._runner.forget_flights(written)
        self.results = [result for results, _ in parts for result in results]
        error = next((error for _, error in parts if error is not None), None)
        if error is not None:
            raise error
        return self.results

    async def _part(
        self, requests: list[Request], turns: Turns
    ) -> tuple[list[Any], ShardCacheError | None]:
        answers = await self._runner.run(batch.queue(self._context.topology, requests, part=True))
        await turns.next()
        return await self._runner.run(self._settled(requests, answers))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.execute()
        else:
            self._requests = []
