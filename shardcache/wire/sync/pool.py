"""The connections of one shard: as many as threads use at once. Idle ones are kept.

Acquiring and releasing are single operations of a deque, so no lock is held. A forked child has no
connection: those that the parent opened stay the parent's (G1).
"""

import os
import weakref
from collections import deque
from contextlib import suppress

from shardcache.errors import ClientClosed
from shardcache.stats import ShardTally
from shardcache.wire.sync.connection import Connection
from shardcache.wire.sync.dialer import Dialer

__all__ = ("Pool",)

_RETIRED = -1  # the generation of connections that are not to be used again


class Pool:
    """Idle connections to one shard, the most recently used on top."""

    __slots__ = (
        "__weakref__",
        "_closed",
        "_connections",
        "_dial",
        "_idle",
        "_max_idle",
        "_tally",
        "generation",
        "logins",
    )

    def __init__(self, dial: Dialer, max_idle: int, tally: ShardTally) -> None:
        self._dial = dial
        self._max_idle = max_idle
        self._idle: deque[Connection] = deque()
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._closed = False
        self.generation = 0
        self.logins = 0  # how often the credentials have been renewed
        self._tally = tally
        _pools.add(self)

    def __len__(self) -> int:
        return len(self._idle)

    def acquire(self, deadline: float) -> tuple[Connection, bool]:
        """Return a connection, and whether it was opened just now.

        Raises what a `Dialer` raises, and `ClientClosed`.
        """
        idle = self._idle
        while True:
            try:
                connection = idle.pop()
            except IndexError:
                return self.open(deadline), True
            if not connection.stale():
                return connection, False
            connection.close()

    def open(self, deadline: float) -> Connection:
        """Open a connection, even if others are idle."""
        if self._closed:
            raise ClientClosed("the client is closed")
        logins = self.logins
        connection = self._dial(deadline, self.generation)
        self._tally.connects += 1
        self._connections.add(connection)
        if self.logins != logins:  # renewed meanwhile: it may be logged in as before
            connection.generation = _RETIRED
        return connection

    def release(self, connection: Connection) -> None:
        """Take back a connection that is in step."""
        if connection.generation != self.generation or len(self._idle) >= self._max_idle:
            connection.close()
            return
        self._idle.append(connection)
        if self._closed:  # closed in this very moment
            self.close()

    def retire(self) -> list[Connection]:
        """Take out the idle connections, so that they can log in anew and be released.

        Connections in use are closed when they are released.
        """
        self.logins += 1
        idle: list[Connection] = []
        with suppress(IndexError):
            while True:
                idle.append(self._idle.pop())
        known: list[Connection] | None = None
        while known is None:
            with suppress(RuntimeError):  # other threads open connections meanwhile
                known = list(self._connections)
        taken = set(map(id, idle))
        for connection in known:
            if id(connection) not in taken:
                connection.generation = _RETIRED
        return idle

    def empty(self) -> None:
        """Close the idle connections, as after a failure: they go to the same server."""
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they are released."""
        self._closed = True
        self.generation += 1
        self.empty()

    def forget(self) -> None:
        """In a forked child: drop the parent's connections, and send nothing to the server."""
        self.generation += 1
        # Before the idle ones are dropped: nothing else refers to them.
        for connection in list(self._connections):
            connection.close()  # closes this process' descriptor only
        self._idle = deque()
        self._connections = weakref.WeakSet()


_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
