"""The endpoints of one address of a shard, in the order to try them.

A name may stand for several addresses, and some of them may not answer: an IPv6 address on a
network without a route, a machine that is gone. So each address gets a share of the time of a
call. The address over which a connection was made is remembered, and tried first from then on.
"""

import asyncio
import socket
import weakref
from collections.abc import Callable
from contextlib import suppress

from shardcache.events import Hook
from shardcache.wire.endpoint import Endpoint, is_numeric, look_up
from shardcache.wire.host_name import (
    HEAD_START,
    LATE,
    PAUSE,
    SECOND_LOOK,
    STEP,
    HostName,
    NameUser,
)
from shardcache.wire.shared_call import NotInTime

__all__ = ("Resolver",)


class Resolver:
    """Looks up one host; see `HostName` for how.

    ``ttl``: seconds after which an answer is old.
    ``hook``: is told if no thread could be started for the look-up.
    ``name``: what is known of the host. Default: what this process knows.
    ``last``: the endpoint of the last connection that was made.
    """

    __slots__ = ("_hook", "_host", "_name", "_port", "_ttl", "_user", "last")

    def __init__(
        self,
        host: str,
        port: int,
        ttl: float,
        hook: Hook | None = None,
        name: HostName | None = None,
    ) -> None:
        self._hook = hook
        self._host = host
        self._port = port
        self._ttl = ttl
        self._name = None if is_numeric(host) else name or HostName.of(host)
        self._user: weakref.ref[NameUser] | None = None
        self.last: Endpoint | None = None

    def watch(self, user: NameUser) -> None:
        """Tell ``user`` of look-ups, until `unwatch`. It is held weakly."""
        self._user = weakref.ref(user)
        if self._name is not None:
            self._name.add_user(user)

    def unwatch(self, user: NameUser) -> None:
        if self._name is not None:
            self._name.remove_user(user)

    def get(self, deadline: float, clock: Callable[[], float]) -> list[Endpoint]:
        """Return the endpoints in the order to try them. Raises OSError (`NotInTime` is one)."""
        name = self._name
        if name is None:
            return look_up(self._host, self._port, socket.AI_NUMERICHOST)
        seconds = self._first_wait(name, deadline - clock())
        if seconds is not None:
            try:
                name.get(seconds, clock, self._hook)
            except OSError:
                if name.answer is None:
                    raise
        return self._ordered(name)

    async def get_async(self, deadline: float) -> list[Endpoint]:
        """As `get`, on an event loop."""
        name = self._name
        if name is None:
            return look_up(self._host, self._port, socket.AI_NUMERICHOST)
        clock = asyncio.get_running_loop().time
        seconds = self._first_wait(name, deadline - clock())
        if seconds is not None:
            try:
                await name.get_async(seconds, clock, self._hook)
            except OSError:
                if name.answer is None:
                    raise
        return self._ordered(name)

    def others(
        self, tried: list[Endpoint], deadline: float, clock: Callable[[], float]
    ) -> list[Endpoint]:
        """Return endpoints that are new since those that were ``tried`` in vain."""
        name = self._name
        if name is None:
            return []
        seconds = self._second_wait(name, deadline - clock())
        if seconds is not None:
            with suppress(OSError):
                name.get(seconds, clock, self._hook)
        return [each for each in self._ordered(name) if each not in tried]

    async def others_async(self, tried: list[Endpoint], deadline: float) -> list[Endpoint]:
        """As `others`, on an event loop."""
        name = self._name
        if name is None:
            return []
        clock = asyncio.get_running_loop().time
        seconds = self._second_wait(name, deadline - clock())
        if seconds is not None:
            with suppress(OSError):
                await name.get_async(seconds, clock, self._hook)
        return [each for each in self._ordered(name) if each not in tried]

    def refresh(self) -> None:
        """Look the name up in the background, unless that has just been done."""
        name = self._name
        if name is not None and name.runs_for is None and name.rested >= PAUSE:
            with suppress(OSError):
                name.get(0.0, lambda: 0.0, self._hook)

    def _first_wait(self, name: HostName, left: float) -> float | None:
        """Return for how many seconds a call waits for a look-up; None: it needs none.

        ``left``: the seconds that the call has.
        """
        runs_for = name.runs_for
        if runs_for is not None and runs_for >= LATE:
            user = None if self._user is None else self._user()
            if user is not None:
                user.on_lookup(NotInTime(STEP))
        if name.answer is None:
            return left
        if not name.is_old(self._ttl):
            return None
        head_start = max(min(HEAD_START, left / 10), 0.0)
        if runs_for is not None:
            return max(head_start - runs_for, 0.0)
        return None if name.rested < min(PAUSE, self._ttl) else head_start

    def _second_wait(self, name: HostName, left: float) -> float | None:
        """Return for how many seconds a call waits whose connections have all failed."""
        runs_for = name.runs_for
        if runs_for is None and name.rested < PAUSE:
            return None
        return max(min(SECOND_LOOK - (runs_for or 0.0), left / 2), 0.0)

    def _ordered(self, name: HostName) -> list[Endpoint]:
        answer = name.answer
        found = [] if answer is None else [each.with_port(self._port) for each in answer.endpoints]
        last = self.last
        return (
            [last, *(one for one in found if one != last)]
            if last in found and last is not None
            else found
        )
