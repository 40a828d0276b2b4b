"""Counters while the client runs, and the frozen snapshot that ``stats()`` hands out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

__all__ = (
    "SERVICE",
    "DiscoveryStats",
    "DiscoveryTally",
    "LoadStats",
    "LoadTally",
    "NearStats",
    "ShardStats",
    "ShardTally",
    "Stats",
    "Tally",
)


# A breaker's state -> what it means for the shard.
SERVICE = {"closed": "in service", "open": "out", "half-open": "on trial"}


@dataclass(frozen=True, slots=True)
class ShardStats:
    """One shard since the client was made. All but ``state`` and ``idle`` only grow.

    ``state``: "closed" (in service), "open" (out) or "half-open" (on trial).
    ``idle``: connections that wait for use now.
    ``connects``: connections that were opened.
    ``failures``: exchanges that ended without a reply, timeouts included.
    ``timeouts``: exchanges that met their deadline.
    ``refused_open``: calls that were not sent because the breaker was open.
    ``ejections``: how often the breaker opened.
    ``probes``: probes that were sent.
    ``retries``: exchanges that were sent again on a fresh connection.
    ``moves``: how often it got another address (asyncio: on each event loop).
    ``failed_lookups``: look-ups of its host name that failed or took too long (asyncio: the same).
    """

    state: str
    idle: int
    connects: int
    failures: int
    timeouts: int
    refused_open: int
    ejections: int
    probes: int
    retries: int
    moves: int = 0
    failed_lookups: int = 0

    @property
    def service(self) -> str:
        """The state in words for people: "in service", "out" or "on trial"."""
        return SERVICE[self.state]

    @staticmethod
    def total(rows: "Sequence[ShardStats]") -> "ShardStats":
        """Return one row for a shard that several event loops use; the worst state counts.

        ``rows``: the row of each event loop, at least one.
        """
        states = {row.state for row in rows}
        state = next(one for one in ("open", "half-open", "closed") if one in states)
        counters = [one.name for one in fields(ShardStats)][1:]
        return ShardStats(state, *(sum(getattr(row, name) for row in rows) for name in counters))


@dataclass(frozen=True, slots=True)
class LoadStats:
    """What `get_or_set` has done since the client was made. All only grow.

    ``loads``: loaders that ran, for a missing value or to refresh one.
    ``failures``: loaders that raised or were given up.
    ``alone``: loaders that ran without a quorum, so that other processes may have loaded too.
    ``joined``: keys that calls of this process waited for, because another call was loading them.
    ``waits``: loads that waited for another process.
    ``stale``: stale values that were served.
    ``refreshes``: loads in the background, before or after the ttl.
    ``not_stored``: loaded values that were not stored: the key was set or deleted meanwhile, or the
        lock was lost.
    ``negative``: calls that were answered by a remembered refusal.
    ``abandoned``: loaders that were given up after ``hard_timeout``, and ran on, since nothing can
        end them.
    ``skipped``: keys whose refresh was not begun, because too many refreshes were running.
    """

    loads: int
    failures: int
    alone: int
    joined: int
    waits: int
    stale: int
    refreshes: int
    not_stored: int
    negative: int
    abandoned: int
    skipped: int


@dataclass(frozen=True, slots=True)
class DiscoveryStats:
    """What the source of a client's nodes has answered since the client was made.

    ``ok``: whether the last poll brought nodes.
    ``polls``: how often the source was asked.
    ``changes``: answers that were put in use: the first one, and each that differed from the one
        before.
    ``failures``: polls that brought no nodes: an error, no nodes, nonsense, or no answer in time.
    """

    ok: bool
    polls: int
    changes: int
    failures: int


@dataclass(frozen=True, slots=True)
class NearStats:
    """What the near cache has done in this process.

    ``hits``: reads that were answered from memory.
    ``misses``: reads of keys to be kept that went to their shard.
    ``invalidations``: keys that the shards have told of; all keys at once count once.
    ``flushes``: how often the part of a shard was dropped since its connection was lost, by name.
    ``items``: the values that are there.
    ``bytes``: an estimate of what they take.
    """

    hits: int
    misses: int
    invalidations: int
    flushes: Mapping[str, int]
    items: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Stats:
    """One client since it was made.

    ``hits``: keys that were found.
    ``misses``: keys that were not there.
    ``degraded_reads``: keys that were answered as misses because their shard was out.
    ``dropped_writes``: keys that were not written, deleted or counted because their shard was out.
    ``damaged``: keys whose stored bytes did not decode.
    ``errors``: errors that were raised to the caller.
    ``shards``: the counters of each shard, by its name.
    ``loading``: what `get_or_set` has done.
    ``topology_changes``: how often another set of nodes was put in service.
    ``discovery``: what the source of the nodes has answered; None without a source.
    ``near``: what was kept in memory; None without a near cache.
    """

    hits: int
    misses: int
    degraded_reads: int
    dropped_writes: int
    damaged: int
    errors: int
    shards: Mapping[str, ShardStats]
    loading: LoadStats = LoadStats(*[0] * 11)
    topology_changes: int = 0
    discovery: DiscoveryStats | None = None
    near: NearStats | None = None


@dataclass(slots=True)
class Tally:
    """The mutable side of `Stats`.

    Plain additions: the interpreter lock does not change hands inside ``x.n += 1`` on a slot,
    so none is lost; on a free-threaded build the figures are close rather than exact.
    """

    hits: int = 0
    misses: int = 0
    degraded_reads: int = 0
    dropped_writes: int = 0
    damaged: int = 0
    errors: int = 0

    def freeze(
        self,
        shards: Mapping[str, ShardStats],
        loading: LoadStats,
        topology_changes: int,
        discovery: DiscoveryStats | None,
        near: NearStats | None = None,
    ) -> Stats:
        return Stats(
            **{one.name: getattr(self, one.name) for one in fields(self)},
            shards=shards,
            loading=loading,
            topology_changes=topology_changes,
            discovery=discovery,
            near=near,
        )


@dataclass(slots=True)
class DiscoveryTally:
    """The mutable side of `DiscoveryStats`."""

    polls: int = 0
    changes: int = 0
    failures: int = 0

    def freeze(self, *, ok: bool) -> DiscoveryStats:
        return DiscoveryStats(ok, self.polls, self.changes, self.failures)


@dataclass(slots=True)
class LoadTally:
    """The mutable side of `LoadStats`."""

    loads: int = 0
    failures: int = 0
    alone: int = 0
    joined: int = 0
    waits: int = 0
    stale: int = 0
    refreshes: int = 0
    not_stored: int = 0
    negative: int = 0
    abandoned: int = 0
    skipped: int = 0

    def freeze(self) -> LoadStats:
        return LoadStats(**{one.name: getattr(self, one.name) for one in fields(self)})


@dataclass(slots=True)
class ShardTally:
    """The mutable side of `ShardStats`."""

    connects: int = 0
    failures: int = 0
    timeouts: int = 0
    refused_open: int = 0
    ejections: int = 0
    probes: int = 0
    retries: int = 0
    moves: int = 0
    failed_lookups: int = 0

    def freeze(self, state: str, idle: int) -> ShardStats:
        return ShardStats(
            state, idle, **{one.name: getattr(self, one.name) for one in fields(self)}
        )
