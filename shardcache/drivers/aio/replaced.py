"""Connections that were replaced, as long as they are of any use.

They stood still, or go to an address that the shard has left.
"""

from collections.abc import Iterator

from shardcache.wire.aio.connection import AsyncConnection

__all__ = ("Replaced",)

# Beside the one in use. Without a bound, a server that loses every request would have ever more
# connections.
_MOST = 3


class Replaced:
    """The old connections of a `SharedConnection`, each with replies that may still come.

    At most one of ``connections`` owes replies to commands whose order matters. As long as it does,
    all further ones go to it.

    ``connections``: those that stood still.
    ``left``: those to a former address. No further command goes to them.
    """

    __slots__ = ("connections", "left")

    def __init__(self) -> None:
        self.connections: list[AsyncConnection] = []
        self.left: list[AsyncConnection] = []

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.connections or self.left)

    def __iter__(self) -> Iterator[AsyncConnection]:
        yield from list(self.connections)
        yield from list(self.left)

    def discard(self, connection: AsyncConnection) -> bool:
        """Take out one that has ended; return whether it was here."""
        for these in (self.connections, self.left):
            if connection in these:
                these.remove(connection)
                return True
        return False

    def leave(self, connection: AsyncConnection | None) -> None:
        """Take ``connection``, if there is one, and all that are here, as those to leave."""
        self.left += self.connections
        self.connections.clear()
        if connection is not None and connection.ended is None:
            self.left.append(connection)
        self.end_unneeded()

    @property
    def full(self) -> bool:
        """Whether there is no room for another one."""
        return len(self.connections) >= _MOST

    @property
    def in_order(self) -> AsyncConnection | None:
        """The connection for commands that must not overtake others; None: the one in use."""
        for connection in self.connections:
            if any(pending[3].in_order for pending in connection.queue):
                return connection
        return None

    def end_unneeded(self) -> None:
        """Close those whose replies nobody waits for and which no command has to stay behind."""
        for connection in self:
            if not any(
                not pending[0].done() or pending[3].in_order for pending in connection.queue
            ):
                connection.end(ConnectionError("another connection has taken its place"))

    def end(self, error: Exception) -> None:
        """Close all."""
        for connection in self:
            connection.end(error)
