"""The connections of one shard: as many as threads ask for at once, the idle ones kept.

Taking and giving back are single operations of a deque, so no lock is held. A fork leaves the
child without any connection: what the parent opened stays the parent's (G1).
"""

import os
import weakref
from collections import deque
from contextlib import suppress

from shardcache.errors import ClientClosed
from shardcache.stats import ShardTally
from shardcache.wire.sync.connection import Link
from shardcache.wire.sync.dialer import Dialer

__all__ = ("Pool",)

_RETIRED = -1  # the generation of links that are not to be used again


class Pool:
    """Idle links to one shard, the most recently used on top."""

    __slots__ = ("__weakref__", "_closed", "_dial", "_idle", "_links", "_max_idle", "_tally", "generation", "logins")

    def __init__(self, dial: Dialer, max_idle: int, tally: ShardTally) -> None:
        self._dial = dial
        self._max_idle = max_idle
        self._idle: deque[Link] = deque()
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._closed = False
        self.generation = 0
        self.logins = 0  # how often the credentials have been renewed
        self._tally = tally
        _pools.add(self)

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, deadline: float) -> tuple[Link, bool]:
        """Return a link, and whether it was opened just now. Raises what a `Dialer` raises, and `ClientClosed`."""
        idle = self._idle
        while True:
            try:
                link = idle.pop()
            except IndexError:
                return self.open(deadline), True
            if not link.stale():
                return link, False
            link.close()

    def open(self, deadline: float) -> Link:
        """Open a link, whatever lies idle."""
        if self._closed:
            raise ClientClosed("the client is closed")
        logins = self.logins
        link = self._dial(deadline, self.generation)
        self._tally.connects += 1
        self._links.add(link)
        if self.logins != logins:  # renewed meanwhile: it may be logged in as before
            link.generation = _RETIRED
        return link

    def give(self, link: Link) -> None:
        """Take back a link that is in step."""
        if link.generation != self.generation or len(self._idle) >= self._max_idle:
            link.close()
            return
        self._idle.append(link)
        if self._closed:  # closed in this very moment
            self.close()

    def retire(self) -> list[Link]:
        """Take out what lies idle, to be logged in anew and given back; what is in use is closed when it is given back."""
        self.logins += 1
        idle: list[Link] = []
        with suppress(IndexError):
            while True:
                idle.append(self._idle.pop())
        known: list[Link] | None = None
        while known is None:
            with suppress(RuntimeError):  # other threads open links meanwhile
                known = list(self._links)
        taken = set(map(id, idle))
        for link in known:
            if id(link) not in taken:
                link.generation = _RETIRED
        return idle

    def empty(self) -> None:
        """Close what lies idle, as after a failure: the others were opened to the same server."""
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def close(self) -> None:
        """Close what lies idle; what is in use is closed when it is given back."""
        self._closed = True
        self.generation += 1
        self.empty()

    def forget(self) -> None:
        """In a forked child: let go of the parent's connections without a word to the server."""
        self.generation += 1
        for link in list(self._links):  # before the idle ones are let go of: nobody else has them
            link.close()  # closes this process' descriptor only
        self._idle = deque()
        self._links = weakref.WeakSet()


_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
