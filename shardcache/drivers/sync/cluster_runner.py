"""The sync driver over a Redis Cluster: what is redirected is sent again, by the deadline."""

import random
from collections.abc import Sequence
from typing import Any, TypeVar

from shardcache.drivers.sync.broadcast import run_exchange
from shardcache.drivers.sync.runner import Runner
from shardcache.errors import ShardError
from shardcache.flows import redirection
from shardcache.flows.budget import Budget
from shardcache.flows.cluster_links import ClusterLinks
from shardcache.flows.context import ClientContext
from shardcache.flows.links import NodeLinks
from shardcache.flows.operations import invalidated
from shardcache.flows.steps import Batch, Exchange, Flow, Outcome, Step, last_reply
from shardcache.flows.voter_steps import at_slots
from shardcache.request_deadline import caller_end
from shardcache.resp import Command, ErrorReply, Op, OpGroup, Reply
from shardcache.wire import pack, pack_all, unpack

__all__ = ("ClusterRunner",)

T = TypeVar("T")


class ClusterRunner(Runner):
    """A runner whose exchanges go on by `redirection.follow` where a command was redirected."""

    __slots__ = ("links",)

    links: ClusterLinks | NodeLinks

    @classmethod
    def of(cls, context: ClientContext, *args: Any, **kwargs: Any) -> "ClusterRunner":
        """Return a runner for the nodes of ``context``. Opens no connection."""
        made = super().of(context, *args, **kwargs)
        assert context.links is not None  # noqa: S101  only then is this runner made
        made.links = context.links
        return made

    def one(
        self, shard: int, command: Command, op: Op, invalidates: Command | None = None
    ) -> Reply:
        """Send one command, and ``invalidates`` before it; return its reply. Raises as `Runner`."""
        if caller_end() is not None:
            return super().one(shard, command, op, invalidates)
        deadline = self._clock() + self._timeout
        commands = [command] if invalidates is None else [invalidates, command]
        outcome: Outcome
        try:
            if invalidates is None:
                return self._table[shard].call(pack(command), deadline, op)
            outcome = self._table[shard].call(pack_all(commands), deadline, invalidated(op))
        except ShardError as error:
            alone = invalidates is None and isinstance(error.__cause__, ErrorReply)
            outcome = [error] if alone else error
        batch = Batch(shard, commands, op.idempotent, reads=op.reads)
        return last_reply(self._followed([batch], [outcome], deadline)[0])

    def call_many(self, shard: int, payload: bytes, ops: OpGroup) -> Outcome:
        """Send several packed commands to one shard; return what an `Exchange` would."""
        if caller_end() is not None:
            return super().call_many(shard, payload, ops)
        deadline = self._clock() + self._timeout
        outcome: Outcome
        try:
            outcome = self._table[shard].call(payload, deadline, ops)
        except ShardError as error:
            outcome = error
        if not redirection.concerns([outcome]):
            return outcome
        batch = Batch(shard, unpack(payload), ops.idempotent, reads=ops.reads)
        return self._followed([batch], [outcome], deadline)[0]

    def run(self, flow: Flow[T], budget: Budget | None = None) -> T:
        """Run a flow, as `Runner.run` does; its voters are where their slots are."""
        return super().run(at_slots(flow, self.links, self._clock, random.random), budget)

    def _do(self, step: Step) -> Any:
        if not isinstance(step, Exchange) or caller_end() is not None:
            return super()._do(step)
        deadline = self._clock() + self._timeout
        outcomes = run_exchange(self._table, step.batches, self._timeout, self._clock)
        return self._followed(step.batches, outcomes, deadline)

    def _do_within(self, step: Step, budget: Budget) -> Any:
        outcomes = super()._do_within(step, budget)
        if isinstance(step, Exchange) and step.batches:
            with budget.spent() as limit:
                return self._followed(step.batches, outcomes, self._clock() + limit)
        return outcomes

    def _followed(
        self, batches: Sequence[Batch], outcomes: list[Outcome], deadline: float
    ) -> list[Outcome]:
        """Return the outcomes after what was redirected has been sent where it belongs."""
        if not redirection.concerns(outcomes):
            return outcomes
        # It is a driver's own, and names shards as they are.
        return super().run(
            redirection.follow(
                batches,
                outcomes,
                self.links,
                self._timeout,
                lambda: deadline - self._clock(),
                random.random,
            )
        )
