"""Loading in the asyncio client."""

from collections.abc import Iterable
from typing import Any, TypeVar

from shardcache.drivers.aio.runner import AsyncRunner
from shardcache.flows.budget import Budget
from shardcache.flows.context import ClientContext
from shardcache.flows.load import LoadContext, LoadRequest
from shardcache.flows.operations import LOOK
from shardcache.flows.steps import Flow, LoaderEnded, Outcome
from shardcache.keys import Key
from shardcache.loading.loader_base import CacheRead, LoaderBase
from shardcache.policy import LoadPolicy
from shardcache.results import MISS
from shardcache.topology.unknown import UNKNOWN
from shardcache.ttl import TTL, Default

__all__ = ("AsyncLoader",)

T = TypeVar("T")


class AsyncLoader(LoaderBase):
    """Reads, loads and refreshes over the asyncio driver."""

    def __init__(
        self, client_context: ClientContext, context: LoadContext, runner: AsyncRunner
    ) -> None:
        super().__init__(client_context, context)
        self._has_nodes = runner.has_nodes
        self._run = runner.run
        self._call_many = runner.call_many
        self._clock = context.clock

    async def get_or_set(
        self,
        key: Key,
        loader: Any,
        ttl: TTL | Default,
        policy: LoadPolicy,
        tags: Iterable[str] | None,
    ) -> Any:
        """Return the value of ``key``, loading it if need be."""
        # The fast path: one exchange, and no flow if the value is there and fresh.
        wire = self._wire(key)
        ttl_ms, names = self.checked(ttl, tags)
        if self._hot_keys is not None:
            self._hot_keys.read(wire)
        topology = self._current.now
        shard = topology.owner_index(wire)
        if shard == UNKNOWN and await self._has_nodes():
            topology = self._current.now
            shard = topology.owner_index(wire)
        began = self._clock()
        near = self._near
        outcome: Outcome | None = None if near is None else near.look(wire)
        if near is None:
            outcome = await self._call_many(shard, self.packed_look(wire), LOOK)
        elif outcome is None:
            entry = near.begin(key, wire, shard, topology)
            outcome = await self._call_many(shard, self.packed_look(wire), LOOK)
            near.keep(entry, wire, outcome)
        found = self.judged(outcome, wire, shard, policy)
        if found.__class__ is CacheRead and found.needs_refresh is None and found.value is not MISS:
            return found.value
        # A value with tags takes one more exchange, which checks their versions.
        budget = self.context.budget(began)
        read = found if isinstance(found, CacheRead) else await self._run(found, budget)
        if read.value is not MISS and self.served(read, wire, policy):
            return read.value
        request = self.request(key, loader, ttl_ms, policy, names, budget)
        return await self._load(self.loaded(request, read), budget)

    async def get_or_set_many(
        self,
        keys: list[Key],
        loader: Any,
        ttl: TTL | Default,
        policy: LoadPolicy,
        tags: Iterable[str] | None,
    ) -> dict[Key, Any]:
        """Return the values that are there, and those of missing keys after loading them."""
        budget = self.context.budget()
        return await self._load(self.loaded_many(keys, loader, ttl, policy, tags, budget), budget)

    async def reload(self, request: LoadRequest) -> Any:
        """Load and store whether or not there is a value."""
        return await self._load(self.reloaded(request), request.budget)

    async def _load(self, flow: Flow[T], budget: Budget) -> T:
        """Run a flow that may run the caller's loader, and raise what the loader raises.

        A coroutine cannot raise StopIteration: Python makes it a RuntimeError.
        """
        try:
            return await self._run(flow, budget)
        except LoaderEnded as ended:
            error = ended.error
        raise error
