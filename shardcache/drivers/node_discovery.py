"""The nodes of one client, as a source names them.

| state | the topology in service | what a call does |
|---|---|---|
| no answer yet | `unknown_topology` | waits for the answer, for half of its timeout at most |
| none in time, or none at all | the same | fails as if its shard were out, and waits no more |
| an answer | that of the answer | nothing: it does not know of the source |
| forked, or without a thread | the same, *watched* | starts the thread, and takes the watch away |

A *watched* topology is a copy whose look-up of an owner does one thing more before it does the
same. So a client that has been forked starts its thread at its next use, and no call of any other
client pays for the question whether there is one.
"""

import asyncio
import random
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from shardcache.discovery.member_source import MemberSource
from shardcache.drivers.cluster_source import ClusterSource
from shardcache.drivers.node_watch import NodeWatch
from shardcache.errors import ClientClosed, DiscoveryFailed
from shardcache.flows.context import CLUSTER, ClientContext
from shardcache.request_deadline import caller_end_by
from shardcache.stats import DiscoveryStats
from shardcache.system.forked import ForkedObjects
from shardcache.topology.cluster_map import ClusterMap
from shardcache.topology.nodes import Member
from shardcache.topology.snapshot import Topology
from shardcache.topology.unknown import UNKNOWN

__all__ = ("NodeDiscovery",)

SHARE = 0.5  # of a call's timeout that it waits for the first answer; the exchange has its own
OVERDUE = 10.0  # seconds after which a poll that has not ended is told of
_RETRY = 1.0  # seconds between two tries to start the thread
_forked = ForkedObjects()


class NodeDiscovery:
    """Has a source watched, and puts the nodes that it names in service.

    ``context``: the client's, with an `unknown_topology`.
    ``source``: names the nodes.
    ``follow``: called, from any thread, when other nodes are in service. Held weakly.
    ``first``: called with the names of the first nodes, before they are in service.
    ``clock``: the time in seconds.
    ``random``: random numbers from 0 to 1.
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_context",
        "_first",
        "_follow",
        "_retry_at",
        "_source",
        "_watch",
        "_watched",
    )

    def __init__(
        self,
        context: ClientContext,
        source: MemberSource | ClusterSource,
        *,
        follow: Callable[[], None],
        first: Callable[[tuple[str, ...]], None],
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._context = context
        self._first = first
        self._follow = weakref.WeakMethod(follow)
        self._retry_at = clock()
        self._watch: NodeWatch[Any] = NodeWatch(
            source,
            self.apply,
            interval=context.options.discovery_interval,
            timeout=OVERDUE,
            hook=context.options.on_event,
            clock=clock,
            random=random,
            name=source.name if isinstance(source, MemberSource) else CLUSTER,
        )
        if context.links is not None:
            context.links.refresh = self._watch.refresh
            context.links.refresh_unless = self._watch.refresh_unless
        # The topology in service and its watched copy, if that is in service.
        self._watched: tuple[Topology, Topology] | None = None
        # Not a method of this object, which would make a cycle with the context.
        context.refusal = partial(_refusal, self._watch)
        context.suspect = self._watch.refresh
        self._source = source if isinstance(source, MemberSource) else None
        if self._source is not None:
            self._source.follow(self._watch.refresh)
        _forked.add(self)

    @property
    def known(self) -> bool:
        """Whether there are nodes."""
        return self._context.topology.version != UNKNOWN

    def begin(self) -> None:
        """Have the source asked, and do not wait."""
        self._watch.check()

    def wait(self) -> bool:
        """Wait for the first answer, if there is none; return whether there is one."""
        if not self.known:
            try:
                self._watch.ensure(*self._wait_until(self._clock()))
            except (DiscoveryFailed, ClientClosed):
                return False
        return self.known

    async def wait_async(self) -> bool:
        """As `wait`, on an event loop, which goes on."""
        if not self.known:
            now = asyncio.get_running_loop().time()
            try:
                await self._watch.ensure_async(*self._wait_until(now))
            except (DiscoveryFailed, ClientClosed):
                return False
        return self.known

    def _wait_until(self, now: float) -> tuple[float, bool]:
        """Return until when a call waits, and whether a `deadline` of its caller made it less."""
        until, end = now + SHARE * self._context.timeout, caller_end_by(lambda: now)
        return (until, False) if end is None or end >= until else (end, True)

    def refresh(self) -> None:
        """Have the source asked soon."""
        self._watch.refresh()

    def refusal(self) -> DiscoveryFailed:
        """Return why a call cannot be sent to any node."""
        return _refusal(self._watch)

    def stats(self) -> DiscoveryStats:
        """Return a frozen snapshot of the counters."""
        return self._watch.stats()

    def close(self) -> None:
        """End the threads."""
        self._watch.close()
        if self._source is not None:
            self._source.close()

    def __del__(self) -> None:
        watch = getattr(self, "_watch", None)  # none if the constructor raised
        if watch is not None:
            watch.close()

    def apply(self, answer: tuple[Member, ...] | ClusterMap) -> None:
        """Put nodes in service; called by the thread of the watch. Raises if they cannot be."""
        follow = self._follow()
        if follow is None:
            return
        context = self._context
        if isinstance(answer, ClusterMap):
            context.put_map(answer)
        else:
            if not self.known:
                self._first(tuple(member.node.name for member in answer))
            context.swap(answer, "discovery")
        follow()

    # The next use starts the thread.

    def after_fork(self) -> None:
        """Have the next use start a thread in this process, too."""
        if self.known:
            self._retry_at = self._clock()
            self._put_watched()

    def _put_watched(self) -> None:
        current = self._context.current
        copy = None
        # A swap that was under way in another thread of the parent may have its way here.
        while current.now is not copy:
            real = current.now
            if self._watched is not None and real is self._watched[1]:  # forked again
                real = self._watched[0]
            copy = self._copied(real)
            self._watched = (real, copy)
            current.put(copy)

    def _copied(self, real: Topology) -> Topology:
        def owner_index(wire: bytes) -> int:
            self._used()
            return real.owner_index(wire)

        def owner_indexes(wires: list[bytes]) -> list[int]:
            self._used()
            return real.owner_indexes(wires)

        return replace(real, owner_index=owner_index, owner_indexes=owner_indexes)

    def _used(self) -> None:
        if self._clock() < self._retry_at:
            return
        self._retry_at = self._clock() + _RETRY
        self._watch.check()
        watched = self._watched
        if self._watch.alive and watched is not None:
            self._watched = None
            self._context.current.put(watched[0])


def _refusal(watch: NodeWatch[Any]) -> DiscoveryFailed:
    return watch.trouble or DiscoveryFailed(watch.name, "there is no answer yet")
