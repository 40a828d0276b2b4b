"""The connections of one shard: as many as threads use at once. Idle ones are kept.

Acquiring and releasing are single operations of a deque, so no lock is held. A forked child has no
connection: those that the parent opened stay the parent's (G1).
"""

import weakref
from collections import deque
from contextlib import suppress

from shardcache.errors import ClientClosed
from shardcache.stats import ShardTally
from shardcache.system.forked import ForkedObjects
from shardcache.urls import Address
from shardcache.wire.sync.connection import Connection
from shardcache.wire.sync.dialer import Dialer

__all__ = ("Pool",)

_RETIRED = -1  # the generation of connections that are not to be used again
_forked = ForkedObjects()


class Pool:
    """Idle connections to one shard, the most recently used on top."""

    __slots__ = (
        "__weakref__",
        "_closed",
        "_connections",
        "_dial",
        "_idle",
        "_max_idle",
        "_most_idle",
        "_tally",
        "generation",
        "logins",
    )

    def __init__(self, dial: Dialer, max_idle: int, tally: ShardTally) -> None:
        self._dial = dial
        self._max_idle = self._most_idle = max_idle
        self._idle: deque[Connection] = deque()
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._closed = False
        self.generation = 0
        self.logins = 0  # how often the credentials have been renewed
        self._tally = tally
        _forked.add(self)

    def __len__(self) -> int:
        return len(self._idle)

    def acquire(self, deadline: float, parts: int = 1) -> tuple[Connection, bool]:
        """Return a connection, and whether it was opened just now; see `open`."""
        idle = self._idle
        while True:
            try:
                connection = idle.pop()
            except IndexError:
                return self.open(deadline, parts), True
            if not connection.stale():
                return connection, False
            connection.close()

    def open(self, deadline: float, parts: int = 1) -> Connection:
        """Open a connection, even if others are idle.

        Raises what a `Dialer` raises, and `ClientClosed`.

        ``parts``: how many connections, this one among them, are to be opened by the deadline,
        one after the other. Each may use its share of the time.
        """
        if self._closed:
            raise ClientClosed("the client is closed")
        if parts > 1:
            now = self._dial.clock()
            deadline = now + max(deadline - now, 0.0) / parts
        logins = self.logins
        connection = self._dial(deadline, self.generation)
        self._tally.connects += 1
        self._connections.add(connection)
        if self.logins != logins:  # renewed meanwhile: it may be logged in as before
            connection.generation = _RETIRED
        return connection

    def release(self, connection: Connection) -> None:
        """Take back a connection that is in step."""
        if connection.generation != self.generation or len(self._idle) >= self._most_idle:
            connection.close()
            return
        self._idle.append(connection)
        if self._closed or connection.generation != self.generation:  # in this very moment
            self.empty()

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

    def move(self, address: Address) -> None:
        """Go to another address, and `renew`. One caller at a time."""
        self._dial.move(address)
        # In this order: a connection of the new generation goes to the new address for certain.
        self.renew()

    def renew(self) -> None:
        """Close the idle connections, and those in use when they come back."""
        self.generation += 1
        self.empty()

    def empty(self) -> None:
        """Close the idle connections, as after a failure: they go to the same server."""
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def keep_idle(self, kept: bool) -> None:
        """Say whether idle connections are kept; if not, close those that there are."""
        self._most_idle = self._max_idle if kept else 0
        if not kept:
            self.empty()

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they are released."""
        self._closed = True
        self.generation += 1
        self.empty()

    def after_fork(self) -> None:
        """In a forked child: drop the parent's connections, and send nothing to the server."""
        self.generation += 1
        # Before the idle ones are dropped: nothing else refers to them.
        for connection in list(self._connections):
            connection.close()  # closes this process' descriptor only
        self._idle = deque()
        self._connections = weakref.WeakSet()
