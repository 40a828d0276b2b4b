"""`AsyncShardCache`: the asyncio client, a thin shell over flows and the asyncio driver."""

import warnings
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Hashable,
    Iterable,
    Mapping,
    Sequence,
)
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from shardcache.async_many import AsyncManyKeys
from shardcache.codecs import Loaded
from shardcache.drivers.aio.runner import AsyncRunner
from shardcache.errors import ShardError
from shardcache.flows import Request
from shardcache.flows import scan as sweep
from shardcache.flows.context import ClientContext
from shardcache.flows.load import tags as tagging
from shardcache.flows.one_command import Argument
from shardcache.flows.operations import GET
from shardcache.keys import Key, distinct
from shardcache.loading.aio import AsyncLoader
from shardcache.loading.cached import AsyncCached, AsyncDecorator, Recipe, unwrapped
from shardcache.loading.loader_base import LoadHow
from shardcache.locks.async_quorum_lock import AsyncQuorumLock
from shardcache.locks.lock_set import AsyncLockSet
from shardcache.pipeline import AsyncPipeline
from shardcache.policy import LoadPolicy
from shardcache.policy.load_policy import Preset
from shardcache.policy.load_result import LoadResult
from shardcache.results import PingResult
from shardcache.ttl import DEFAULT, TTL, Default
from shardcache.wire import PACKED_GET, pack
from shardcache.wire.redis_client import async_redis_client

if TYPE_CHECKING:
    from shardcache.wire.redis_client import AsyncRedis

__all__ = ("AsyncShardCache",)


K = TypeVar("K", bound=Key)
T = TypeVar("T")


