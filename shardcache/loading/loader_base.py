"""What loading has in common in both clients: what a read of the cache means, and what follows."""

import os
import random
import secrets
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple, Protocol, TypedDict

from shardcache.codecs import Loaded
from shardcache.codecs.codec import SIGNED
from shardcache.errors import DamagedPayload, InvalidArgument, ShardError, WrongType
from shardcache.flows.budget import Budget
from shardcache.flows.context import ClientContext
from shardcache.flows.load import (
    LOOKED_AT_ONCE,
    SENT_AT_ONCE,
    LoadContext,
    LoadRequest,
    chunked,
    get_or_load_flow,
    read_many_flow,
    refresh_behind,
    refresh_first,
    reload,
)
from shardcache.flows.load.request import BULK_TIMEOUTS
from shardcache.flows.load.tags import check, ensure, invalidate, valid
from shardcache.flows.lock.planner import LockPlanner
from shardcache.flows.operations import Request
from shardcache.flows.reply_policy import about
from shardcache.flows.steps import Flow, Outcome
from shardcache.keys import Key
from shardcache.policy import Freshness, LoadPolicy
from shardcache.policy.load_policy import Preset
from shardcache.results import MISS
from shardcache.stats import LoadTally
from shardcache.system.clock import boottime
from shardcache.system.holder_token import new_token
from shardcache.ttl import TTL, Default
from shardcache.wire import PACKED_LOOK

__all__ = ("CacheRead", "LoaderBase", "new_load_context")

_SIGNED = bytes([SIGNED])  # from here on, there may be more to know than the value


class LoadHow(TypedDict, total=False):
    """What `get_or_set` takes besides key, loader and ttl."""

    policy: LoadPolicy | Preset | None
    tags: Iterable[str] | None


class _OrderOf(Protocol):
    """A function that makes the request for some of the keys."""

    def __call__(self, wanted: Collection[bytes], *, bulk: bool) -> LoadRequest: ...


class CacheRead(NamedTuple):
    """What one read found.

    ``value``: the value; `MISS` if there is none.
    ``needs_refresh``: the PTTL in ms of a value that is to be refreshed; else None.
    ``stale``: whether the ttl of the value is over.
    """

    value: Any
    needs_refresh: int | None = None
    stale: bool = False


_NOTHING = CacheRead(MISS)


def new_load_context(client_context: ClientContext, planner: LockPlanner) -> LoadContext:
    """Return the context of all loads of one client."""
    secret = secrets.token_bytes(8)
    return LoadContext(
        codec=client_context.codec,
        reply_policy=client_context.reply_policy,
        planner=planner,
        clock=boottime,
        random=random.random,
        new_token=new_token,
        version=lambda: secrets.token_bytes(16),
        tally=LoadTally(),
        timeout=client_context.timeout,
        batch=client_context.options.load_batch,
        salt=lambda: secret + os.getpid().to_bytes(8),  # a forked child has another one
    )


