"""Connections for commands that block on the server: on a shared one, everybody else would wait behind them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from shardcache.drivers.replies import BLOCKING_REPLY_TYPES, check_reply
from shardcache.drivers.shard_health import ShardState
from shardcache.errors import ShardError, ShardOut
from shardcache.flows.steps import SERVER_TICK
from shardcache.policy.breaker import State
from shardcache.resp import Command, Reply
from shardcache.wire import pack
from shardcache.wire.aio.connection import AsyncConnection

__all__ = ("BlockingConnections",)

_MOST_IDLE = 4
Dial = Callable[
    [float, float, Callable[[AsyncConnection, Exception], None], Callable[[int], None]],
    Coroutine[Any, Any, AsyncConnection],
]


class BlockingConnections:
    """Listens on one shard, on connections that are kept for the next listener."""

    __slots__ = ("_connections", "_dial", "_idle", "_shard")

    def __init__(self, shard: ShardState, dial: Dial) -> None:
        self._shard = shard
        self._dial = dial
        self._idle: list[AsyncConnection] = []
        self._connections: set[AsyncConnection] = set()

    @property
    def connections(self) -> list[AsyncConnection]:
        """The open connections."""
        return list(self._connections)

    @property
    def busy(self) -> bool:
        """Whether a connection is open."""
        return bool(self._connections)

    async def listen(self, command: Command, timeout: float) -> Reply | ShardError:
        """Send a command that blocks for up to ``patience`` seconds; return its reply, None if there is none, or what went wrong."""
        shard = self._shard
        try:
            if shard.breaker.state is not State.CLOSED:
                shard.admit()
        except ShardOut as error:
            await asyncio.sleep(0)  # or a caller that asks in a loop would never let the prober run
            return error
        connection = self._idle.pop() if self._idle else None
        began = shard.clock()
        soon = began + min(timeout + SERVER_TICK, shard.timeout)
        dialled = connection is None
        try:
            if connection is None:
                connection = await self._dial(soon, shard.timeout, self._ended, _no_matter)
                if shard.closed:
                    connection.end(ConnectionError("the client was closed meanwhile"))
                if connection.alive:  # else nobody would ever take it out again
                    self._connections.add(connection)
                dialled = False
            reply = await connection.send(
                pack(command), 1, shard.clock() + timeout + SERVER_TICK, _is_heard
            )
        except (OSError, ShardError) as error:
            if connection is not None:
                connection.end(ConnectionError("it did not answer"))
            if isinstance(error, TimeoutError) and not dialled:
                shard.release_trial()
                return None  # out of the server's line by now; that it is silent says nothing about its health
            return shard.record_failure(
                error, dialled=dialled, hurried=timeout < shard.timeout, began=began, deadline=soon
            )
        except BaseException:
            # The server takes a closed connection out of its line; an open one would take a wake-up that nobody hears.
            if connection is not None:
                connection.end(ConnectionError("nobody listens any more"))
            shard.release_trial()
            raise
        if len(self._idle) < _MOST_IDLE and connection.alive:
            self._idle.append(connection)
        else:
            connection.end(ConnectionError("there are enough connections"))
        return check_reply(shard, reply)

    def end(self, error: Exception) -> list[AsyncConnection]:
        """Close all connections; return them, to be waited for."""
        connections = list(self._connections)
        for connection in connections:
            connection.end(error)
        return connections

    def _ended(self, connection: AsyncConnection, _: Exception) -> None:
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


def _is_heard(replies: list[Reply]) -> bool:
    return replies[0].__class__ in BLOCKING_REPLY_TYPES


def _no_matter(_: int) -> None:
    """Room on a connection of one's own is no news."""
