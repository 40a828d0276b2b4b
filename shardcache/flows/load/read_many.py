"""Reading many keys at once, with the time left of each, to say how fresh they are."""

from collections.abc import Sequence
from typing import Any

from shardcache.codecs import Loaded
from shardcache.errors import DamagedPayload, ShardError, WrongType
from shardcache.flows.grouping import exchange_grouped
from shardcache.flows.load.context import LoadContext
from shardcache.flows.load.request import look_commands
from shardcache.flows.load.tags import valid
from shardcache.flows.reply_policy import about
from shardcache.flows.steps import Flow
from shardcache.policy import Freshness, LoadPolicy

__all__ = ("CacheReads", "read_many_flow")


class CacheReads:
    """What is known of the keys that were asked for.

    ``values``: by wire key, the values to return.
    ``needs_refresh``: by wire key, the PTTL in ms of values that are to be refreshed.
    ``missing``: the wire keys without a value.
    """

    __slots__ = ("missing", "needs_refresh", "values")

    def __init__(self) -> None:
        self.values: dict[bytes, Any] = {}
        self.needs_refresh: dict[bytes, int] = {}
        self.missing: list[bytes] = []


def read_many_flow(
    wires: Sequence[bytes], context: LoadContext, policy: LoadPolicy, timeout: float | None = None
) -> Flow[CacheReads]:
    """Read value and time left of every key, all shards at once.

    ``wires``: the wire keys.
    ``context``: what the client's loads share.
    ``policy``: says what is fresh and what is stale.
    ``timeout``: seconds that a shard may take; None: a call's deadline.

    A stale value counts as there, and is to be refreshed.
    """
    # Step 1: ask all shards.
    reply_policy = context.reply_policy
    owners = context.planner.topology.owner_indexes(list(wires))
    asked = [(owner, look_commands(wire)) for wire, owner in zip(wires, owners, strict=True)]
    outcomes = yield from exchange_grouped(asked, timeout, reads=True)
    # Step 2: judge each reply; an error of a shard is told once for all of its keys.
    reads = CacheReads()
    tally = reply_policy.tally
    there: list[tuple[bytes, int, Loaded, Freshness]] = []
    out: dict[str, list[ShardError]] = {}
    for wire, owner, outcome in zip(wires, owners, outcomes, strict=True):
        raw, pttl = (outcome, outcome) if isinstance(outcome, ShardError) else outcome
        reads.missing.append(wire)
        if isinstance(raw, WrongType):
            reply_policy.damaged(owner, "get_or_set_many", about(raw, "get_or_set_many", wire))
        elif isinstance(raw, ShardError) or isinstance(pttl, ShardError):
            error = raw if isinstance(raw, ShardError) else pttl
            out.setdefault(error.shard, []).append(about(error, "get_or_set_many", wire))
        elif raw is None:
            tally.misses += 1
        else:
            try:
                record, freshness = context.judge(raw, pttl, wire, policy)
            except DamagedPayload as damage:
                reply_policy.damaged(
                    owner, "get_or_set_many", about(damage, "get_or_set_many", wire)
                )
                continue
            if freshness is Freshness.GONE:
                tally.misses += 1
            else:
                reads.missing.pop()
                there.append((wire, pttl, record, freshness))
    for errors in out.values():
        reply_policy.degraded(errors[0].shard, "get_or_set_many", len(errors), errors[0])
    # Step 3: values with an invalidated tag are missing.
    verdicts = yield from valid([record for _, _, record, _ in there], context)
    for (wire, pttl, record, freshness), good in zip(there, verdicts, strict=True):
        if not good:
            tally.misses += 1
            reads.missing.append(wire)
            continue
        tally.hits += 1
        if record.negative:
            reads.values[wire] = record
            continue
        reads.values[wire] = record.value
        if freshness is not Freshness.FRESH:
            context.tally.stale += freshness is Freshness.STALE
            reads.needs_refresh[wire] = pttl
    return reads
