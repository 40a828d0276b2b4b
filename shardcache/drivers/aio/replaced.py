"""Connections that stood still and were replaced, as long as they are of any use."""

from shardcache.wire.aio.connection import AsyncConnection

__all__ = ("Replaced",)

_MOST = 3  # beside the one in use; more would be a way to open connections without bound to a server that loses everything


class Replaced:
    """What a `SharedConnection` has of old connections, each with replies that may still come.

    At most one owes replies to commands whose order matters: as long as it does, all further ones go to it.
    """

    __slots__ = ("connections",)

    def __init__(self) -> None:
        self.connections: list[AsyncConnection] = []

    @property
    def full(self) -> bool:
        """Whether there is no room for another one."""
        return len(self.connections) >= _MOST

    @property
    def in_order(self) -> AsyncConnection | None:
        """The connection on which commands go that must not overtake others, if it is not the one in use."""
        for connection in self.connections:
            if any(pending[3].in_order for pending in connection.slots):
                return connection
        return None

    def end_unneeded(self) -> None:
        """Close those that nobody waits for and whose commands nothing has to stay behind."""
        for connection in list(self.connections):
            if not any(
                not pending[0].done() or pending[3].in_order for pending in connection.slots
            ):
                connection.end(ConnectionError("another connection has taken its place"))

    def end(self, error: Exception) -> None:
        """Close all."""
        for connection in list(self.connections):
            connection.end(error)
