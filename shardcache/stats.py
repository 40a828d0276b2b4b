"""Counters while the client runs, and the frozen snapshot that ``stats()`` hands out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

__all__ = ("SERVICE", "LoadStats", "LoadTally", "ShardStats", "ShardTally", "Stats", "Tally")


# A breaker's state -> what it means for the shard.
SERVICE = {"closed": "in service", "open": "out", "half-open": "on trial"}


@dataclass(frozen=True, slots=True)
class ShardStats:
    """One shard since the client was made. All but ``state`` and ``idle`` only grow."""

    state: str  # "closed" (in service), "open" (out), "half-open" (on trial)
    idle: int  # connections waiting for use now
    connects: int  # connections opened
    failures: int  # exchanges that ended without a reply, timeouts included
    timeouts: int  # of those, the ones that met their deadline
    refused_open: int  # calls that were not sent because the breaker was open
    ejections: int  # times the breaker opened
    probes: int  # probes that were sent
    retries: int  # exchanges sent again on a fresh connection

    @property
    def service(self) -> str:
        """The state in words for people: "in service", "out" or "on trial"."""
        return SERVICE[self.state]

    @staticmethod
    def total(rows: "Sequence[ShardStats]") -> "ShardStats":
        """Add up the same shard as several event loops see it; the worst state counts."""
        states = {row.state for row in rows}
        state = next(one for one in ("open", "half-open", "closed") if one in states)
        counters = [one.name for one in fields(ShardStats)][1:]
        return ShardStats(state, *(sum(getattr(row, name) for row in rows) for name in counters))


@dataclass(frozen=True, slots=True)
class LoadStats:
    """What `get_or_set` has done since the client was made. All only grow."""

    loads: int  # loaders run to load a value that was missing, or to refresh one
    failures: int  # of those, the ones that raised or were given up
    alone: (
        int  # of those, the ones run without a quorum, so that other processes may have loaded too
    )
    # Keys that calls of this process waited for, or wait for now, because another one was loading
    # them
    joined: int
    waits: int  # loads that waited for another process
    stale: int  # stale values served
    refreshes: int  # loads in the background, before or after the ttl
    # Loaded values that were not stored: the key was set or deleted meanwhile, or the lock was lost
    not_stored: int
    negative: int  # calls answered by a remembered refusal
    abandoned: (
        int  # loaders that were given up after hard_timeout and ran on, since nothing can end them
    )
    skipped: int  # keys whose refresh was not begun because as many as may be were at work


@dataclass(frozen=True, slots=True)
class Stats:
    """One client since it was made: keys for the first six counters, shards by name."""

    hits: int
    misses: int
    degraded_reads: int  # keys answered as misses because their shard was out
    dropped_writes: int  # keys not written, deleted or counted because their shard was out
    damaged: int  # keys whose stored bytes did not decode
    errors: int  # errors raised to the caller
    shards: Mapping[str, ShardStats]
    loading: LoadStats = LoadStats(*[0] * 11)


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

    def freeze(self, shards: Mapping[str, ShardStats], loading: LoadStats) -> Stats:
        return Stats(
            **{one.name: getattr(self, one.name) for one in fields(self)},
            shards=shards,
            loading=loading,
        )


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

    def freeze(self, state: str, idle: int) -> ShardStats:
        return ShardStats(
            state, idle, **{one.name: getattr(self, one.name) for one in fields(self)}
        )
