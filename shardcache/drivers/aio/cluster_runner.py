"""The asyncio driver over a Redis Cluster: what is redirected is sent again, by the deadline."""

import asyncio
import random
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from shardcache.drivers.aio.broadcast import run_exchange
from shardcache.drivers.aio.runner import AsyncRunner
from shardcache.errors import ShardError
from shardcache.flows import redirection
from shardcache.flows.budget import Budget
from shardcache.flows.context import ClientContext
from shardcache.flows.steps import Batch, Exchange, Flow, Outcome, Step, last_reply
from shardcache.flows.voter_steps import at_slots
from shardcache.request_deadline import caller_end
from shardcache.resp import ErrorReply, Op, OpGroup, Reply
from shardcache.wire import unpack

__all__ = ("AsyncClusterRunner",)

T = TypeVar("T")


class AsyncClusterRunner(AsyncRunner):
    """A runner whose exchanges go on by `redirection.follow` where a command was redirected."""

    __slots__ = ("links",)

    def __init__(self, context: ClientContext) -> None:
        super().__init__(context)
        assert context.links is not None  # noqa: S101  only then is this runner made
        self.links = context.links

    # It has a coroutine of its own, unlike that of `AsyncRunner`.
    async def ask(self, shard: int, payload: bytes, op: Op) -> Reply:
        """Send one packed command; return its reply. Raises `ShardError`."""
        if caller_end() is not None:
            return await super().ask(shard, payload, op)
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            return await super().ask(shard, payload, op)
        except ShardError as error:
            alone = isinstance(error.__cause__, ErrorReply)
            outcome: Outcome = [error] if alone else error
        batch = Batch(shard, unpack(payload), op.idempotent, reads=op.reads)
        return last_reply((await self._followed([batch], [outcome], deadline))[0])

    async def call_many(self, shard: int, payload: bytes, ops: OpGroup) -> Outcome:
        """Send several packed commands to one shard; return their outcome."""
        if caller_end() is not None:
            return await super().call_many(shard, payload, ops)
        deadline = asyncio.get_running_loop().time() + self._timeout
        outcome = await super().call_many(shard, payload, ops)
        if not redirection.concerns([outcome]):
            return outcome
        batch = Batch(shard, unpack(payload), ops.idempotent, reads=ops.reads)
        return (await self._followed([batch], [outcome], deadline))[0]

    def run(self, flow: Flow[T], budget: Budget | None = None) -> Coroutine[Any, Any, T]:
        """Run a flow, as `AsyncRunner.run` does; its voters are where their slots are."""
        return super().run(at_slots(flow, self.links, time.monotonic, random.random), budget)

    async def _do(self, step: Step) -> Any:
        if not isinstance(step, Exchange) or caller_end() is not None:
            return await super()._do(step)
        deadline = asyncio.get_running_loop().time() + self._timeout
        outcomes = await run_exchange(self.table(), step.batches, self._timeout)
        return await self._followed(step.batches, outcomes, deadline)

    async def _do_within(self, step: Step, budget: Budget) -> Any:
        outcomes = await super()._do_within(step, budget)
        if isinstance(step, Exchange) and step.batches:
            with budget.spent() as limit:
                now = asyncio.get_running_loop().time()
                return await self._followed(step.batches, outcomes, now + limit)
        return outcomes

    async def _followed(
        self, batches: Sequence[Batch], outcomes: list[Outcome], deadline: float
    ) -> list[Outcome]:
        """Return the outcomes after what was redirected has been sent where it belongs."""
        if not redirection.concerns(outcomes):
            return outcomes
        clock = asyncio.get_running_loop().time
        # It is a driver's own, and names shards as they are.
        return await super().run(
            redirection.follow(
                batches,
                outcomes,
                self.links,
                self._timeout,
                lambda: deadline - clock(),
                random.random,
            )
        )
