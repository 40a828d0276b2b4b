"""What both colours of the client have in common: how they are made, and what needs no server."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, Self

from shardcache.embedded import LocalShards
from shardcache.errors import InvalidURL
from shardcache.explanation import Explanation
from shardcache.flows.core import Core
from shardcache.flows.lock.room import LockRoom
from shardcache.keys import Key
from shardcache.loading.base import new_desk
from shardcache.options import OnUnavailable, Options
from shardcache.settings import read_url
from shardcache.stats import ShardStats, Stats
from shardcache.topology import Nodes, members
from shardcache.ttl import TTL

__all__ = ("CacheBase",)


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
        serializer: Any = "safe",
        compression: str | None = None,
        timeout: float = 0.5,
        on_unavailable: OnUnavailable = "degrade",
        options: Options | None = None,
    ) -> None:
        core = Core(
            members(nodes),
            namespace=namespace,
            default_ttl=default_ttl,
            serializer=serializer,
            compression=compression,
            timeout=timeout,
            on_unavailable=on_unavailable,
            options=options,
        )
        self._core = core
        self._locks = LockRoom(core)
        self._desk = new_desk(core, self._locks)
        self._servers: LocalShards | None = None
        self._ledger = core.ledger
        self._requests = core.requests
        self._owner = core.placement.owner_index
        self._driver = self._open(core)

    @abstractmethod
    def _open(self, core: Core) -> _Runner:
        """Make the driver of this colour. Opens no connection."""

    @classmethod
    def from_url(cls, url: str | None = None, *, options: Options | None = None, **overrides: Any) -> Self:
        """Make a client from one text: ``redis://h1,h2:6380/0?namespace=shop&timeout=0.2``.

        Without ``url`` the environment variable SHARDCACHE_URL is taken. ``overrides`` are
        constructor parameters that win over what the URL says.
        """
        text = os.environ.get("SHARDCACHE_URL") if url is None else url
        if not text:
            raise InvalidURL("no URL was given and the environment variable SHARDCACHE_URL is not set")
        said = read_url(text)
        return cls(said.urls, options=said.merged(options), **{**said.client, **overrides})

    @classmethod
    def embedded(cls, shards: int = 3, **settings: Any) -> Self:
        """Start local Valkey servers and return a client of them; closing it ends the servers.

        Needs the extra ``embedded``, or a valkey-server or redis-server on the PATH.
        """
        servers = LocalShards(shards)
        servers.start()
        try:
            cache = cls(servers.urls, **settings)
        except BaseException:
            servers.close()
            raise
        cache._servers = servers
        return cache

    def explain(self, key: Key) -> Explanation:
        """Say on which shard ``key`` lives and why, without asking any server."""
        return self._core.explain(key, self._driver.states())

    def stats(self) -> Stats:
        """Return a frozen snapshot of this client's counters."""
        return self._ledger.tally.freeze(self._driver.stats(), self._desk.tally.freeze())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(member.node.name for member in self._core.members)})"