class LoaderBase:
    """Reads, judges, and decides. Each client adds how a flow is run."""

    def __init__(self, client_context: ClientContext, context: LoadContext) -> None:
        self.context = context
        self._client_context = client_context
        self._current = client_context.current
        self._reply_policy = client_context.reply_policy
        self._requests = client_context.requests
        self._wire = client_context.keys.wire
        self._near = client_context.near
        context.written = self._written
        self._hot_keys = client_context.hot_keys

    def checked(
        self, ttl: TTL | Default, tags: Iterable[str] | None
    ) -> tuple[int | None, tuple[bytes, ...]]:
        """Return ttl in ms and tags as bytes.

        Raises for wrong ones, whether or not there is anything to load.
        """
        return self._requests.ttl_ms(ttl), () if tags is None else check(tags)

    def request(
        self,
        key: Key,
        loader: Any,
        ttl_ms: int | None,
        policy: LoadPolicy,
        tags: tuple[bytes, ...],
        budget: Budget | None = None,
    ) -> LoadRequest:
        """Return the request of one key, all arguments checked.

        ``loader``: if it cannot be called, it is the value itself.
        ``ttl_ms``, ``tags``: as `checked` returns them.
        """
        # The key, and the function that loads it.
        budget = budget or self.context.budget()
        load_key = self.context.load_key(key, self._wire(key), policy)
        call = loader if callable(loader) else lambda: loader
        self._check_storable(loader, policy, tags)
        return LoadRequest((load_key,), call, ttl_ms, policy, tags, True, "get_or_set", budget)

    def _check_storable(self, loader: Any, policy: LoadPolicy, tags: tuple[bytes, ...]) -> None:
        """Raise if the client's serializer can surely not store what there will be to store."""
        codec = self._client_context.codec
        # If the annotation says that the result cannot be stored, the loader need not run.
        if getattr(loader, "__annotations__", None):
            codec.check_result(loader)
        # Nor if there is no place for what the policy needs beside the value.
        codec.check_record(
            stale=bool(policy.grace_ms), tags=bool(tags), negative=bool(policy.negative_on)
        )

    @staticmethod
    def packed_look(wire: bytes) -> bytes:
        """Return the two packed commands that read value and time left."""
        return PACKED_LOOK % (len(wire), wire, len(wire), wire)

    def judged(
        self, outcome: Outcome, wire: bytes, shard: int, policy: LoadPolicy
    ) -> "CacheRead | Flow[CacheRead]":
        """Return what one read found, or a flow that finds it if the value has tags to check."""
        if isinstance(outcome, ShardError):
            self._reply_policy.degraded(outcome.shard, "get_or_set", 1, outcome)
            return _NOTHING
        raw, pttl = outcome
        if raw is None:
            self._reply_policy.tally.misses += 1
            return _NOTHING
        if raw.__class__ is not bytes or pttl.__class__ is not int:
            return self._unreadable(raw, pttl, shard, wire)
        # A plain value has no record: it is fresh as long as it is there.
        if raw[:1] < _SIGNED:
            return CacheRead(self._reply_policy.value(raw, wire, MISS, shard))
        # Any other value has a record, which says how fresh it is, and which tags it has.
        try:
            record, freshness = self.context.judge(raw, pttl, wire, policy)
        except DamagedPayload as error:
            self._reply_policy.damaged(shard, "get_or_set", about(error, "get_or_set", wire))
            return _NOTHING
        if freshness is Freshness.GONE:
            self._reply_policy.tally.misses += 1
            return _NOTHING
        if record.tags:
            return self._verified(record, freshness, pttl)
        return self._fresh(record, freshness, pttl)

    def _unreadable(self, raw: Any, pttl: Any, shard: int, wire: bytes) -> CacheRead:
        """Note the error that came instead of a value, or raise it, as the client's policy says."""
        if isinstance(raw, WrongType):  # another program's list or hash under our key
            self._reply_policy.damaged(shard, "get_or_set", about(raw, "get_or_set", wire))
            return _NOTHING
        error: ShardError = raw if isinstance(raw, ShardError) else pttl
        self._reply_policy.degraded(error.shard, "get_or_set", 1, about(error, "get_or_set", wire))
        return _NOTHING

    def _fresh(self, record: Loaded, freshness: Freshness, pttl: int) -> CacheRead:
        self._reply_policy.tally.hits += 1
        if record.negative:
            self.context.tally.negative += 1
            raise record.refusal()
        return CacheRead(
            record.value,
            None if freshness is Freshness.FRESH else pttl,
            stale=freshness is Freshness.STALE,
        )

    def _verified(self, record: Loaded, freshness: Freshness, pttl: int) -> Flow[CacheRead]:
        if not (yield from valid([record], self.context))[0]:
            self._reply_policy.tally.misses += 1
            return _NOTHING
        return self._fresh(record, freshness, pttl)

    def served(self, read: CacheRead, wire: bytes, policy: LoadPolicy) -> bool:
        """Whether to return the value at once: it is fresh, or a refresh is running already."""
        if read.needs_refresh is None:
            return True
        if not policy.background or not self.context.is_tended(wire):
            return False
        self.context.tally.stale += read.stale
        return True

    def loaded(self, request: LoadRequest, read: CacheRead) -> Flow[Any]:
        """Return the value of one key that is missing, or that is to be refreshed."""
        wire = request.load_keys[0].wire
        if read.needs_refresh is None:
            try:
                return self._value((yield from get_or_load_flow(request, self.context))[wire])
            finally:
                self._written((wire,))
        if request.policy.background:
            yield from refresh_behind(request, {wire: read.needs_refresh}, self.context)
        else:
            values = yield from refresh_first(request, {wire: read.needs_refresh}, self.context)
            if wire in values:
                return self._value(values[wire])
        self.context.tally.stale += read.stale
        return read.value

    def loaded_many(
        self,
        keys: list[Key],
        loader: Any,
        ttl: TTL | Default,
        policy: LoadPolicy,
        tags: Iterable[str] | None,
        budget: Budget,
        claimed: dict[bytes, Any] | None = None,
    ) -> Flow[dict[Key, Any]]:
        """Return the values that are there, and those of missing keys after loading them.

        ``claimed``: gets what is to be given back if this is broken off, as of a `LoadRequest`.

        All arguments are checked first. The keys are read, claimed and stored in parts that take a
        server a few milliseconds; if there are several parts, each has a deadline of its own. The
        loader gets `Options.load_batch` keys at once.
        """
        if not callable(loader):
            raise InvalidArgument(
                "the loader of many keys must be callable with a list of keys, "
                f"got {type(loader).__name__}"
            )
        ttl_ms, names = self.checked(ttl, tags)
        self._check_storable(loader, policy, names)
        wires = self._client_context.keys.wire_many(keys)
        if self._hot_keys is not None:
            self._hot_keys.read_many(wires)
        # "a" and b"a" are one key: the loader gets the form that came first.
        by_wire = dict(zip(reversed(wires), reversed(keys), strict=True))

        def request(wanted: Collection[bytes], *, bulk: bool) -> LoadRequest:
            load_keys = tuple(
                self.context.load_key(by_wire[wire], wire, policy, keys=len(wanted), bulk=bulk)
                for wire in wanted
            )
            return LoadRequest(
                load_keys,
                loader,
                ttl_ms,
                policy,
                names,
                False,
                "get_or_set_many",
                budget,
                bulk=bulk,
                claimed={} if claimed is None else claimed,
            )

        values = yield from self._in_parts(list(dict.fromkeys(wires)), request, policy, budget)
        # A negative result is left out, as the loader leaves out a key that has no value.
        found = {}
        for key, wire in zip(keys, wires, strict=True):
            value = values.get(wire, MISS)
            if value.__class__ is Loaded:
                self.context.tally.negative += 1
            elif value is not MISS:
                found[key] = value
        return found

    def _in_parts(
        self, wires: list[bytes], request: _OrderOf, policy: LoadPolicy, budget: Budget
    ) -> Flow[dict[bytes, Any]]:
        """Read all keys part by part, refresh stale values, and load missing ones in batches."""
        context = self.context
        values: dict[bytes, Any] = {}
        missing: list[bytes] = []
        # Step 1: read a part. A part of many has a longer timeout than a call of one key.
        timeout = context.timeout * BULK_TIMEOUTS if len(wires) > LOOKED_AT_ONCE else None
        loaded = 0
        for part in chunked(wires, LOOKED_AT_ONCE):
            budget.renew(timeout or 0.0)
            reads = yield from read_many_flow(part, context, policy, timeout)
            values |= reads.values
            # Step 2: refresh the values of this part that need it.
            if reads.needs_refresh:
                stale = request(reads.needs_refresh, bulk=len(reads.needs_refresh) > SENT_AT_ONCE)
                if policy.background:
                    yield from refresh_behind(stale, reads.needs_refresh, context)
                else:
                    values |= yield from refresh_first(stale, reads.needs_refresh, context)
            # Step 3: load full batches of missing keys, and the rest after the last part.
            missing += reads.missing
            last = part[-1] is wires[-1]
            while len(missing) >= context.batch or (last and missing):
                batch, missing = missing[: context.batch], missing[context.batch :]
                # Otherwise the load shares the deadline of the read.
                bulk = loaded > 0 or len(batch) > SENT_AT_ONCE
                if bulk:
                    budget.renew()
                loaded += len(batch)
                try:
                    values |= yield from get_or_load_flow(request(batch, bulk=bulk), context)
                finally:
                    self._written(batch)
        return values

    def reloaded(self, request: LoadRequest) -> Flow[Any]:
        """Return the value of one key, loaded whether or not it is there."""
        wire = request.load_keys[0].wire
        try:
            return (yield from reload(request, self.context))[wire].value
        finally:
            self._written((wire,))

    def _written(self, wires: Iterable[bytes]) -> None:
        """Let nobody in this process get from memory what was there before a load."""
        if self._near is not None:
            self._near.drop(list(wires))

    def _value(self, value: Any) -> Any:
        if value.__class__ is Loaded:
            self.context.tally.negative += 1
            raise value.refusal()
        return value

    def tagged(
        self, key: Key, value: Any, ttl: TTL | Default, tags: Iterable[str]
    ) -> Flow[Request | None]:
        """Return the request that stores a tagged value.

        It is None if the version of a tag cannot be read: then nothing is stored.
        """
        names = check(tags)
        bare = self._requests.set(key, value, ttl)
        ttl_ms = self._requests.ttl_ms(ttl)
        if not names or ttl_ms == 0:
            return bare
        versions = yield from ensure(names, self.context, ttl_ms, 0)
        if versions is None:
            return None
        raw = self._client_context.codec.encode_loaded(value, bare.key, tags=versions)
        return bare._replace(command=(b"SET", bare.key, raw, *bare.command[3:]))

    def invalidation(self, tags: Iterable[str]) -> Flow[int]:
        """Return the flow that invalidates tags; they are checked first."""
        return invalidate(check(tags), self.context)
