"""What both drivers do about reads from replicas: where each goes, and how long it took."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from shardcache.drivers.shard_table import ShardTable
from shardcache.flows.context import REPLICA_SHARE, ClientContext
from shardcache.flows.steps import Batch, Broadcast, OnReply, Outcome, ServerRun, gather
from shardcache.policy.read_choice import ReadChoice
from shardcache.topology.replica_numbers import is_replica

__all__ = ("ReplicaReads",)


class ReplicaReads:
    """Places the reads of one client.

    ``context``: the client's.
    ``clock``: returns seconds.
    """

    __slots__ = ("_choice", "_context", "measured")

    def __init__(self, context: ClientContext, clock: Callable[[], float]) -> None:
        self._context = context
        self._choice = ReadChoice(nearest=context.options.read_from == "nearest", clock=clock)
        self.measured = self._choice.measured

    def place(self, primary: int, table: ShardTable[Any]) -> int:
        """Return the number of the shard that the next read goes to.

        ``primary``: the number of the key's own shard.
        ``table``: the shards, of this event loop if there is one.
        """
        replicas = self._context.current.now.replicas.get(primary, ())
        return self._choice.pick(primary, replicas, table.is_out)

    def concern(self, batches: Sequence[Batch]) -> bool:
        """Whether an exchange is to be measured, or has a replica in it."""
        if self._choice.nearest:
            return bool(batches) and all(batch.reads for batch in batches)
        return _with_replica(batches)

    def timeout(self, batches: Sequence[Batch]) -> float:
        """Return the seconds that an exchange may take before the primaries are asked."""
        return self._context.timeout * (REPLICA_SHARE if _with_replica(batches) else 1)

    def asking(
        self, batches: Sequence[Batch], left: float, clock: Callable[[], float]
    ) -> tuple[Broadcast, list[Outcome]]:
        """Return an exchange for a caller whose time is short, and where its outcomes come.

        ``batches``: those of the exchange.
        ``left``: the seconds that the caller has left. With a replica among the batches it takes a
            part of them, since the primaries are asked after it; that an answer has not come by
            then says nothing about the replica.
        ``clock``: returns seconds.
        """
        asking, outcomes = gather(batches, self.timeout(batches))
        told, watch = asking.on_reply, self.stopwatch(batches, clock(), clock)
        if _with_replica(batches):
            asking = replace(asking, limit=left * REPLICA_SHARE)
        if watch is None or told is None:
            return asking, outcomes

        def on_reply(place: int, outcome: Outcome, run: ServerRun | None) -> bool:
            watch(place, outcome, run)
            return told(place, outcome, run)

        return replace(asking, on_reply=on_reply), outcomes

    def stopwatch(
        self, batches: Sequence[Batch], began: float, clock: Callable[[], float]
    ) -> OnReply | None:
        """Return what notes how long each server takes; None if nobody needs to know.

        ``batches``: those of an exchange.
        ``began``: when it began, by ``clock``.
        """
        if not self._choice.nearest:
            return None

        def on_reply(place: int, outcome: Outcome, _: ServerRun | None) -> bool:
            if isinstance(outcome, list):
                self.measured(batches[place].shard, clock() - began)
            return False

        return on_reply


def _with_replica(batches: Sequence[Batch]) -> bool:
    return any(is_replica(batch.shard) for batch in batches)
