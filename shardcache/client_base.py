"""What both clients have in common: how they are made, and what needs no server."""

import os
import time
from abc import ABC, abstractmethod
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from shardcache.codecs import Loaded, Serializer
from shardcache.discovery.member_source import MemberSource, NodeSource
from shardcache.drivers.cluster_source import ClusterSource
from shardcache.drivers.lock_backend import LockBackend
from shardcache.drivers.near_values import NearValues
from shardcache.drivers.node_discovery import NodeDiscovery
from shardcache.drivers.read_counter import hot_keys_of
from shardcache.drivers.sentinel_source import SentinelSource
from shardcache.errors import (
    DamagedPayload,
    DiscoveryFailed,
    InvalidArgument,
    InvalidOption,
    InvalidURL,
    ShardError,
)
from shardcache.flows import batch
from shardcache.flows.context import CLUSTER, ClientContext
from shardcache.flows.lock.planner import LockPlanner
from shardcache.flows.near_reads import fetch_kept
from shardcache.flows.steps import Flow
from shardcache.keys import Key
from shardcache.loading.loader_base import new_load_context
from shardcache.near_cache import NearChoice, check_near
from shardcache.options import TLS, OnUnavailable, Options
from shardcache.policy.near_store import NearEntry, NearStore
from shardcache.results import MISS, Explanation, HotKey
from shardcache.stats import ShardStats, Stats
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.topology.deployment import deployment_of
from shardcache.topology.nodes import Nodes, members, warn_of_addresses
from shardcache.topology.sentinel_set import SentinelSet
from shardcache.topology.snapshot import NOBODY
from shardcache.topology.unknown import UNKNOWN
from shardcache.ttl import DEFAULT, TTL, Default
from shardcache.url_options import read_url
from shardcache.urls import Address

if TYPE_CHECKING:
    from shardcache.embedded import LocalShards

__all__ = ("CacheBase", "backend_of")

SerializerChoice = Literal["safe", "json", "pickle", "raw"] | Serializer
Compression = Literal["zlib", "zstd"] | None


_MAP_TIMEOUT = 2.0  # seconds that the members of a cluster have to say who serves what


class _Runner(Protocol):
    discovery: NodeDiscovery | None

    def address_of(self, shard: int) -> Address: ...
    def follow(self) -> None: ...
    def run(self, flow: Flow[Any]) -> Any: ...
    def states(self) -> dict[str, str]: ...
    def stats(self) -> dict[str, ShardStats]: ...


