"""`ShardCache`: the sync client, a thin shell over flows and the sync driver."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from shardcache.client_base import CacheBase
from shardcache.codecs import Loaded
from shardcache.drivers import Runner
from shardcache.errors import ShardError
from shardcache.flows import Request, batch
from shardcache.flows import scan as sweep
from shardcache.flows.context import ClientContext
from shardcache.flows.load import tags as tagging
from shardcache.flows.one_command import Argument
from shardcache.flows.operations import GET
from shardcache.keys import Key, distinct
from shardcache.loading.cached import Cached, Decorator, Recipe, sync_only, unwrapped
from shardcache.loading.loader_base import LoadHow
from shardcache.loading.sync import Loader
from shardcache.locks.lock_set import LockSet
from shardcache.locks.quorum_lock import QuorumLock
from shardcache.pipeline import Pipeline
from shardcache.policy import LoadPolicy
from shardcache.policy.load_policy import Preset
from shardcache.policy.load_result import LoadResult
from shardcache.results import MISS, PingResult, Results
from shardcache.ttl import DEFAULT, TTL, Default
from shardcache.wire.redis_client import redis_client

if TYPE_CHECKING:
    from shardcache.wire.redis_client import Redis

__all__ = ("ShardCache",)


K = TypeVar("K", bound=Key)
T = TypeVar("T")


class ShardCache(CacheBase):
    """A cache over several independent Redis or Valkey servers.

    ``nodes``: URLs in a list or one text, a mapping of names to URLs, or `Node` objects.
    ``namespace``: text that is put before every key, with a colon. Default: none.
    ``default_ttl``: seconds or a timedelta, above 0; None: no expiry. Default: 300.
    ``serializer``: "safe" (the default), "json", "pickle", "raw" (bytes alone, without a header),
        or an object with dumps and loads.
    ``compression``: None (the default), "zlib" or "zstd".
    ``timeout``: the deadline of one call in seconds, all shards and retries together, 0.001 to
        3600. Default: 0.5.
    ``on_unavailable``: "degrade" (the default: reads miss, writes say False) or "raise"
        (`ShardUnavailable`).
    ``options``: an `Options` with all other settings; None: the defaults.

    Raises `InvalidArgument` for values that cannot be, before anything is sent. Safe to share
    between threads and to use after a fork; no connection is made before the first call.
    Guarantees: docs/guarantees.md.
    """

    def _open(self, context: ClientContext) -> Runner:
        self._runner = Runner.of(context)
        self._one = self._runner.one
        self._run = self._runner.run
        self._wire = context.keys.wire
        self._loader = Loader(context, self._load_context, self._runner)
        return self._runner

    def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of ``key``, or ``default``. `MISS` as default tells a stored None from a miss."""
        # `_call` without a `Request`: the one method for which its making is worth saving.
        wire = self._wire(key)
        shard = self._owner(wire)
        try:
            raw = self._one(shard, (b"GET", wire), GET)
        except ShardError as error:
            return self._reply_policy.fail(self._requests.get(key, default), error)
        value = self._reply_policy.value(raw, wire, default, shard)
        if value.__class__ is Loaded:
            return self._run(tagging.plain(value, default, self._load_context))
        return value

    @overload
    def get_many(self, keys: Iterable[K]) -> dict[K, Any]: ...
    @overload
    def get_many(self, keys: Iterable[Key]) -> dict[Key, Any]: ...  # type: ignore[overload-cannot-match]  # a list of both kinds does
    def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """Return the keys that are there with their values; one exchange per shard, all shards at once."""
        asked = distinct(keys)
        wires = self._context.keys.wire_many(asked)
        began = self._load_context.clock()
        found = self._reply_policy.hits(
            asked, wires, self._run(batch.fetch(self._context.placement, wires))
        )
        if Loaded in set(map(type, found.values())):
            rest = self._load_context.budget(began)
            values = self._run(
                tagging.plain_many(list(found.values()), MISS, self._load_context), rest
            )
            return {
                key: value for key, value in zip(found, values, strict=True) if value is not MISS
            }
        return found

    def fetch_many(self, keys: Iterable[Key]) -> Results[Any]:
        """Return for each key whether it was there (`Hit`), was not (`Miss`), or cannot be said to be and why (`Failed`).

        `Failed` has the error: a shard that is out, a value that does not decode, a list or hash of
        somebody else's (`WrongType`). One exchange per shard, and a second one, about their types,
        for keys that the first did not find.
        """
        asked = distinct(keys)
        wires = self._context.keys.wire_many(asked)
        began = self._load_context.clock()
        raws = self._run(batch.fetch_told(self._context.placement, wires))
        found = self._reply_policy.outcomes("fetch_many", asked, wires, raws)
        hits = found.hits
        if Loaded in set(map(type, hits.values())):
            rest = self._load_context.budget(began)
            values = self._run(
                tagging.plain_many(list(hits.values()), MISS, self._load_context), rest
            )
            return found.with_hits(zip(hits, values, strict=True))
        return found

    def set(
        self,
        key: Key,
        value: Any,
        ttl: TTL | Default = DEFAULT,
        *,
        tags: Iterable[str] | None = None,
    ) -> bool:
        """Store ``value``; return whether it was. ``ttl`` in seconds, None for no expiry, zero or less deletes.

        With ``tags`` the value is a miss once one of them is invalidated (`invalidate_tags`);
        reading it costs one more exchange.
        """
        if tags is not None:
            versions = self._run(self._loader.tagged(key, value, ttl, tags))
            return versions is not None and bool(self._call(versions))
        return bool(self._call(self._requests.set(key, value, ttl)))

    def add(self, key: Key, value: Any, ttl: TTL | Default = DEFAULT) -> bool:
        """Store ``value`` only if ``key`` is absent; return whether it was."""
        return bool(self._call(self._requests.add(key, value, ttl)))

    def replace(self, key: Key, value: Any, ttl: TTL | Default = DEFAULT) -> bool:
        """Store ``value`` only if ``key`` is present; return whether it was."""
        return bool(self._call(self._requests.replace(key, value, ttl)))

    @overload
    def set_many(self, mapping: Mapping[K, object], ttl: TTL | Default = DEFAULT) -> list[K]: ...
    @overload
    def set_many(  # type: ignore[overload-cannot-match]
        self, mapping: Mapping[Key, object], ttl: TTL | Default = DEFAULT
    ) -> list[Key]: ...
    def set_many(self, mapping: Mapping[Any, Any], ttl: TTL | Default = DEFAULT) -> list[Any]:
        """Store all values; return the keys that were not stored, so an empty list says that all were."""
        asked, wires, raws, ms = self._context.encoded(mapping, ttl)
        try:
            failed = self._run(self._context.store(wires, raws, ms))
        finally:
            self._runner.forget_flights(wires)
        return self._reply_policy.stored(asked, failed)

    def delete(self, key: Key) -> bool:
        """Delete ``key``; return whether it was there."""
        return bool(self._call(self._requests.delete(key)))

    def invalidate_tags(self, tags: Iterable[str]) -> int:
        """Make every value that has one of these tags a miss, on whichever shard it lies; return how many of the tags were in use.

        Costs one exchange with the tags' own shards, whatever the number of values: nothing is
        scanned or deleted.
        """
        try:
            return self._run(self._loader.invalidation(tags))
        finally:
            self._runner.forget_flights()

    def delete_many(self, keys: Iterable[Key]) -> int:
        """Delete the keys; return how many were there."""
        wires = self._context.keys.wire_many(distinct(keys))
        try:
            deleted = self._run(self._context.delete(wires))
        finally:
            self._runner.forget_flights(wires)
        return self._reply_policy.counted("delete_many", *deleted)

    def incr(
        self, key: Key, delta: int = 1, *, initial: int | None = None, ttl: TTL | Default = DEFAULT
    ) -> int | None:
        """Add ``delta`` to an integer; return the sum, or None if the shard is out and the policy is "degrade".

        An absent key raises `KeyMissing`, or starts from ``initial`` with ``ttl``; the ttl of a
        present key stays. A value that is no integer raises `WrongType`.
        """
        result: int | None = self._call(self._requests.incr(key, delta, initial, ttl))
        return result

    def decr(
        self, key: Key, delta: int = 1, *, initial: int | None = None, ttl: TTL | Default = DEFAULT
    ) -> int | None:
        """Subtract ``delta`` from an integer; all else as `incr`."""
        result: int | None = self._call(self._requests.decr(key, delta, initial, ttl))
        return result

    def touch(self, key: Key, ttl: TTL | Default = DEFAULT) -> bool:
        """Give ``key`` a new ttl (None: no expiry; zero or less deletes); return whether it was there.

        Of a value that may be served stale (`LoadPolicy.stale_ttl`) it is the ttl that begins anew,
        so it is fresh again; the time for which it may be served after that stays what it was.
        """
        return bool(self._call(self._requests.touch(key, ttl)))

    def ttl(self, key: Key) -> float | None:
        """Return the seconds that ``key`` has left: None if it does not expire, 0.0 if it is not there, or stale.

        The time for which a stale value may still be served (`LoadPolicy.stale_ttl`) does not
        count: what is stale is there for `contains` and `get`, and has no time left.
        """
        result: float | None = self._call(self._requests.ttl(key))
        return result

    def contains(self, key: Key) -> bool:
        """Return whether ``key`` is there."""
        return bool(self._call(self._requests.contains(key)))

    __contains__ = contains

    def command(self, key: Key, name: str, *arguments: Argument) -> Any:
        """Send one command of the server's about ``key``, such as ``command("user:1", "HSET", "name", "Ada")``; return the reply as it comes.

        ``name``: a command whose one key comes first and that answers at once; where it has two
            words, both ("OBJECT ENCODING").
        ``arguments``: what follows the key: bytes, str (as UTF-8), int, float. The key gets the
            namespace, the arguments do not. Texts in the reply are bytes; maps are dicts, or flat
            lists where the server speaks RESP2. None if the shard is out and the policy is
            "degrade". A reading command may be sent twice over a dead connection, a writing one is
            not; it also invalidates a load of the key, as `set` does. Raises `InvalidArgument` for
            all other commands (`redis` is for those) and the `errors.ShardError` that a reply
            stands for.
        """
        return self._call(self._requests.command(key, name, arguments))

    def redis(self, key: Key) -> "Redis":
        """Return a new client of redis-py for the shard of ``key``, with its login and TLS and this client's timeout, for all that has no method here.

        Whoever asks for it closes it: ``with`` or ``close()``, with asyncio ``async with`` or
        ``aclose()``. It has connections of its own, no breaker, no retries and no namespace:
        `explain` tells a key's bytes (``wire_key``). What it writes voids no load under way.
        """
        return redis_client(*self._peer(key))

    @overload
    def get_or_set(
        self,
        key: Key,
        loader: Callable[[], LoadResult[T]],
        ttl: TTL | Default = DEFAULT,
        **how: Unpack[LoadHow],
    ) -> T: ...
    @overload
    def get_or_set(
        self,
        key: Key,
        loader: Callable[[], T],
        ttl: TTL | Default = DEFAULT,
        **how: Unpack[LoadHow],
    ) -> T: ...
    @overload
    def get_or_set(
        self, key: Key, loader: T, ttl: TTL | Default = DEFAULT, **how: Unpack[LoadHow]
    ) -> T: ...
    def get_or_set(
        self,
        key: Key,
        loader: Any,
        ttl: TTL | Default = DEFAULT,
        *,
        policy: LoadPolicy | Preset | None = None,
        tags: Iterable[str] | None = None,
    ) -> Any:
        """Return the value of ``key``; if it is not there, load it, once in the whole fleet, and store it for ``ttl``.

        ``loader`` is called without arguments (or is the value itself); it may return a
        `LoadResult` to set a ttl of its own. What it raises is raised to every caller of that load
        in this process. ``policy``: a `LoadPolicy`, "simple" (the default), "swr" or "strict".
        Guarantee (G3): while a majority of the voters of the load lock answers, one loader runs in
        the fleet; without it, or with the key's shard out, one in each process. A load that was
        overtaken by `set` or `delete` is not stored.
        """
        return self._loader.get_or_set(key, loader, ttl, LoadPolicy.of(policy), tags)

    @overload
    def get_or_set_many(
        self,
        keys: Iterable[K],
        loader: Callable[[list[K]], Mapping[K, LoadResult[T]]],
        ttl: TTL | Default = DEFAULT,
        **how: Unpack[LoadHow],
    ) -> dict[K, T]: ...
    @overload
    def get_or_set_many(
        self,
        keys: Iterable[K],
        loader: Callable[[list[K]], Mapping[K, T]],
        ttl: TTL | Default = DEFAULT,
        **how: Unpack[LoadHow],
    ) -> dict[K, T]: ...
    def get_or_set_many(
        self,
        keys: Iterable[Any],
        loader: Any,
        ttl: TTL | Default = DEFAULT,
        *,
        policy: LoadPolicy | Preset | None = None,
        tags: Iterable[str] | None = None,
    ) -> dict[Any, Any]:
        """Return the keys with their values; load those that are not there in one call, each once in the whole fleet.

        ``loader`` is called with a list of keys and returns a mapping of keys to values (or
        `LoadResult` s); a key that it leaves out is left out here. Keys that somebody else is
        loading are waited for. All else as `get_or_set`; what is stale or nearly so is refreshed in
        the background as there.
        """
        return self._loader.get_or_set_many(
            distinct(keys), loader, ttl, LoadPolicy.of(policy), tags
        )

    def cached(
        self,
        ttl: TTL | Default = DEFAULT,
        *,
        key: str | None = None,
        policy: LoadPolicy | Preset | None = None,
        tags: Iterable[str] = (),
    ) -> Decorator:
        """Return a decorator: results are kept for ``ttl`` under ``key``, a template such as ``"user:{id}:{lang}"``, each loaded once in the fleet.

        The template's names are the function's parameters; unknown ones are an error when
        decorating. Left out, the key is made of the function's name and all arguments. ``tags`` are
        templates too. The function gets ``key``, ``invalidate`` and ``refresh``, called with the
        arguments of the call they are about. On a classmethod or staticmethod this decorator should
        stand outermost. Generator functions are refused.
        """
        chosen = LoadPolicy.of(policy)

        def decorate(function: Any) -> Any:
            plain, kind = unwrapped(function)
            self._context.codec.check_result(plain)
            sync_only(plain)
            return Cached(self, Recipe(plain, key, ttl, chosen, tags), kind)

        return decorate

    def pipeline(self) -> Pipeline:
        """Return a context manager on which calls queue; at its end each shard gets its share in one exchange."""
        return Pipeline(self._context, self._load_context, self._runner)

    def lock(
        self,
        name: Key,
        ttl: float = 10.0,
        *,
        timeout: float | None = None,
        auto_renew: bool = False,
        on_lost: Callable[[QuorumLock], object] | None = None,
        reentrant: bool = False,
        owner: Hashable = None,
        voters: Sequence[str] | None = None,
        voter_timeout: float | None = None,
        label: str | None = None,
    ) -> QuorumLock:
        """Return a lock of this name within the namespace, over this client's connections.

        The parameters are those of `QuorumLock`, ``nodes``, ``namespace`` and ``options`` excepted.
        """
        return QuorumLock(
            name,
            ttl,
            nodes=self,
            timeout=timeout,
            auto_renew=auto_renew,
            on_lost=on_lost,
            reentrant=reentrant,
            owner=owner,
            voters=voters,
            voter_timeout=voter_timeout,
            label=label,
        )

    def lock_many(
        self,
        names: Iterable[Key],
        ttl: float = 10.0,
        *,
        timeout: float | None = None,
        auto_renew: bool = False,
        on_lost: Callable[[QuorumLock], object] | None = None,
        owner: Hashable = None,
        voters: Sequence[str] | None = None,
        voter_timeout: float | None = None,
        label: str | None = None,
    ) -> LockSet:
        """Return several locks to be taken together, all or none.

        The parameters are those of `QuorumLock`, ``nodes``, ``namespace``, ``options`` and
        ``reentrant`` excepted; ``timeout`` is for all of them together.
        """
        return LockSet(
            names,
            ttl,
            nodes=self,
            timeout=timeout,
            auto_renew=auto_renew,
            on_lost=on_lost,
            owner=owner,
            voters=voters,
            voter_timeout=voter_timeout,
            label=label,
        )

    def scan(self, match: str | bytes = "*") -> Iterator[Key]:
        """Iterate over the keys of this namespace that fit a glob, shard by shard.

        Keys come as str, those that are no UTF-8 as bytes. As with SCAN, a key that is there all
        the while comes at least once, and may come twice while a server resizes its table. Keys
        that lie on a shard that does not own them are left out: `get` would not find them. Each
        step has the deadline of a call; a shard that is out is left out, or raises.
        """
        context = self._context
        glob = context.glob(match)
        for shard in range(len(context.members)):
            cursor = None
            while cursor != 0:
                cursor, keys, error = self._run(sweep.page(shard, cursor or 0, glob))
                yield from context.scanned(shard, keys, error)

    def clear(self, *, flush: bool = False) -> int:
        """Delete every value of this namespace; return how many. Locks and tags stay, and so do other namespaces.

        Each step has the deadline of a call, not the whole. ``flush=True`` empties the whole
        database of every shard instead (FLUSHDB), and returns 0. That takes all of locks, registers
        and counters of fencing tokens (which start again from the servers' clocks): **every lock is
        free at once while its holders still believe in it**, so that a second one may run beside
        them. Do it only where nobody holds a lock.
        """
        try:
            swept = self._run(self._context.sweep(flush=flush))
        finally:
            self._runner.forget_flights()
        return self._reply_policy.swept(*swept)

    def ping(self) -> dict[str, PingResult]:
        """Ask every shard for a sign of life over a new connection; return a `PingResult` for each, by name.

        One deadline for all together. A health endpoint may return ``{name: found.as_dict() for
        name, found in answers.items()}``.
        """
        return {name: PingResult.of(found) for name, found in self._runner.ping_all().items()}

    def close(self) -> None:
        """Close all connections (and embedded servers). Later calls raise `ClientClosed`. May be called twice."""
        self._runner.close()
        if self._servers is not None:
            self._servers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, request: Request) -> Any:
        """Send a request to its shard and settle it: the path of every single-key method."""
        shard = self._owner(request.key)
        try:
            reply = self._one(shard, request.command, request.op, request.invalidates)
        except ShardError as error:
            return self._reply_policy.fail(request, error)
        finally:
            if (
                request.op.writes
            ):  # whoever asks from now on must not be given what was loaded before
                self._runner.forget_flights((request.key,))
        return self._reply_policy.settle(request, reply, shard)
