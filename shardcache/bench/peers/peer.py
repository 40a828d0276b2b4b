"""A peer: how another library is asked for the same work."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from shardcache.bench.scenarios.case import Case, Transport
from shardcache.bench.scenarios.servers import Addresses

__all__ = ("Calls", "Peer", "unchanged")

SERVERS = {"one": "shards", "shards": "shards", "cluster": "cluster", "memcached": "memcached"}


def unchanged(given: Any) -> Any:
    """Return what was given."""
    return given


def no_values(*_: object) -> Any:
    """Refuse: the library keeps locks, not values."""
    raise NotImplementedError("it keeps no values")


@dataclass(frozen=True)
class Calls:
    """What a client is asked; with asyncio each returns an awaitable. None: it has no such call.

    ``close``: takes nothing.
    ``get``: takes a key.
    ``set``: takes a key and a value.
    ``get_many``: takes a list of keys.
    ``set_many``: takes a mapping.
    ``incr``: takes the key of a number.
    ``lock``: takes a name; acquires the free lock, and releases it.
    ``prepare``: changes what the call of the case takes, before anything is timed.
    """

    close: Callable[[], Any]
    get: Callable[[Any], Any] = no_values
    set: Callable[[str, Any], Any] = no_values
    get_many: Callable[[Any], Any] | None = None
    set_many: Callable[[Any], Any] | None = None
    incr: Callable[[Any], Any] | None = None
    lock: Callable[[str], Any] | None = None
    prepare: Callable[[Any], Any] = unchanged


@dataclass(frozen=True)
class Peer:
    """A library, and what it can take part in.

    ``name``: as tables show it.
    ``open``: takes addresses and the case, returns `Calls`; with asyncio a coroutine.
    ``package``: what pip installs.
    ``module``: what is imported.
    ``servers``: what it knows: one server, several shards, a cluster, or memcached.
    ``asyncio``: whether it is asked by tasks.
    ``transports``: those it is asked over.
    ``floor``: True for a bare socket, which decides, checks and decodes nothing.
    """

    name: str
    open: Callable[[Addresses, Case], Any]
    package: str
    module: str
    servers: Literal["one", "shards", "cluster", "memcached"] = "one"
    asyncio: bool = False
    transports: frozenset[Transport] = frozenset({"tcp"})
    floor: bool = False

    @property
    def kind(self) -> str:
        """The kind of servers that it needs."""
        return SERVERS[self.servers]

    @property
    def installed(self) -> bool:
        return find_spec(self.module) is not None

    def refuses(self, case: Case) -> str:
        """Return why it is not asked in a case; "" if it is."""
        if self.asyncio != bool(case.tasks):
            return "is asked by tasks only" if self.asyncio else "has no asyncio"
        if self.floor and case.threads > 1:
            return "is for one thread"
        if self.servers == "one" and case.shards > 1:
            return "knows one server"
        if case.transport not in self.transports:
            return f"is not asked over {case.transport}"
        return ""