class CacheBase(ABC):
    """The common part. ``_open`` makes the driver, of sync or asyncio."""

    def __init__(
        self,
        nodes: Nodes | NodeSource,
        *,
        namespace: str = "",
        default_ttl: TTL = 300,
        serializer: SerializerChoice = "safe",
        compression: Compression = None,
        timeout: float = 0.5,
        on_unavailable: OnUnavailable = "degrade",
        options: Options | None = None,
        near: NearChoice | None = None,
    ) -> None:
        # All arguments are checked here, before anything is opened.
        deployment = deployment_of(nodes)
        if isinstance(deployment, SentinelSet):
            nodes = SentinelSource.of(deployment, options or Options())
        seeds = deployment if isinstance(deployment, ClusterSeeds) else None
        source = MemberSource(nodes) if callable(nodes) else None
        found = [] if callable(nodes) or seeds is not None else members(nodes)
        warn_of_addresses(found)
        context = ClientContext(
            CLUSTER if seeds is not None else found if source is None else source.name,
            namespace=namespace,
            default_ttl=default_ttl,
            serializer=serializer,
            compression=compression,
            timeout=timeout,
            on_unavailable=on_unavailable,
            options=options,
            seeds=seeds,
            replicated=isinstance(deployment, SentinelSet),
        )
        context.promotes = deployment is not None
        kept = check_near(near)
        self._near_values = NearValues.of(kept, context)
        context.hot_keys = hot_keys_of(context, kept)
        # What the methods use; the driver comes last, because it needs the rest.
        self._context = context
        self._current = context.current
        planner = LockPlanner(context)
        self._load_context = new_load_context(context, planner)
        self._servers: LocalShards | None = None
        # The arguments of `from_url`, if a call with them makes this client again.
        self._made_again_by: dict[str, Any] | None = None
        self._reply_policy = context.reply_policy
        self._near = context.near
        self._hot_keys = context.hot_keys
        self._requests = context.requests
        self._driver = self._open(context)
        if self._near_values is not None:
            self._near_values.reads_by(self._driver)
        self._discovery: NodeDiscovery | None = None
        watched: MemberSource | ClusterSource | None = source
        if seeds is not None:
            watched = ClusterSource(
                seeds, context.options, timeout=_MAP_TIMEOUT, clock=time.monotonic
            )
        if watched is not None:
            self._driver.discovery = self._discovery = NodeDiscovery(
                context, watched, follow=self._driver.follow, first=planner.electorate.begin
            )
        self._lock_backend = LockBackend(self._driver, planner, context.options.on_event)

    @abstractmethod
    def _open(self, context: ClientContext) -> _Runner:
        """Make the driver. Opens no connection."""

    @classmethod
    def from_url(
        cls,
        url: str | None = None,
        *,
        namespace: str | Default = DEFAULT,
        default_ttl: TTL | Default = DEFAULT,
        serializer: SerializerChoice | Default = DEFAULT,
        compression: Compression | Default = DEFAULT,
        timeout: float | Default = DEFAULT,
        on_unavailable: OnUnavailable | Default = DEFAULT,
        options: Options | None = None,
        near: NearChoice | None = None,
    ) -> Self:
        """Make a client from one text, such as ``redis://h1?name=a,redis://h2?name=b&timeout=1``.

        ``url``: the text; None (the default): that of the environment variable SHARDCACHE_URL.
        ``namespace``: as in the constructor.
        ``default_ttl``: as in the constructor.
        ``serializer``: as in the constructor.
        ``compression``: as in the constructor.
        ``timeout``: as in the constructor.
        ``on_unavailable``: as in the constructor.
        ``options``: as in the constructor. What the URL says of options wins over them.
        ``near``: as in the constructor.

        Of the other parameters, what is given here wins over what the URL says, and that over the
        constructor's default. Raises `InvalidURL`, also where there is no URL at all.

        A client that was made without ``url`` and without ``options`` can be pickled: where it is
        unpickled, it is made anew from SHARDCACHE_URL there. No other client can be.
        """
        text = os.environ.get("SHARDCACHE_URL") if url is None else url
        if not text:
            raise InvalidURL(
                "no URL was given and the environment variable SHARDCACHE_URL is not set"
            )
        # An argument wins over the URL, and the URL over the constructor's default.
        said = read_url(text)
        given: dict[str, Any] = {
            "namespace": namespace,
            "default_ttl": default_ttl,
            "serializer": serializer,
            "compression": compression,
            "timeout": timeout,
            "on_unavailable": on_unavailable,
        }
        # Only what is given goes along when the client is pickled: the URL is read again there.
        overrides = {name: value for name, value in given.items() if value is not DEFAULT}
        if near is not None:
            overrides["near"] = near
        cache = cls(said.urls, options=said.merged(options), **{**said.client, **overrides})
        cache._made_again_by = overrides if url is None and options is None else None
        return cache

    @classmethod
    def embedded(
        cls,
        shards: int = 3,
        *,
        namespace: str = "",
        default_ttl: TTL = 300,
        serializer: SerializerChoice = "safe",
        compression: Compression = None,
        timeout: float = 0.5,
        on_unavailable: OnUnavailable = "degrade",
        options: Options | None = None,
        near: NearChoice | None = None,
    ) -> Self:
        """Start local servers, and return a client of them; closing it ends the servers.

        ``shards``: how many servers, 1 to 64. Default: 3.
        ``namespace``: as in the constructor.
        ``default_ttl``: as in the constructor.
        ``serializer``: as in the constructor.
        ``compression``: as in the constructor.
        ``timeout``: as in the constructor.
        ``on_unavailable``: as in the constructor.
        ``options``: as in the constructor.
        ``near``: as in the constructor.

        Needs the extra ``embedded``, or a valkey-server or redis-server on the PATH. Raises
        `ServerNotStarted` if there is none, or it does not start.
        """
        # Imported here: a client of real servers has no use for it.
        from shardcache.embedded import LocalShards

        # If the client cannot be made, the servers must not stay.
        servers = LocalShards(shards)
        servers.start()
        try:
            cache = cls(
                servers.urls,
                namespace=namespace,
                default_ttl=default_ttl,
                serializer=serializer,
                compression=compression,
                timeout=timeout,
                on_unavailable=on_unavailable,
                options=options,
                near=near,
            )
        except BaseException:
            servers.close()
            raise
        cache._servers = servers
        return cache

    def __copy__(self) -> Self:
        """Return the client itself, so that settings that hold a client can be copied."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the client itself, as `__copy__` does."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the call of `from_url` that made it; refuse where a secret would go along."""
        if self._made_again_by is None:
            raise TypeError(
                f"this {type(self).__name__} cannot be pickled, since its addresses may hold "
                "credentials: make one in each "
                "process, or make it by from_url() from the environment variable SHARDCACHE_URL, "
                "without options"
            )
        return _made_again, (type(self), self._made_again_by)

    def _peer(self, key: Key) -> tuple[Address, TLS, Options, float]:
        """Return what makes a client of redis-py for the shard of ``key``."""
        self._look_for_nodes()
        context = self._context
        topology = context.topology
        if topology.version == UNKNOWN:
            raise context.refusal()
        owner = topology.owner_index(context.keys.wire(key))
        if owner == NOBODY:
            raise context.unserved()
        member = topology.known[owner]
        return member.address, member.tls or context.options.tls, context.options, context.timeout

    def _near_value(self, entry: NearEntry, wire: bytes, default: Any) -> Any:
        """Return the value of an entry that may be served; it may be a `Loaded`."""
        if entry.value is not MISS:
            self._reply_policy.tally.hits += 1
            return entry.value
        value = self._reply_policy.value(entry.raw, wire, MISS, entry.life.shard)
        if value is MISS:
            return default
        if value.__class__ is not Loaded and self._near is not None:
            self._near.share(entry, value)
        return value

    def _decoded(self, near: NearStore, entry: NearEntry, wire: bytes) -> Any:
        """Return the value of an entry, uncounted: `MISS` if it is damaged, or a `Loaded`."""
        if entry.value is not MISS:
            return entry.value
        try:
            value = self._context.codec.decode(entry.raw, wire)
        except DamagedPayload:
            return MISS  # it is asked for anew, and its outcome tells of it
        if value.__class__ is not Loaded:
            near.share(entry, value)
        return value

    def _fetching(self, keys: list[Any]) -> batch.Fetch:
        """Return what reads these keys, and keeps them near if there is a near cache."""
        return batch.fetch if self._near is None else partial(fetch_kept, keys, self._near)

    def _near_many(
        self, near: NearStore, keys: list[Any], wires: list[bytes]
    ) -> tuple[dict[Any, Any], list[Any], list[bytes]]:
        """Return the values that are near; and the other keys, in both forms."""
        found: dict[Any, Any] = {}
        rest: dict[Any, bytes] = {}
        for key, wire in zip(keys, wires, strict=True):
            entry = near.find(wire)
            value = MISS if entry is None else self._decoded(near, entry, wire)
            # Tags are checked at the servers.
            if value is MISS or value.__class__ is Loaded:
                rest[key] = wire
            else:
                found[key] = value
        self._reply_policy.tally.hits += len(found)
        return found, list(rest), list(rest.values())

    def _look_for_nodes(self) -> None:
        """Have the source asked, if there is one and it has not answered yet.

        The sync client waits for the answer.
        """
        if self._discovery is not None:
            self._discovery.begin()

    def _told(self, error: ShardError) -> ShardError:
        """Return ``error``; in the place of a `DiscoveryFailed` what is wrong with the source now.

        What was wrong when the call began was perhaps no more than that there was no answer yet.
        """
        if isinstance(error, DiscoveryFailed) and self._discovery is not None:
            return self._discovery.refusal()
        return error

    def _refuse_source(self) -> None:
        if self._discovery is not None:
            raise InvalidOption("a source names the nodes of this client: have it name others")

    def explain(self, key: Key) -> Explanation:
        """Say on which shard ``key`` lives and why, without asking any server."""
        self._look_for_nodes()
        return self._context.explain(key, self._driver.states())

    def stats(self) -> Stats:
        """Return a frozen snapshot of this client's counters."""
        return self._reply_policy.tally.freeze(
            self._driver.stats(),
            self._load_context.tally.freeze(),
            max(self._context.topology.version, 0),
            None if self._discovery is None else self._discovery.stats(),
            None if self._near is None else self._near.stats(),
        )

    def hot_keys(self, limit: int = 10) -> list[HotKey]:
        """Return the keys that this process reads most by this client, the hottest first.

        ``limit``: how many keys at most, 1 to 10 000. Default: 10.

        `get`, `get_or_set`, `cached` and the methods of many keys count, whether or not the key
        was there and wherever its value came from. One read in `Options.hot_keys_sample` is looked
        at, so a key that is read a few times only may be missing. A forked child begins anew. No
        server is asked. Raises `InvalidOption` for a client with neither `Options.hot_keys` nor
        ``near="hot"``, which counts too.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 10_000:
            raise InvalidArgument(
                f"limit must be a whole number from 1 to 10000, got {limit!r:.80}"
            )
        if self._hot_keys is None:
            raise InvalidOption(
                "this client does not count the reads of keys: give it options=Options(hot_keys=N)"
            )
        topology = self._context.topology
        found = []
        for wire, reads, rate, share in islice(self._hot_keys.estimates(), limit):
            owner = topology.owner_index(wire)
            found.append(
                HotKey(
                    key=self._context.keys.user(wire),
                    shard=topology.names[owner] if owner in topology.numbers else "",
                    rate=rate,
                    share=share,
                    count=round(reads.upper),
                    error=round(reads.error),
                )
            )
        return found

    def __repr__(self) -> str:
        names = ", ".join(member.node.name for member in self._context.topology.members)
        return f"{type(self).__name__}({names})"


def backend_of(cache: CacheBase) -> LockBackend[Any]:
    """Return what locks over the connections of a client work with; its driver has the colour."""
    return cache._lock_backend  # noqa: SLF001  users have no use for a public name of it


def _made_again(kind: type[CacheBase], settings: dict[str, Any]) -> CacheBase:
    """Return a client as the pickled one, with the shards that the environment here names."""
    return kind.from_url(**settings)
