"""The sync driver over a Redis Cluster whose replicas are read from.

A read that may be asked of a replica (`operations.ANYWHERE`, `batch.fetch`) is placed by a
`ReadChoice`, and sent to the shard that reads from that server. What does not come of it goes on by
`redirection.follow`, as anything that was redirected, to the primary. All else is sent as by
`ClusterRunner`.
"""

from typing import Any

from shardcache.drivers.replica_reads import ReplicaReads
from shardcache.drivers.sync.broadcast import run_exchange
from shardcache.drivers.sync.cluster_runner import ClusterRunner
from shardcache.errors import ShardError
from shardcache.flows.budget import Budget
from shardcache.flows.context import ClientContext
from shardcache.flows.operations import ANYWHERE
from shardcache.flows.steps import Batch, Exchange, Outcome, Step, last_reply
from shardcache.request_deadline import caller_end
from shardcache.resp import Command, ErrorReply, Op, Reply
from shardcache.wire import pack

__all__ = ("ReplicaRunner",)


class ReplicaRunner(ClusterRunner):
    """A runner that reads from replicas, or from the nearest server."""

    __slots__ = ("_reads",)

    _reads: ReplicaReads

    @classmethod
    def of(cls, context: ClientContext, *args: Any, **kwargs: Any) -> "ReplicaRunner":
        """Return a runner for the cluster of ``context``. Opens no connection."""
        made = super().of(context, *args, **kwargs)
        assert isinstance(made, cls)  # noqa: S101  for the type checker
        made._reads = ReplicaReads(context, made._clock)  # noqa: SLF001  of its own class
        return made

    def place_of_read(self, shard: int) -> int:
        """Return the number of the shard that reads in the place of a key's own."""
        return self._reads.place(shard, self._table)

    def one(
        self, shard: int, command: Command, op: Op, invalidates: Command | None = None
    ) -> Reply:
        """Send one command, and ``invalidates`` before it; return its reply. Raises as `Runner`."""
        if op not in ANYWHERE:
            return super().one(shard, command, op, invalidates)
        place = self.place_of_read(shard)
        if caller_end() is not None:  # by `_do_within`
            return super().one(place, command, op)
        server = self._table[place]
        began = self._clock()
        try:
            reply = server.call(pack(command), began + server.timeout, op)
        except ShardError as error:
            outcome: Outcome = [error] if isinstance(error.__cause__, ErrorReply) else error
            batch = Batch(place, [command], op.idempotent, reads=True)
            return last_reply(self._followed([batch], [outcome], began + self._timeout)[0])
        self._reads.measured(place, self._clock() - began)
        return reply

    def _do(self, step: Step) -> Any:
        if caller_end() is not None or not (
            isinstance(step, Exchange) and self._reads.concern(step.batches)
        ):
            return super()._do(step)
        batches, began = step.batches, self._clock()
        timeout = self._reads.timeout(batches)
        on_reply = self._reads.stopwatch(batches, began, self._clock)
        outcomes = run_exchange(self._table, batches, timeout, self._clock, on_reply)
        return self._followed(batches, outcomes, began + self._timeout)

    def _do_within(self, step: Step, budget: Budget) -> Any:
        if not (isinstance(step, Exchange) and self._reads.concern(step.batches)):
            return super()._do_within(step, budget)
        asking, outcomes = self._reads.asking(step.batches, budget.left, self._clock)
        super()._do_within(asking, budget)
        with budget.spent() as limit:
            return self._followed(step.batches, outcomes, self._clock() + limit)
