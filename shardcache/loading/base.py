"""What both colours of loading have in common: what a look at the cache means."""

import random
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from shardcache.codecs import Loaded
from shardcache.codecs.envelope import SIGNED
from shardcache.commands import Command
from shardcache.drivers.clock import boottime
from shardcache.drivers.token import mint
from shardcache.errors import DamagedPayload, InvalidArgument, LoadCycle, ShardError
from shardcache.flows.core import Core
from shardcache.flows.load import Entry, Job, LoadDesk
from shardcache.flows.load.tags import check, ensure, invalidate, valid
from shardcache.flows.lock.room import LockRoom
from shardcache.flows.requests import Request, Requests
from shardcache.flows.steps import Flow
from shardcache.keys import Key
from shardcache.policy import Freshness, LoadPolicy
from shardcache.policy.load_policy import Preset
from shardcache.results import MISS
from shardcache.stats import LoadTally
from shardcache.ttl import TTL, Default

__all__ = ("LoaderBase", "Look", "new_desk")

_SIGNED = bytes([SIGNED])  # from here on, there may be more to know than the value


class Look(NamedTuple):
    """What one look found. ``value`` is `MISS` unless it may be returned; ``stale`` is what may be served if nothing better is had."""

    value: Any
    refresh: bool = False
    stale: Any = MISS


_NOTHING = Look(MISS)


def new_desk(core: Core, room: LockRoom) -> LoadDesk:
    """Return what the loads of one client need."""
    return LoadDesk(
        codec=core.codec,
        ledger=core.ledger,
        room=room,
        clock=boottime,
        luck=random.random,
        mint=mint,
        version=lambda: secrets.token_bytes(16),
        tally=LoadTally(),
    )


class LoaderBase:
    """Looks, judges, and makes jobs."""

    def __init__(self, core: Core, desk: LoadDesk) -> None:
        self.desk = desk
        self._core = core
        self._ledger = core.ledger
        self._requests: Requests = core.requests
        self._wire = core.keys.wire
        self._owner = core.placement.owner_index
        self._decode = core.codec.decode

    def policy(self, policy: "LoadPolicy | Preset | None") -> LoadPolicy:
        """Return the policy meant."""
        return LoadPolicy.of(policy)

    @staticmethod
    def commands(wire: bytes) -> list[Command]:
        """Return what asks for value and time left."""
        return [(b"GET", wire), (b"PTTL", wire)]

    def job(self, key: Key, loader: Any, ttl: TTL | Default, policy: LoadPolicy, tags: Iterable[str] | None) -> Job:
        """Return the job, all arguments checked."""
        ttl_ms = self._requests.ttl_ms(ttl)
        return self.desk.job(key, loader, ttl_ms, policy, check(tags))

    def judged(self, raw: bytes | None, pttl: int, wire: bytes, shard: int, policy: LoadPolicy) -> Look | Loaded:
        """Return what one look found; the record itself if it is tagged or negative, so that there is more to find out."""
        if raw is None:
            self._ledger.tally.misses += 1
            return _NOTHING
        if raw[:1] < _SIGNED:
            return Look(self._ledger.value(raw, wire, MISS, shard))
        try:
            record, freshness = self.desk.judge(raw, pttl, wire, policy)
        except DamagedPayload as error:
            self._ledger.damaged(shard, "get_or_set", error)
            return _NOTHING
        if freshness is Freshness.GONE:
            self._ledger.tally.misses += 1
            return _NOTHING
        if record.tags or record.negative:
            return record
        self._ledger.tally.hits += 1
        return self._fresh(record, freshness)

    def _fresh(self, record: Loaded, freshness: Freshness) -> Look:
        if freshness is Freshness.FRESH:
            return Look(record.value)
        if freshness is Freshness.EARLY:
            return Look(record.value, refresh=True)
        return Look(MISS, refresh=True, stale=record.value)

    def verified(self, record: Loaded, raw: bytes, pttl: int, wire: bytes, policy: LoadPolicy) -> Flow[Look]:
        """Finish the look at a record that is tagged or negative."""
        if record.tags and not (yield from valid([record], self.desk))[0]:
            self._ledger.tally.misses += 1
            return _NOTHING
        self._ledger.tally.hits += 1
        if record.negative:
            self.desk.tally.negative += 1
            raise record.refusal()
        return self._fresh(record, self.desk.judge(raw, pttl, wire, policy)[1])

    def value_of(self, entry: Entry) -> Any:
        """Return what an entry holds; raise the refusal that it stands for."""
        value = entry.value
        if value.__class__ is Loaded:
            if value.negative:
                self.desk.tally.negative += 1
                raise value.refusal()
            return value.value
        return value

    def out(self, error: ShardError | None) -> None:
        """Note that the key's shard could not be asked, or raise, as the client's policy has it."""
        if error is not None:
            self._ledger.degraded(error.shard, "get_or_set", 1, error)

    def no_cycle(self, wire: bytes, inside: Sequence[bytes], key: Key) -> None:
        """Raise if this call comes from the loader of the same key."""
        if wire in inside:
            raise LoadCycle(f"the loader of {key!r} asked for {key!r}")

    def tagged(self, key: Key, value: Any, ttl: TTL | Default, tags: Iterable[str]) -> Flow[Request | None]:
        """Return the request that stores a tagged value; None if the version of a tag cannot be had, so that nothing is stored."""
        names = check(tags)
        bare = self._requests.set(key, value, ttl)
        ttl_ms = self._requests.ttl_ms(ttl)
        if not names or ttl_ms == 0:
            return bare
        versions = yield from ensure(names, self.desk, ttl_ms, 0)
        if versions is None:
            return None
        raw = self._core.codec.encode_loaded(value, bare.key, tags=versions)
        return bare._replace(command=(b"SET", bare.key, raw, *bare.command[3:]))

    def invalidation(self, tags: Iterable[str]) -> Flow[int]:
        """Return the flow that invalidates tags; they are checked first."""
        return invalidate(check(tags), self.desk)

    def jobs(
        self,
        keys: Iterable[Key],
        loader: Any,
        ttl: TTL | Default,
        policy: LoadPolicy,
        tags: Iterable[str] | None,
    ) -> list[Job]:
        """Return the jobs of several keys that are loaded in one call."""
        if not callable(loader):
            raise InvalidArgument(
                f"the loader of many keys must be callable with a list of keys, got {type(loader).__name__}"
            )
        names = check(tags)
        ttl_ms = self._requests.ttl_ms(ttl)
        return [self.desk.job(key, loader, ttl_ms, policy, names) for key in keys]
