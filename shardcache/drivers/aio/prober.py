"""The task that probes one shard while it is out of service."""

import asyncio
from typing import TYPE_CHECKING

from shardcache.drivers.shard_health import is_down
from shardcache.resp import ErrorReply
from shardcache.wire import pack
from shardcache.wire.aio.connection import AsyncConnection

if TYPE_CHECKING:
    from shardcache.drivers.aio.shard import AsyncShard

__all__ = ("Prober",)

_PING = pack((b"PING",))


class Prober:
    """Sends PING to one shard, at growing intervals, until it answers."""

    __slots__ = ("_shard", "_task")

    def __init__(self, shard: "AsyncShard") -> None:
        self._shard = shard
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether it has begun and not had an answer."""
        return self._task is not None

    def start(self) -> None:
        """Begin, unless that was done."""
        if self._task is None or self._task.done():
            self._task = self._shard.loop.create_task(
                self._probe_until_answered(), name=f"shardcache prober of {self._shard.name}"
            )

    def end(self) -> None:
        """End without an answer."""
        if self._task is not None:
            self._task.cancel()

    def leave(self) -> None:
        """Let go of a probe under way: it asks where the shard is no more."""
        task, self._task = self._task, None
        if task is not None:
            self._shard.cancel(task)

    async def close(self) -> None:
        """End, and wait for that."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _probe_until_answered(self) -> None:
        """Probe the shard until it answers: the one task of the loop that sends to it meanwhile."""
        shard = self._shard
        while self._task is not None:
            await asyncio.sleep(shard.next_probe())
            shard.tally.probes += 1
            # A credential provider may raise anything. Without a prober the shard would stay out.
            try:
                await self._probe_once()
            except Exception:  # noqa: BLE001
                shard.suspect()
                continue
            shard.probe_succeeded()
            self._task = None

    async def _probe_once(self) -> None:
        """Have a connection over which a PING was answered, or raise."""
        main = self._shard.main
        connection = main.connection
        if connection is not None and connection.alive and not len(connection):
            # It was late, not dead, and owes nothing any more: another one is not needed.
            await self._ping(connection)
        else:
            main.adopt(await self.connect())

    async def connect(self) -> AsyncConnection:
        """Return a new connection over which a PING was answered, or raise."""
        shard = self._shard
        main = shard.main
        deadline = shard.clock() + shard.timeout
        connection = await shard.dial(deadline, shard.timeout, main.on_end, main.on_room)
        try:
            await self._ping(connection)
        except BaseException:
            connection.end(ConnectionError("the probe failed"))
            raise
        return connection

    async def _ping(self, connection: AsyncConnection) -> None:
        """Return if the server answers a PING as one that serves."""
        shard = self._shard
        reply = await connection.send(_PING, 1, shard.clock() + shard.timeout)
        if isinstance(reply, ErrorReply) and is_down(error := shard.named(reply)):
            raise error
