"""Connections for commands that block on the server: on a shared one, everybody else would wait behind them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from shardcache.drivers.replies import HEARD, heard
from shardcache.drivers.shard_health import ShardState
from shardcache.errors import ShardError, ShardOut
from shardcache.flows.steps import GRACE
from shardcache.policy.breaker import State
from shardcache.resp import Command, Reply
from shardcache.wire import pack
from shardcache.wire.aio.connection import AsyncLink

__all__ = ("Ears",)

_MOST_IDLE = 4
Dial = Callable[
    [float, float, Callable[[AsyncLink, Exception], None], Callable[[int], None]], Coroutine[Any, Any, AsyncLink]
]


class Ears:
    """Listens on one shard, on connections that are kept for the next listener."""

    __slots__ = ("_dial", "_idle", "_links", "_shard")

    def __init__(self, shard: ShardState, dial: Dial) -> None:
        self._shard = shard
        self._dial = dial
        self._idle: list[AsyncLink] = []
        self._links: set[AsyncLink] = set()

    @property
    def links(self) -> list[AsyncLink]:
        """The open connections."""
        return list(self._links)

    @property
    def busy(self) -> bool:
        """Whether a connection is open."""
        return bool(self._links)

    async def listen(self, command: Command, patience: float) -> Reply | ShardError:
        """Send a command that blocks for up to ``patience`` seconds; return its reply, None if there is none, or what went wrong."""
        shard = self._shard
        try:
            if shard.breaker.state is not State.CLOSED:
                shard.admit()
        except ShardOut as error:
            await asyncio.sleep(0)  # or a caller that asks in a loop would never let the prober run
            return error
        link = self._idle.pop() if self._idle else None
        began = shard.clock()
        soon = began + min(patience + GRACE, shard.timeout)
        dialled = link is None
        try:
            if link is None:
                link = await self._dial(soon, shard.timeout, self._ended, _no_matter)
                if shard.closed:
                    link.end(ConnectionError("the client was closed meanwhile"))
                if link.alive:  # else nobody would ever take it out again
                    self._links.add(link)
                dialled = False
            reply = await link.send(pack(command), 1, shard.clock() + patience + GRACE, _is_heard)
        except (OSError, ShardError) as error:
            if link is not None:
                link.end(ConnectionError("it did not answer"))
            if isinstance(error, TimeoutError) and not dialled:
                shard.abandon()
                return None  # out of the server's line by now; that it is silent says nothing about its health
            return shard.lost(error, dialled=dialled, hurried=patience < shard.timeout, began=began, deadline=soon)
        except BaseException:
            # The server takes a closed connection out of its line; an open one would take a wake-up that nobody hears.
            if link is not None:
                link.end(ConnectionError("nobody listens any more"))
            shard.abandon()
            raise
        if len(self._idle) < _MOST_IDLE and link.alive:
            self._idle.append(link)
        else:
            link.end(ConnectionError("there are enough connections"))
        return heard(shard, reply)

    def end(self, error: Exception) -> list[AsyncLink]:
        """Close all connections; return them, to be waited for."""
        links = list(self._links)
        for link in links:
            link.end(error)
        return links

    def _ended(self, link: AsyncLink, _: Exception) -> None:
        self._links.discard(link)
        if link in self._idle:
            self._idle.remove(link)


def _is_heard(replies: list[Reply]) -> bool:
    return replies[0].__class__ in HEARD


def _no_matter(_: int) -> None:
    """Room on a connection of one's own is no news."""
