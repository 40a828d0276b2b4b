"""The asyncio driver over a Redis Cluster whose replicas are read from.

It is as `drivers/sync/replica_runner.py`. All event loops have one choice of servers, and each has
breakers of its own.
"""

import asyncio
import time
from typing import Any

from shardcache.drivers.aio.broadcast import run_exchange
from shardcache.drivers.aio.cluster_runner import AsyncClusterRunner
from shardcache.drivers.replica_reads import ReplicaReads
from shardcache.errors import ShardError
from shardcache.flows.budget import Budget
from shardcache.flows.context import ClientContext
from shardcache.flows.operations import ANYWHERE
from shardcache.flows.steps import Batch, Exchange, Outcome, Step, last_reply
from shardcache.request_deadline import caller_end
from shardcache.resp import ErrorReply, Op, Reply
from shardcache.wire import unpack

__all__ = ("AsyncReplicaRunner",)


class AsyncReplicaRunner(AsyncClusterRunner):
    """A runner that reads from replicas, or from the nearest server."""

    __slots__ = ("_reads",)

    def __init__(self, context: ClientContext) -> None:
        super().__init__(context)
        self._reads = ReplicaReads(context, time.monotonic)

    def place_of_read(self, shard: int) -> int:
        """Return the number of the shard that reads in the place of a key's own."""
        return self._reads.place(shard, self.table())

    async def ask(self, shard: int, payload: bytes, op: Op) -> Reply:
        """Send one packed command; return its reply. Raises `ShardError`."""
        if op not in ANYWHERE:
            return await super().ask(shard, payload, op)
        place = self.place_of_read(shard)
        if caller_end() is not None:  # by `_do_within`
            return await super().ask(place, payload, op)
        server = self.table()[place]
        began = server.clock()
        try:
            reply = await server.ask(payload, began + server.timeout, op)
        except ShardError as error:
            outcome: Outcome = [error] if isinstance(error.__cause__, ErrorReply) else error
        else:
            self._reads.measured(place, server.clock() - began)
            return reply
        batch = Batch(place, unpack(payload), op.idempotent, reads=True)
        return last_reply((await self._followed([batch], [outcome], began + self._timeout))[0])

    async def _do(self, step: Step) -> Any:
        if caller_end() is not None or not (
            isinstance(step, Exchange) and self._reads.concern(step.batches)
        ):
            return await super()._do(step)
        clock, batches = asyncio.get_running_loop().time, step.batches
        began = clock()
        timeout = self._reads.timeout(batches)
        on_reply = self._reads.stopwatch(batches, began, clock)
        outcomes = await run_exchange(self.table(), batches, timeout, on_reply)
        return await self._followed(batches, outcomes, began + self._timeout)

    async def _do_within(self, step: Step, budget: Budget) -> Any:
        if not (isinstance(step, Exchange) and self._reads.concern(step.batches)):
            return await super()._do_within(step, budget)
        clock = asyncio.get_running_loop().time
        asking, outcomes = self._reads.asking(step.batches, budget.left, clock)
        await super()._do_within(asking, budget)
        with budget.spent() as limit:
            return await self._followed(step.batches, outcomes, clock() + limit)
