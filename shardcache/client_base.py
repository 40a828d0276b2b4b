"""What both colours of the client have in common: how they are made, and what needs no server."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, Protocol, Self

from shardcache.codecs import Serializer
from shardcache.embedded import LocalShards
from shardcache.errors import InvalidURL
from shardcache.flows.context import ClientContext
from shardcache.flows.lock.planner import LockPlanner
from shardcache.keys import Key
from shardcache.loading.loader_base import new_load_context
from shardcache.options import TLS, OnUnavailable, Options
from shardcache.results import Explanation
from shardcache.stats import ShardStats, Stats
from shardcache.topology.nodes import Nodes, members, warn_of_addresses
from shardcache.ttl import DEFAULT, TTL, Default
from shardcache.url_options import read_url
from shardcache.urls import Address

__all__ = ("CacheBase",)

SerializerChoice = Literal["safe", "json", "pickle", "raw"] | Serializer
Compression = Literal["zlib", "zstd"] | None


class _Runner(Protocol):
    def states(self) -> Sequence[str]: ...
    def stats(self) -> dict[str, ShardStats]: ...


class CacheBase(ABC):
    """The common part. ``_open`` gives a colour its driver."""

    def __init__(
        self,
        nodes: Nodes,
        *,
        namespace: str = "",
        default_ttl: TTL = 300,
        serializer: SerializerChoice = "safe",
        compression: Compression = None,
        timeout: float = 0.5,
        on_unavailable: OnUnavailable = "degrade",
        options: Options | None = None,
    ) -> None:
        found = members(nodes)
        warn_of_addresses(found)
        context = ClientContext(
            found,
            namespace=namespace,
            default_ttl=default_ttl,
            serializer=serializer,
            compression=compression,
            timeout=timeout,
            on_unavailable=on_unavailable,
            options=options,
        )
        self._context = context
        self._locks = LockPlanner(context)
        self._load_context = new_load_context(context, self._locks)
        self._servers: LocalShards | None = None
        self._made_again_by: dict[str, Any] | None = (
            None  # what `from_url` was given, if that is all there is to say
        )
        self._reply_policy = context.reply_policy
        self._requests = context.requests
        self._owner = context.placement.owner_index
        self._driver = self._open(context)

    @abstractmethod
    def _open(self, context: ClientContext) -> _Runner:
        """Make the driver of this colour. Opens no connection."""

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
    ) -> Self:
        """Make a client from one text: ``redis://h1/0?name=a,redis://h2:6380/0?name=b&namespace=shop&timeout=0.2``.

        Without ``url`` the environment variable SHARDCACHE_URL is taken. The other parameters are
        the constructor's: given, they win over what the URL says; left out, the URL or the
        constructor's default counts.

        A client that was made without ``url`` and without ``options`` can be pickled: where it is
        unpickled, it is made anew from SHARDCACHE_URL there. No other client can be.
        """
        text = os.environ.get("SHARDCACHE_URL") if url is None else url
        if not text:
            raise InvalidURL(
                "no URL was given and the environment variable SHARDCACHE_URL is not set"
            )
        said = read_url(text)
        given: dict[str, Any] = {
            "namespace": namespace,
            "default_ttl": default_ttl,
            "serializer": serializer,
            "compression": compression,
            "timeout": timeout,
            "on_unavailable": on_unavailable,
        }
        overrides = {name: value for name, value in given.items() if value is not DEFAULT}
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
    ) -> Self:
        """Start local Valkey servers and return a client of them; closing it ends the servers.

        ``shards``: how many. The other parameters are the constructor's.
        Needs the extra ``embedded``, or a valkey-server or redis-server on the PATH.
        """
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
        context = self._context
        member = context.members[self._owner(context.keys.wire(key))]
        return member.address, member.tls or context.options.tls, context.options, context.timeout

    def explain(self, key: Key) -> Explanation:
        """Say on which shard ``key`` lives and why, without asking any server."""
        return self._context.explain(key, self._driver.states())

    def stats(self) -> Stats:
        """Return a frozen snapshot of this client's counters."""
        return self._reply_policy.tally.freeze(
            self._driver.stats(), self._load_context.tally.freeze()
        )

    def __repr__(self) -> str:
        names = ", ".join(member.node.name for member in self._context.members)
        return f"{type(self).__name__}({names})"


def _made_again(kind: type[CacheBase], settings: dict[str, Any]) -> CacheBase:
    """Return a client as the pickled one, with the shards that the environment here names."""
    return kind.from_url(**settings)
