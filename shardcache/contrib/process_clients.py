"""One client for each process and set of settings, however many adapter objects there are.

A framework may make a new cache object for each thread or request. What is behind them, connections
and breakers, is shared. Nothing here takes a lock, so a process may fork at any time.
"""

import asyncio
import atexit
from collections.abc import Callable
from typing import Any, TypeVar, cast

from shardcache.async_client import AsyncShardCache
from shardcache.client import ShardCache

__all__ = ("Clients", "shared_clients")

C = TypeVar("C", ShardCache, AsyncShardCache)
Make = Callable[[type[Any]], Any]


class Clients:
    """The two clients of one set of settings, each made when it is first asked for.

    ``make``: called with `ShardCache` or `AsyncShardCache`, returns a client of that class.
    """

    def __init__(self, make: Make) -> None:
        self._make = make
        self._made: dict[type[Any], Any] = {}

    @property
    def sync(self) -> ShardCache:
        """The sync client."""
        return self._of(ShardCache)

    @property
    def aio(self) -> AsyncShardCache:
        """The asyncio client, for all event loops of the process."""
        return self._of(AsyncShardCache)

    def new(self, kind: type[C]) -> C:
        """Return a client that nobody shares."""
        return cast("C", self._make(kind))

    def close_aio(self) -> None:
        """Close the asyncio client at the end of the process, when its event loops have ended."""
        client = self._made.get(AsyncShardCache)
        if client is not None:
            asyncio.run(client.close())

    def _of(self, kind: type[C]) -> C:
        made = self._made.get(kind)
        # Two threads may make one each. The second has opened nothing, and is dropped.
        return cast("C", made or self._made.setdefault(kind, self.new(kind)))


_shared: list[tuple[object, Clients]] = []


def shared_clients(settings: object, make: Make) -> Clients:
    """Return the clients of this process for ``settings``, which are compared by ``==``.

    ``make``: as for `Clients`; it is kept if the settings are new.
    """
    found = _known(settings)
    if found is None:
        # Whoever comes second finds what the first one put there.
        _shared.append((settings, clients := Clients(make)))
        atexit.register(clients.close_aio)
        found = _known(settings)
    return cast("Clients", found)


def _known(settings: object) -> Clients | None:
    return next((clients for known, clients in _shared if known == settings), None)