class AsyncShardCache(AsyncManyKeys):
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

    def _open(self, context: ClientContext) -> AsyncRunner:
        self._runner = AsyncRunner(context)
        self._ask = self._runner.ask
        self._run = self._runner.run
        self._wire = context.keys.wire
        self._loader = AsyncLoader(context, self._load_context, self._runner)
        return self._runner

    async def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of ``key``, or ``default`` if it is not there.

        ``default``: None by default; `MISS` as default tells a stored None from a miss.
        """
        # `_call` without a `Request`: the one method for which its making is worth saving.
        wire = self._wire(key)
        shard = self._owner(wire)
        try:
            raw = await self._ask(shard, PACKED_GET % (len(wire), wire), GET)
        except ShardError as error:
            return self._reply_policy.fail(self._requests.get(key, default), error)
        value = self._reply_policy.value(raw, wire, default, shard)
        if value.__class__ is Loaded:
            return await self._run(tagging.plain(value, default, self._load_context))
        return value

    async def set(
        self,
        key: Key,
        value: Any,
        ttl: TTL | Default = DEFAULT,
        *,
        tags: Iterable[str] | None = None,
    ) -> bool:
        """Store ``value``; return whether it was stored.

        ``ttl``: seconds or a timedelta; None: no expiry; zero or less deletes. Default: the
            client's.
        ``tags``: texts; once one of them is invalidated (`invalidate_tags`), the value is a miss.
            To read a value with tags costs one more exchange. Default: none.
        """
        if tags is not None:
            versions = await self._run(self._loader.tagged(key, value, ttl, tags))
            return versions is not None and bool(await self._call(versions))
        return bool(await self._call(self._requests.set(key, value, ttl)))

    async def add(self, key: Key, value: Any, ttl: TTL | Default = DEFAULT) -> bool:
        """Store ``value`` only if ``key`` is absent; return whether it was."""
        return bool(await self._call(self._requests.add(key, value, ttl)))

    async def replace(self, key: Key, value: Any, ttl: TTL | Default = DEFAULT) -> bool:
        """Store ``value`` only if ``key`` is present; return whether it was."""
        return bool(await self._call(self._requests.replace(key, value, ttl)))

    async def delete(self, key: Key) -> bool:
        """Delete ``key``; return whether it was there."""
        return bool(await self._call(self._requests.delete(key)))

    async def invalidate_tags(self, tags: Iterable[str]) -> int:
        """Make every value that has one of these tags a miss, on any shard.

        Returns how many of the tags were in use. Costs one exchange with the tags' own shards,
        whatever the number of values: nothing is scanned or deleted.
        """
        try:
            return await self._run(self._loader.invalidation(tags))
        finally:
            self._runner.forget_flights()

    async def incr(
        self, key: Key, delta: int = 1, *, initial: int | None = None, ttl: TTL | Default = DEFAULT
    ) -> int | None:
        """Add ``delta`` to an integer; return the sum.

        ``delta``: a whole number of 64 bits. Default: 1.
        ``initial``: the number that an absent key starts from; None (the default): `KeyMissing`.
        ``ttl``: that of a key that starts; the ttl of a present key stays. Default: the client's.

        Returns None if the shard is out and the policy is "degrade". Raises `KeyMissing` for an
        absent key without ``initial``, and `WrongType` for a value that is no integer.
        """
        result: int | None = await self._call(self._requests.incr(key, delta, initial, ttl))
        return result

    async def decr(
        self, key: Key, delta: int = 1, *, initial: int | None = None, ttl: TTL | Default = DEFAULT
    ) -> int | None:
        """Subtract ``delta`` from an integer; all else as `incr`."""
        result: int | None = await self._call(self._requests.decr(key, delta, initial, ttl))
        return result

    async def touch(self, key: Key, ttl: TTL | Default = DEFAULT) -> bool:
        """Give ``key`` a new ttl; return whether it was there.

        ``ttl``: seconds or a timedelta; None: no expiry; zero or less deletes. Default: the
            client's.

        A value that may be served stale (`LoadPolicy.stale_ttl`) is fresh again for the new ttl;
        the time for which it may be served after that stays as it was.
        """
        return bool(await self._call(self._requests.touch(key, ttl)))

    async def ttl(self, key: Key) -> float | None:
        """Return the seconds that ``key`` has left; None: no expiry; 0.0: not there, or stale.

        The time for which a stale value may be served (`LoadPolicy.stale_ttl`) does not count: a
        stale value is there for `contains` and `get`, and has no time left.
        """
        result: float | None = await self._call(self._requests.ttl(key))
        return result

    async def contains(self, key: Key) -> bool:
        """Return whether ``key`` is there."""
        return bool(await self._call(self._requests.contains(key)))

    async def command(self, key: Key, name: str, *arguments: Argument) -> Any:
        """Send one of the server's commands about ``key``; return the reply as it comes.

        ``name``: a command whose one key comes first and that answers at once, such as "HSET";
            where it has two words, both ("OBJECT ENCODING").
        ``arguments``: what follows the key: bytes, str (as UTF-8), int, float. The key gets the
            namespace, the arguments do not.

        Texts in the reply are bytes; maps are dicts, or flat lists where the server speaks RESP2.
        None if the shard is out and the policy is "degrade". A reading command may be sent twice
        over a dead connection, a writing one is not; it also invalidates a load of the key, as
        `set` does. Raises `InvalidArgument` for all other commands (use `redis`) and the
        `errors.ShardError` of the reply.
        """
        return await self._call(self._requests.command(key, name, arguments))

    def redis(self, key: Key) -> "AsyncRedis":
        """Return a new client of redis-py for the shard of ``key``, for all else that it can do.

        It has the shard's login and TLS and this client's timeout. It has connections of its own,
        no breaker, no retries and no namespace: `explain` tells a key's bytes (``wire_key``). Its
        writes do not invalidate a load under way. The caller closes it: ``with`` or ``close()``,
        with asyncio ``async with`` or ``aclose()``.
        """
        return async_redis_client(*self._peer(key))

    @overload
    async def get_or_set(
        self,
        key: Key,
        loader: Callable[[], Awaitable[LoadResult[T]] | LoadResult[T]],
        ttl: TTL | Default = DEFAULT,
        **how: Unpack[LoadHow],
    ) -> T: ...
    @overload
    async def get_or_set(
        self,
        key: Key,
        loader: Callable[[], Awaitable[T]],
        ttl: TTL | Default = DEFAULT,
        **how: Unpack[LoadHow],
    ) -> T: ...
    @overload
    async def get_or_set(
        self,
        key: Key,
        loader: Callable[[], T],
        ttl: TTL | Default = DEFAULT,
        **how: Unpack[LoadHow],
    ) -> T: ...
    @overload
    async def get_or_set(
        self, key: Key, loader: T, ttl: TTL | Default = DEFAULT, **how: Unpack[LoadHow]
    ) -> T: ...
    async def get_or_set(
        self,
        key: Key,
        loader: Any,
        ttl: TTL | Default = DEFAULT,
        *,
        policy: LoadPolicy | Preset | None = None,
        tags: Iterable[str] | None = None,
    ) -> Any:
        """Return the value of ``key``; if it is not there, load it once in the fleet, and store it.

        ``loader``: called without arguments, or the value itself; it may return a `LoadResult` with
            a ttl. Its exception is raised to every caller of that load in this process.
        ``ttl``: seconds or a timedelta; None: no expiry. Default: the client's.
        ``policy``: a `LoadPolicy`, "simple" (the default), "swr" or "strict".
        ``tags``: texts, as for `set`. Default: none.

        Guarantee (G3): while a majority of the voters of the load lock answers, one loader runs in
        the fleet; without it, or with the key's shard out, one in each process. The value of a load
        that was superseded by `set` or `delete` is not stored.
        """
        return await self._loader.get_or_set(key, loader, ttl, LoadPolicy.of(policy), tags)

    @overload
    async def get_or_set_many(
        self,
        keys: Iterable[K],
        loader: Callable[
            [list[K]], Awaitable[Mapping[K, LoadResult[T]]] | Mapping[K, LoadResult[T]]
        ],
        ttl: TTL | Default = DEFAULT,
        **how: Unpack[LoadHow],
    ) -> dict[K, T]: ...
    @overload
    async def get_or_set_many(
        self,
        keys: Iterable[K],
        loader: Callable[[list[K]], Awaitable[Mapping[K, T]] | Mapping[K, T]],
        ttl: TTL | Default = DEFAULT,
        **how: Unpack[LoadHow],
    ) -> dict[K, T]: ...
    async def get_or_set_many(
        self,
        keys: Iterable[Any],
        loader: Any,
        ttl: TTL | Default = DEFAULT,
        *,
        policy: LoadPolicy | Preset | None = None,
        tags: Iterable[str] | None = None,
    ) -> dict[Any, Any]:
        """Return the keys with their values; load absent ones in one call, each once in the fleet.

        ``loader``: called with a list of keys, returns a mapping of keys to values (or
            `LoadResult`); a key that is not in it is not in the result either.

        All else is as for `get_or_set`. The call waits for keys that another call is loading; stale
        and nearly stale values are refreshed in the background.
        """
        return await self._loader.get_or_set_many(
            distinct(keys), loader, ttl, LoadPolicy.of(policy), tags
        )

    def cached(
        self,
        ttl: TTL | Default = DEFAULT,
        *,
        key: str | None = None,
        policy: LoadPolicy | Preset | None = None,
        tags: Iterable[str] = (),
    ) -> AsyncDecorator:
        """Return a decorator that keeps results, each loaded once in the fleet.

        ``ttl``: seconds or a timedelta; None: no expiry. Default: the client's.
        ``key``: a template with the function's parameters, such as ``"user:{id}:{lang}"``; unknown
            names are an error when decorating. Default: the function's name and all arguments.
        ``policy``: as for `get_or_set`.
        ``tags``: templates too. Default: none.

        The function gets ``key``, ``invalidate`` and ``refresh``, called with the arguments of the
        call in question. On a classmethod or staticmethod this decorator stands outermost. Raises
        `InvalidArgument` for generator functions.
        """
        chosen = LoadPolicy.of(policy)

        def decorate(function: Any) -> Any:
            plain, kind = unwrapped(function)
            self._context.codec.check_result(plain)
            return AsyncCached(self, Recipe(plain, key, ttl, chosen, tags), kind)

        return decorate

    def pipeline(self) -> AsyncPipeline:
        """Return a context manager that queues calls; at its end each shard gets one exchange."""
        return AsyncPipeline(self._context, self._load_context, self._runner)

    def lock(
        self,
        name: Key,
        ttl: float = 10.0,
        *,
        timeout: float | None = None,
        auto_renew: bool = False,
        cancel_on_loss: bool = False,
        on_lost: Callable[[AsyncQuorumLock], object] | None = None,
        reentrant: bool = False,
        owner: Hashable = None,
        voters: Sequence[str] | None = None,
        voter_timeout: float | None = None,
        label: str | None = None,
    ) -> AsyncQuorumLock:
        """Return a lock of this name within the namespace, over this client's connections.

        The parameters are those of `QuorumLock`, ``nodes``, ``namespace`` and ``options`` excepted.
        """
        return AsyncQuorumLock(
            name,
            ttl,
            nodes=self,
            timeout=timeout,
            auto_renew=auto_renew,
            cancel_on_loss=cancel_on_loss,
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
        cancel_on_loss: bool = False,
        on_lost: Callable[[AsyncQuorumLock], object] | None = None,
        owner: Hashable = None,
        voters: Sequence[str] | None = None,
        voter_timeout: float | None = None,
        label: str | None = None,
    ) -> AsyncLockSet:
        """Return several locks to be taken together, all or none.

        The parameters are those of `QuorumLock`, ``nodes``, ``namespace``, ``options`` and
        ``reentrant`` excepted; ``timeout`` is for all of them together.
        """
        return AsyncLockSet(
            names,
            ttl,
            nodes=self,
            timeout=timeout,
            auto_renew=auto_renew,
            cancel_on_loss=cancel_on_loss,
            on_lost=on_lost,
            owner=owner,
            voters=voters,
            voter_timeout=voter_timeout,
            label=label,
        )

    async def scan(self, match: str | bytes = "*") -> AsyncIterator[Key]:
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
                cursor, keys, error = await self._run(sweep.page(shard, cursor or 0, glob))
                for key in context.scanned(shard, keys, error):
                    yield key

    async def clear(self, *, flush: bool = False) -> int:
        """Delete every value of this namespace; return how many. Locks and tags stay.

        ``flush``: True empties the whole database of every shard (FLUSHDB) instead, and returns 0.
            That deletes all locks, registers and counters of fencing tokens (which start again from
            the servers' clocks): **every lock is free at once while its holder still works**, so a
            second holder may run beside it. Use it only where no lock is held. Default: False.

        Each step has the deadline of a call, not the whole. Other namespaces stay as they are.
        """
        try:
            swept = await self._run(self._context.sweep(flush=flush))
        finally:
            self._runner.forget_flights()
        return self._reply_policy.swept(*swept)

    async def ping(self) -> dict[str, PingResult]:
        """Ping every shard over a new connection; return a `PingResult` for each, by name.

        One deadline for all together. A health endpoint may return
        ``{name: found.as_dict() for name, found in answers.items()}``.
        """
        return {
            name: PingResult.of(found) for name, found in (await self._runner.ping_all()).items()
        }

    async def close(self) -> None:
        """Close all connections (and embedded servers); may be called twice.

        Later calls raise `ClientClosed`.
        """
        await self._runner.close()
        if self._servers is not None:
            self._servers.close()

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        runner = getattr(self, "_runner", None)  # none if the constructor raised
        if runner is not None and runner.open:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            runner.drop()

    async def _call(self, request: Request) -> Any:
        """Send a request to its shard and settle it: the path of every single-key method."""
        shard = self._owner(request.key)
        try:
            if request.invalidates is None:
                reply = await self._ask(shard, pack(request.command), request.op)
            else:
                reply = await self._runner.one(
                    shard, request.command, request.op, request.invalidates
                )
        except ShardError as error:
            return self._reply_policy.fail(request, error)
        finally:
            if request.op.writes:
                self._runner.forget_flights((request.key,))
        return self._reply_policy.settle(request, reply, shard)
