"""Connections for commands that block on the server.

On a shared connection everybody else would wait behind such a command.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from shardcache.drivers.aio.shard_call import ShardCall
from shardcache.drivers.shard_health import ShardState
from shardcache.errors import ShardError
from shardcache.flows.reply_checks import shapes_fit
from shardcache.flows.steps import SERVER_TICK
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
    """The connections of one shard that one listener at a time has. Some are kept for the next."""

    __slots__ = ("_connections", "_dial", "_generation", "_idle", "_shard")

    def __init__(self, shard: ShardState, dial: Dial) -> None:
        self._shard = shard
        self._dial = dial
        self._idle: list[AsyncConnection] = []
        self._connections: set[AsyncConnection] = set()
        self._generation = 0  # grows when the shard moves to another address

    @property
    def connections(self) -> list[AsyncConnection]:
        """The open connections."""
        return list(self._connections)

    @property
    def busy(self) -> bool:
        """Whether a connection is open."""
        return bool(self._connections)

    async def listen(
        self, call: ShardCall, command: Command, timeout: float
    ) -> Reply | ShardError | None:
        """Send a command that blocks for up to ``timeout`` seconds; return its reply.

        It is None if there is none in time, or a `ShardError` if something went wrong.
        """
        shard = self._shard
        generation = self._generation
        began = shard.clock()
        soon = began + min(timeout + SERVER_TICK, shard.timeout)
        try:
            connection = self._idle.pop() if self._idle else await self._open(soon)
        except (OSError, ShardError) as error:
            hurried = timeout < shard.timeout
            return call.failed(error, dialled=True, hurried=hurried, began=began, deadline=soon)
        try:
            end = shard.clock() + timeout + SERVER_TICK
            fits = partial(shapes_fit, (command,))
            reply = await connection.send(pack(command), 1, end, fits)
        except TimeoutError:
            # That it is silent says nothing about its health.
            connection.end(ConnectionError("it did not answer"))
            return None
        except (OSError, ShardError) as error:
            connection.end(ConnectionError("it did not answer"))
            return call.failed(error, dialled=False, began=began)
        except BaseException:
            # The server takes a closed connection out of the queue of those that it blocks. An
            # open one would take a wake-up that nobody hears.
            connection.end(ConnectionError("nobody listens any more"))
            raise
        self._keep(connection, generation)
        return call.answered([reply])[0]

    async def _open(self, deadline: float) -> AsyncConnection:
        connection = await self._dial(deadline, self._shard.timeout, self._ended, _no_matter)
        if self._shard.closed:
            connection.end(ConnectionError("the client was closed meanwhile"))
        if connection.alive:  # else nothing would ever take it out again
            self._connections.add(connection)
        return connection

    def _keep(self, connection: AsyncConnection, generation: int) -> None:
        if (
            self._shard.in_service
            and generation == self._generation
            and len(self._idle) < _MOST_IDLE
            and connection.alive
        ):
            self._idle.append(connection)
        else:
            connection.end(ConnectionError("there are enough connections"))

    def move(self) -> None:
        """Close the idle connections, and those in use when they come back: the shard has moved."""
        self._generation += 1
        for connection in list(self._idle):
            connection.end(ConnectionError("the shard has moved to another address"))

    def end_idle(self) -> None:
        """Close the connections that nobody uses."""
        for connection in list(self._idle):
            connection.end(ConnectionError("the node has left the topology"))

    def end(self, error: Exception) -> list[AsyncConnection]:
        """Close all connections; return them, to be waited for."""
        connections = self.connections
        for connection in connections:
            connection.end(error)
        return connections

    def _ended(self, connection: AsyncConnection, _: Exception) -> None:
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


def _no_matter(_: int) -> None:
    """Room on a connection of one's own is no news."""
