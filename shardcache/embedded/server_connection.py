"""A connection to a local server for what an operator asks it: its state, and changes to it."""

import socket
import time
from collections.abc import Sequence
from typing import Self

from shardcache.embedded.server import LocalServer
from shardcache.errors import ShardTimeout, ShardUnavailable
from shardcache.resp import ErrorReply, Reply, as_error
from shardcache.wire import Connection, Turn, pack_all, transfer

__all__ = ("Command", "ServerConnection")

Command = tuple[str | bytes | int, ...]


class ServerConnection:
    """A connection to ``server``, as a context manager; each command has a deadline of its own.

    ``server``: a server on a port.
    ``password``: the password of its default user; None for none.
    ``timeout``: seconds for connecting, and for each command.

    Raises `ShardUnavailable` if the server does not answer, `AuthenticationFailed` for a wrong
    password.
    """

    def __init__(self, server: LocalServer, password: str | None, *, timeout: float = 5.0) -> None:
        self.server = server
        self.password = password
        self._timeout = timeout
        self._connections: list[Connection] = []
        self._connect(1)

    def ask(self, *command: str | bytes | int) -> Reply:
        """Send a command and return its reply.

        Raises what `shardcache.resp.as_error` makes of an error reply, or `ShardUnavailable`.
        """
        return self.ask_all([command])[0]

    def ask_all(self, commands: Sequence[Command], *, connections: int = 1) -> list[Reply]:
        """Send several commands at once and return their replies.

        ``connections``: over how many connections; a command that blocks holds up only those that
            are behind it on its connection. With more than one, the order is not kept.

        Raises as `ask` does: the first error, when all replies have come.
        """
        self._connect(min(connections, len(commands)))
        # Every n-th command goes over the same connection.
        parts = [commands[at::connections] for at in range(min(connections, len(commands)))]
        turns = [
            Turn(
                connection,
                pack_all([tuple(map(_bytes, command)) for command in part]),
                len(part),
                sum(map(len, part)),
            )
            for connection, part in zip(self._connections, parts, strict=False)
        ]
        transfer(turns, time.monotonic() + self._timeout, time.monotonic)
        replies: list[Reply] = [None] * len(commands)
        for at, turn in enumerate(turns):
            self._check(turn, commands[at])
            replies[at::connections] = turn.replies
        for reply in replies:
            if isinstance(reply, ErrorReply):
                raise as_error(self.server.name, reply)
        return replies

    def text(self, *command: str | bytes | int) -> str:
        """Return the reply to a command that answers with a text."""
        reply = self.ask(*command)
        return reply.decode() if isinstance(reply, bytes) else str(reply)

    def fields(self, *command: str | bytes | int) -> dict[str, str]:
        """Return the reply to a command that answers with lines of ``name:value``."""
        lines = (line.partition(":") for line in self.text(*command).split("\r\n"))
        return {name: value for name, separator, value in lines if separator}

    def close(self) -> None:
        """Close the connection."""
        for connection in self._connections:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self, count: int) -> None:
        """Have at least so many connections."""
        while len(self._connections) < count:
            try:
                sock = socket.create_connection(("127.0.0.1", self.server.port), self._timeout)
            except OSError as error:
                self.close()
                raise ShardUnavailable(
                    self.server.name, f"it cannot be reached: {error}"
                ) from error
            connection = Connection(self.server.name, sock, time.monotonic)
            if self.password is not None:
                self._login(connection, self.password)
            self._connections.append(connection)

    def _login(self, connection: Connection, password: str) -> None:
        turn = Turn(connection, pack_all([(b"AUTH", password.encode())]), 1)
        transfer([turn], time.monotonic() + self._timeout, time.monotonic)
        try:
            self._check(turn, ("AUTH",))
            if isinstance(turn.replies[0], ErrorReply):
                raise as_error(self.server.name, turn.replies[0])
        except BaseException:
            connection.close()
            self.close()
            raise

    def _check(self, turn: Turn, command: Command) -> None:
        """Raise the error that ended the turn."""
        if isinstance(turn.error, TimeoutError):
            raise ShardTimeout(
                self.server.name, f"no answer to {command[0]!s} within {self._timeout:g} s"
            ) from turn.error
        if turn.error is not None:
            raise ShardUnavailable(
                self.server.name, f"the connection broke: {turn.error}"
            ) from turn.error


def _bytes(word: str | bytes | int) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
