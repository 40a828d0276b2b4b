"""What a client has for its near cache: the values, and a listener for each shard."""

import random
import weakref
from collections.abc import Callable
from math import inf
from typing import Protocol, Self

from shardcache.drivers.invalidation_listener import InvalidationListener
from shardcache.flows.context import ClientContext
from shardcache.near_cache import NearCache
from shardcache.policy.near_store import Life, NearStore
from shardcache.system.clock import boottime
from shardcache.system.forked import ForkedObjects
from shardcache.topology.unknown import UNKNOWN
from shardcache.urls import Address

__all__ = ("NearValues",)

_forked = ForkedObjects()


class _Reader(Protocol):
    def address_of(self, shard: int) -> Address:
        """Return where new connections to a shard go."""


class NearValues:
    """Values of a client in the memory of this process, empty in a forked child.

    ``store``: the values.
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_closed",
        "_context",
        "_listeners",
        "_random",
        "_reader",
        "store",
    )

    def __init__(
        self,
        settings: NearCache,
        context: ClientContext,
        clock: Callable[[], float] = boottime,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._context = context
        self._clock = clock
        self._closed = False
        self._reader: Callable[[], _Reader | None] = lambda: None
        self._random = random
        self._listeners: dict[int, InvalidationListener] = {}
        self.store = store = NearStore(settings, context.current, clock)
        store.life_of = self._always if settings.mode == "ttl-only" else self._life
        _forked.add(self)

    @classmethod
    def of(cls, settings: NearCache | None, context: ClientContext) -> Self | None:
        """Return what a client has; None if it has no near cache."""
        if settings is None:
            return None
        made = cls(settings, context)
        context.near = made.store
        if context.links is not None:
            context.links.near = made.store
        return made

    def reads_by(self, reader: _Reader) -> None:
        """Keep only what was read where the invalidations come from.

        ``reader``: the driver, which is held weakly.
        """
        self._reader = weakref.ref(reader)

    def after_fork(self) -> None:
        """Forget the values: the listeners are the parent's."""
        self.store.empty()

    def close(self) -> None:
        """Keep nothing from now on, and end the listeners."""
        self._closed = True
        self.store.close()
        for listener in list(self._listeners.values()):
            listener.close()

    def _always(self, shard: int) -> Life | None:
        return None if shard == UNKNOWN else Life(shard, self._context.topology, inf)

    def _life(self, shard: int) -> Life | None:
        listener = self._listeners.get(shard)
        if listener is None:
            topology = self._context.topology
            if shard == UNKNOWN or shard not in topology.numbers:
                return None
            # Of two threads that come at once, one makes what stays.
            listener = self._listeners.setdefault(
                shard,
                InvalidationListener(
                    shard,
                    self._context,
                    self.store,
                    clock=self._clock,
                    random=self._random,
                ),
            )
            if self._closed:  # by another thread, which has not seen this listener
                listener.close()
        life, reader = listener.life(), self._reader()
        if life is not None and reader is not None:
            # For a moment the client may still read at a former address of the shard.
            address, heard = reader.address_of(shard), listener.member.address
            if address is not heard and address != heard:
                return None
        return life
