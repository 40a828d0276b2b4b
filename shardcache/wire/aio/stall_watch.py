"""Whether a connection stands still: it owes replies, and nothing comes.

Replies come in order, so one request that is never answered holds up all behind it.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from shardcache.flows.own_pause import longer
from shardcache.wire.aio.pending_reply import PendingReply

__all__ = ("StallWatch", "Watched")

_LOOKS = 8  # in one timeout


class Watched(Protocol):
    """What is watched: an `AsyncConnection`.

    ``heard``: whether anything has come since the last look, which takes it back.
    ``timed``: whether it owes replies that have a deadline.
    """

    timeout: float
    heard: bool

    @property
    def timed(self) -> bool: ...

    def first(self) -> PendingReply | None:
        """Return what is owed a reply first."""


class StallWatch:
    """Looks at a connection every eighth of its timeout, as long as it owes replies.

    It stands still if the same reply is due first as at the last look, and nothing has come since.

    ``stalled``: whether it did at the last look.
    ``on_stall``: is called at each look at which it stands still.
    """

    __slots__ = ("_at", "_connection", "_first", "_loop", "_on_stall", "_timer", "stalled")

    def __init__(
        self,
        connection: Watched,
        loop: asyncio.AbstractEventLoop,
        on_stall: Callable[[], None],
    ) -> None:
        self.stalled = False
        self._at = 0.0
        self._connection = connection
        self._first: PendingReply | None = None
        self._loop = loop
        self._on_stall = on_stall
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Look in an eighth of the timeout, unless that is to be done anyway."""
        if self._timer is None:
            self._at = self._loop.time() + self._connection.timeout / _LOOKS
            self._timer = self._loop.call_at(self._at, self._due)

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._first = None

    def _due(self) -> None:
        """Let the loop read what has come meanwhile, for it runs timers first; then look."""
        self._timer = self._loop.call_later(longer(self._loop.time(), self._at), self._look)

    def _look(self) -> None:
        self._timer = None
        connection = self._connection
        first = connection.first()
        self.stalled = first is not None and first is self._first and not connection.heard
        self._first = first
        connection.heard = False
        if connection.timed:
            self.begin()
        if self.stalled:
            self._on_stall()
