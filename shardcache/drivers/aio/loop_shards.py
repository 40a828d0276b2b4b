"""The shards of one client on each event loop that uses it.

A connection belongs to the loop that opened it. So each loop has connections and breakers of its
own, made when it first asks for them and closed when it ends.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import attrgetter
from threading import get_ident
from typing import Any

from shardcache.drivers.aio.loaders import AsyncLoads
from shardcache.drivers.aio.loop_end import at_loop_end
from shardcache.drivers.aio.loop_table import LoopTable
from shardcache.drivers.aio.shard import AsyncShard
from shardcache.drivers.aio.single_flight import AsyncFlights
from shardcache.errors import ClientClosed
from shardcache.flows.context import ClientContext
from shardcache.policy.breaker import Breaker, State
from shardcache.stats import ShardStats
from shardcache.system.forked import ForkedObjects
from shardcache.topology.nodes import Member
from shardcache.wire.aio.dialer import AsyncDialer
from shardcache.wire.credentials import Login

__all__ = ("LoopShards", "OneLoop", "thread_of")

Loop = asyncio.AbstractEventLoop

# The thread in which a loop of asyncio runs; None while it does not run. It has no public name.
# `get_running_loop` would do, but in CPython 3.11 it asks the kernel each time for the process id.
thread_of: Callable[[Any], int | None] = attrgetter("_thread_id")


_NOWHERE: tuple[Any, Any] = (None, None)
_forked = ForkedObjects()


class OneLoop:
    """What the client has on one loop.

    ``shards``: the shards that were asked for.
    ``loading``: the flights and the loaders, if there have been any.
    ``end``: what closes the connections when the loop ends; it must be kept alive.
    """

    __slots__ = ("end", "loading", "shards")

    def __init__(self, shards: LoopTable) -> None:
        self.shards = shards
        self.loading: tuple[AsyncFlights, AsyncLoads] | None = None
        self.end = at_loop_end(partial(_disconnect, shards))


class LoopShards:
    """What the client has on all loops.

    ``current``: the last loop that asked, and its shards. Both are read and replaced as one, so
        that two threads cannot mix them up.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_context",
        "_inherited",
        "_loops",
        "_past",
        "_random",
        "current",
    )

    def __init__(self, context: ClientContext, random: Callable[[], float]) -> None:
        self._closed = False
        self._context = context
        self._inherited: frozenset[Loop] = frozenset()  # those of the process that forked this one
        self._loops: dict[Loop, OneLoop] = {}
        self._past: dict[str, ShardStats] = {}  # what the shards of ended loops have counted
        self._random = random
        self.current: tuple[Any, LoopTable] = _NOWHERE
        _forked.add(self)

    def shards(self) -> LoopTable:
        """Return the shards of the running loop.

        Raises `ClientClosed` if there are none and the client is closed.
        """
        loop, shards = self.current
        if loop is not None and thread_of(loop) == get_ident():
            return shards
        return self.here().shards

    def here(self) -> OneLoop:
        """Return what there is on the running loop; make it if need be."""
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            if self._closed:
                raise ClientClosed("the client is closed")
            self._forget_closed()
            found = self._loops[loop] = OneLoop(self._make(loop))
        # Other loops (uvloop's) do not tell the thread that they run in.
        if isinstance(loop, asyncio.BaseEventLoop):
            self.current = (loop, found.shards)
        return found

    def every(self) -> list[OneLoop]:
        """Return what there is on all loops."""
        return list(self._loops.values())

    def _make(self, loop: Loop) -> LoopTable:
        context, options, random = self._context, self._context.options, self._random

        def make(member: Member, breaker: Breaker) -> AsyncShard:
            # With TLS of its own if the member has any.
            node, address, tls, _, kind, _ = member
            own = options if tls is None else replace(options, tls=tls)
            return AsyncShard(
                AsyncDialer(node.name, address, own, kind),
                breaker,
                loop=loop,
                timeout=context.timeout_of(member),
                hook=options.on_event,
                random=random,
                max_calls=options.max_in_flight,
                max_bytes=options.max_bytes_in_flight,
                keys=context.keys.glob,
            )

        return LoopTable(context, make, loop)

    def follow(self) -> None:
        """Have all shards do what the present topology says; it may be called from any thread.

        Those of the running loop have done it when this returns.
        """
        try:
            here: Loop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for loop, found in list(self._loops.items()):
            if loop is here:
                found.shards.follow()
                continue
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(found.shards.follow)

    def after_fork(self) -> None:
        """Forget which loop runs: it is another one in this process.

        The connections of the others belong to the process that forked this one, and stay open.
        """
        self.current = _NOWHERE
        self._inherited = frozenset(self._loops)

    def reauthenticate(self, login: Login) -> None:
        """Log in anew with renewed credentials, on all shards. It may be called from any thread."""
        for loop, found in list(self._loops.items()):
            for shard in list(found.shards.values()):
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(shard.reauthenticate, login)

    def _forget_closed(self) -> None:
        """Let go of loops that have ended, but not of their counters."""
        for loop in [loop for loop in list(self._loops) if loop.is_closed()]:
            ended = self._loops.pop(loop, None)
            if ended is None:  # another thread was faster
                continue
            # Nothing is left of them but what they counted: no connection, and no open breaker.
            for shard in ended.shards.values():
                counted = replace(shard.stats(), state=State.CLOSED.value, idle=0)
                past = self._past.get(shard.name)
                self._past[shard.name] = ShardStats.total([past, counted]) if past else counted

    def stats(self) -> dict[str, ShardStats]:
        """Return the shards' counters, added up over all loops.

        The state of a shard is the worst on those that have not ended.
        """
        self._forget_closed()
        rows: dict[str, list[ShardStats]] = {
            name: [self._past.get(name, ShardStats("closed", *[0] * 10))]
            for name in self._context.topology.number_of
        }
        for found in self.every():
            rows |= {shard.name: [] for shard in found.shards.replicas if shard.name not in rows}
        for found in self.every():
            for shard in list(found.shards.values()):
                if shard.name in rows and shard.in_service:
                    rows[shard.name].append(shard.stats())
        # A replica that has just come back may not be in service on any loop yet.
        return {name: ShardStats.total(row) for name, row in rows.items() if row}

    @property
    def open(self) -> bool:
        """Whether connections are left that have not been closed."""
        return any(
            shard.busy
            for loop, found in list(self._loops.items())
            if loop not in self._inherited
            for shard in list(found.shards.values())
        )

    async def close(self) -> None:
        """Close everything on the running loop, and tell the other loops to do the same."""
        self._closed = True
        loop = asyncio.get_running_loop()
        here = self._loops.get(loop)
        if here is not None and here.loading is not None:
            await here.loading[0].close()
        self.current = _NOWHERE
        self._close_others(loop)
        if here is not None:
            await asyncio.gather(*(shard.close() for shard in here.shards.close()))
        self._loops.clear()
        if here is not None and isinstance(here.end, AsyncGenerator):
            await here.end.aclose()

    def drop(self) -> None:
        """Let go of every connection without waiting: the last resort of an unclosed client."""
        self._close_others(None)

    def _close_others(self, here: Loop | None) -> None:
        for loop, found in list(self._loops.items()):
            if loop is not here and not loop.is_closed() and loop not in self._inherited:
                for shard in found.shards.close():
                    loop.call_soon_threadsafe(shard.close_soon)


async def _disconnect(shards: LoopTable) -> None:
    await asyncio.gather(*(shard.disconnect() for shard in list(shards.values())))
