"""`ShardCache`: the sync client, a thin shell over flows and the sync driver."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from shardcache.codecs import Loaded
from shardcache.drivers import Runner
from shardcache.drivers.sync.cluster_runner import ClusterRunner
from shardcache.drivers.sync.replica_runner import ReplicaRunner
from shardcache.errors import ShardError
from shardcache.flows import Request
from shardcache.flows import scan as sweep
from shardcache.flows.context import ClientContext
from shardcache.flows.load import tags as tagging
from shardcache.flows.one_command import Argument
from shardcache.flows.operations import GET, LOOK
from shardcache.keys import Key, distinct
from shardcache.loading.cached import Cached, Decorator, Recipe, sync_only, unwrapped
from shardcache.loading.loader_base import LoadHow
from shardcache.loading.sync import Loader
from shardcache.mapping import CacheMapping
from shardcache.pipeline import Pipeline
from shardcache.placement.circle import Moves
from shardcache.policy import LoadPolicy
from shardcache.policy.load_policy import Preset
from shardcache.policy.load_result import LoadResult
from shardcache.results import PingResult
from shardcache.sync_locks import LockMaker
from shardcache.topology.nodes import Nodes, members
from shardcache.topology.unknown import UNKNOWN
from shardcache.ttl import DEFAULT, TTL, Default
from shardcache.wire import PACKED_LOOK
from shardcache.wire.redis_client import sync_redis_client

if TYPE_CHECKING:
    from shardcache.wire.redis_client import Redis

__all__ = ("ShardCache",)


K = TypeVar("K", bound=Key)
T = TypeVar("T")


class ShardCache(LockMaker):
    """A cache over several independent Redis or Valkey servers.

    ``nodes``: URLs in a list or one text, a mapping of names to URLs, or `Node` objects. Or a
        source: a function without arguments that returns any of these, such as `nodes_from_dns` and
        `nodes_from_file` make; it is asked again and again, in a thread (docs/discovery.md). Or a
        ``redis+sentinel://`` URL (docs/sentinel.md), or that of some nodes of a Redis Cluster,
        ``redis+cluster://h1,h2`` (docs/cluster.md).
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
    ``near``: a `NearCache`: values are kept in this process too (docs/near-cache.md); "hot": those
        of the keys that it reads most; None (the default): none are.

    Raises `InvalidArgument` for values that cannot be, before anything is sent. Safe to share
    between threads and to use after a fork; no connection is made before the first call.
    Guarantees: docs/guarantees.md.

    These parameters mean the same in all methods:

    ``key``: str or bytes, 1 byte to 64 KiB with the namespace; else `InvalidKey`.
    ``keys``: an iterable of keys; a key that comes twice counts once.
    ``value``: whatever the serializer takes; else `SerializationError`.
    ``ttl``: seconds or a timedelta; None: no expiry; zero or less deletes. Default: the client's.
    ``tags``: texts by which many values are invalidated at once (`invalidate_tags`). Default: none.
    ``policy``: a `LoadPolicy`, "simple" (the default), "swr" or "strict".
    """

    def _open(self, context: ClientContext) -> Runner:
        kind = Runner if context.links is None else ClusterRunner
        if context.options.read_from != "primary":
            kind = ReplicaRunner
        self._runner = kind.of(context)
        self._one = self._runner.one
        self._run = self._runner.run
        self._wire = context.keys.wire
        self._loader = Loader(context, self._load_context, self._runner)
        return self._runner

    def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of ``key``, or ``default`` if it is not there.

        ``default``: None by default; `MISS` as default tells a stored None from a miss.
        """
        # `_call` without a `Request`: the one method for which its making is worth saving.
        wire = self._wire(key)
        if self._hot_keys is not None:
            self._hot_keys.read(wire)
        near = self._near
        if near is not None and (entry := near.find(wire)) is not None:
            value = self._near_value(entry, wire, default)
            if value.__class__ is Loaded:
                return self._run(tagging.plain(value, default, self._load_context))
            return value
        topology = self._current.now
        shard = topology.owner_index(wire)
        try:
            if near is None or (entry := near.begin(key, wire, shard, topology)) is None:
                raw = self._one(shard, (b"GET", wire), GET)
            else:
                look = PACKED_LOOK % (len(wire), wire, len(wire), wire)
                outcome = self._runner.call_many(shard, look, LOOK)
                raw = near.fill(entry, wire, outcome)
        except ShardError as error:
            if shard == UNKNOWN and self._runner.has_nodes():
                return self.get(key, default)
            return self._reply_policy.fail(self._requests.get(key, default), self._told(error))
        value = self._reply_policy.value(raw, wire, default, shard)
        # It has tags to check, or is a remembered refusal: plain values never come as `Loaded`.
        if value.__class__ is Loaded:
            return self._run(tagging.plain(value, default, self._load_context))
        return value

    def set(
        self,
        key: Key,
        value: Any,
        ttl: TTL | Default = DEFAULT,
        *,
        tags: Iterable[str] | None = None,
    ) -> bool:
        """Store ``value``; return whether it was stored.

        ``tags``: once one of them is invalidated, the value is a miss. To read a value with tags
            costs one more exchange.
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

    def delete(self, key: Key) -> bool:
        """Delete ``key``; return whether it was there."""
        return bool(self._call(self._requests.delete(key)))

    def invalidate_tags(self, tags: Iterable[str]) -> int:
        """Make every value that has one of these tags a miss, on any shard.

        Returns how many of the tags were in use. Costs one exchange with the tags' own shards,
        whatever the number of values: nothing is scanned or deleted.
        """
        try:
            return self._run(self._loader.invalidation(tags))
        finally:
            self._runner.forget_flights()

    def incr(
        self, key: Key, delta: int = 1, *, initial: int | None = None, ttl: TTL | Default = DEFAULT
    ) -> int | None:
        """Add a number to an integer; return the sum.

        ``delta``: the number, of 64 bits. Default: 1.
        ``initial``: the number that an absent key starts from; None (the default): `KeyMissing`.
        ``ttl``: that of a key that starts; the ttl of a present key stays. Default: the client's.

        Returns None if the shard is out and the policy is "degrade". Raises `KeyMissing` for an
        absent key without ``initial``, and `WrongType` for a value that is no integer.
        """
        result: int | None = self._call(self._requests.incr(key, delta, initial, ttl))
        return result

    def decr(
        self, key: Key, delta: int = 1, *, initial: int | None = None, ttl: TTL | Default = DEFAULT
    ) -> int | None:
        """Subtract a number from an integer; return the difference.

        ``delta``: the number, of 64 bits. Default: 1.
        ``initial``: as for `incr`.
        ``ttl``: as for `incr`.
        """
        result: int | None = self._call(self._requests.decr(key, delta, initial, ttl))
        return result

    def touch(self, key: Key, ttl: TTL | Default = DEFAULT) -> bool:
        """Give ``key`` a new ttl; return whether it was there.

        A value that may be served stale (`LoadPolicy.stale_ttl`) is fresh again for the new ttl;
        the time for which it may be served after that stays as it was.
        """
        return bool(self._call(self._requests.touch(key, ttl)))

    def ttl(self, key: Key) -> float | None:
        """Return the seconds that ``key`` has left; None: no expiry; 0.0: not there, or stale.

        The time for which a stale value may be served (`LoadPolicy.stale_ttl`) does not count: a
        stale value is there for `contains` and `get`, and has no time left.
        """
        result: float | None = self._call(self._requests.ttl(key))
        return result

    def contains(self, key: Key) -> bool:
        """Return whether ``key`` is there."""
        return bool(self._call(self._requests.contains(key)))

    __contains__ = contains

    def command(self, key: Key, name: str, *arguments: Argument) -> Any:
        """Send one of the server's commands about ``key``; return the reply as it comes.

        ``name``: a command whose one key comes first and that answers at once, such as "HSET";
            where it has two words, both ("OBJECT ENCODING"). Or "EVAL", with a Lua script as the
            first argument: the key is its ``KEYS[1]``, and it may use no other.
        ``arguments``: what follows the key: bytes, str (as UTF-8), int, float. The key gets the
            namespace, the arguments do not.

        Texts in the reply are bytes; maps are dicts, or flat lists where the server speaks RESP2.
        None if the shard is out and the policy is "degrade". A reading command may be sent twice
        over a dead connection, a writing one is not; it also invalidates a load of the key, as
        `set` does. Raises `InvalidArgument` for all other commands (use `redis`) and the
        `errors.ShardError` of the reply.
        """
        return self._call(self._requests.command(key, name, arguments))

    def redis(self, key: Key) -> "Redis":
        """Return a new client of redis-py for the shard of ``key``, for all else that it can do.

        It has the shard's login and TLS and this client's timeout. It has connections of its own,
        no breaker, no retries and no namespace: `explain` tells a key's bytes (``wire_key``). Its
        writes do not invalidate a load under way. The caller closes it: ``with`` or ``close()``,
        with asyncio ``async with`` or ``aclose()``.
        """
        return sync_redis_client(*self._peer(key))

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
        """Return the value of ``key``; if it is not there, load it once in the fleet, and store it.

        ``loader``: called without arguments, or the value itself; it may return a `LoadResult` with
            a ttl. Its exception is raised to every caller of that load in this process.
        ``tags``: as for `set`.

        Guarantee (G3): while a majority of the voters of the load lock answers, one loader runs in
        the fleet; without it, or with the key's shard out, one in each process. The value of a load
        that was superseded by `set` or `delete` is not stored.
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
        """Return the keys with their values; load absent ones in one call, each once in the fleet.

        ``loader``: called with a list of keys, returns a mapping of keys to values (or
            `LoadResult`); a key that is not in it is not in the result either.

        All else is as for `get_or_set`. The call waits for keys that another call is loading; stale
        and nearly stale values are refreshed in the background.
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
            sync_only(plain)
            return Cached(self, Recipe(plain, key, ttl, chosen, tags), kind)

        return decorate

    def mapping(self, ttl: TTL | Default = DEFAULT, *, prefix: str = "") -> CacheMapping:
        """Return a mutable mapping over this client, for ``cachetools.cached(cache=…)``.

        ``ttl``: that of the values that are stored by it; None: no expiry. Default: the client's.
        ``prefix``: a text before every key. Functions that share a mapping share its keys, so give
            each of them a prefix. Default: none.

        What its methods cost: `CacheMapping`. Raises `InvalidTTL` and `InvalidOption`.
        """
        self._requests.ttl_ms(ttl)
        return CacheMapping(self, ttl, prefix)

    def pipeline(self) -> Pipeline:
        """Return a context manager that queues calls; at its end each shard gets one exchange."""
        return Pipeline(self._context, self._load_context, self._runner)

    def scan(self, match: str | bytes = "*") -> Iterator[Key]:
        """Iterate over the keys of this namespace, shard by shard.

        ``match``: a glob, as in Redis, that keys must fit. Default: all keys.

        Keys come as str, those that are no UTF-8 as bytes. As with SCAN, a key that is there all
        the while comes at least once, and may come twice while a server resizes its table. Keys
        that lie on a shard that does not own them are left out: `get` would not find them. Each
        step has the deadline of a call; a shard that is out is left out, or raises.
        """
        context = self._context
        glob = context.glob(match)
        self._runner.has_nodes()
        topology = context.topology
        for shard in topology.numbers:
            cursor = None
            while cursor != 0:
                cursor, keys, error = self._run(sweep.page(shard, cursor or 0, glob))
                yield from context.scanned(topology, shard, keys, error)

    def clear(self, *, match: str | bytes = "*", flush: bool = False) -> int:
        """Delete the values of this namespace; return how many. Locks and tags stay.

        ``match``: a glob, as for `scan`, that the keys to be deleted must fit; each shard is asked
            for its own keys, and deletes them. Default: all keys.
        ``flush``: True empties the whole database of every shard (FLUSHDB) instead, and returns 0.
            That deletes all locks, registers and counters of fencing tokens (which start again from
            the servers' clocks): **every lock is free at once while its holder still works**, so a
            second holder may run beside it. Use it only where no lock is held. Default: False.

        Each step has the deadline of a call, not the whole. Other namespaces stay as they are.
        """
        self._runner.has_nodes()
        try:
            swept = self._run(self._context.sweep(match, flush=flush))
        finally:
            self._runner.forget_flights()
        return self._reply_policy.swept(*swept)

    def use(self, nodes: Nodes) -> Moves | None:
        """Put another set of nodes in service; return the shares of the keys that move.

        ``nodes``: as in the constructor.

        Returns exactly which share of all keys moves from which node to which, None if the
        placement cannot tell. A node that stays keeps its connections, even if its address changes
        (by its name it is the same). One that leaves is closed when the calls on it have ended.
        Locks and loads under way keep their voters; the voters of later locks are changed by
        `locks.change_voters`. A node that comes back has what it had when it left: empty it before.
        Raises `InvalidNode` and the like before anything changes, and `InvalidOption` where a
        source names the nodes. May be called in any thread.
        """
        self._refuse_source()
        moves = self._context.use(members(nodes))
        self._runner.follow()
        return moves

    def ping(self) -> dict[str, PingResult]:
        """Ping every shard over a new connection; return a `PingResult` for each, by name.

        One deadline for all together. A health endpoint may return
        ``{name: found.as_dict() for name, found in answers.items()}``.
        """
        return {name: PingResult.of(found) for name, found in self._runner.ping_all().items()}

    def close(self) -> None:
        """Close all connections (and embedded servers); may be called twice.

        Later calls raise `ClientClosed`.
        """
        if self._near_values is not None:
            self._near_values.close()
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

    def _look_for_nodes(self) -> None:
        self._runner.has_nodes()

    def _call(self, request: Request) -> Any:
        """Send a request to its shard and settle it: the path of every single-key method."""
        shard = self._current.now.owner_index(request.key)
        try:
            reply = self._one(shard, request.command, request.op, request.invalidates)
        except ShardError as error:
            if shard == UNKNOWN and self._runner.has_nodes():
                return self._call(request)
            return self._reply_policy.fail(request, self._told(error))
        finally:
            # A call from now on must not get a value that was loaded before.
            if request.op.writes:
                self._runner.forget_flights((request.key,))
        return self._reply_policy.settle(request, reply, shard)
