"""Opening an asyncio connection.

The steps are a socket, the transport of the event loop, and then the handshake of both colours.
"""

import asyncio
import socket
from collections.abc import Callable
from functools import partial

from shardcache.errors import ShardError
from shardcache.flows.own_pause import longer
from shardcache.wire.aio.connection import AsyncConnection
from shardcache.wire.aio.staggered import first_success
from shardcache.wire.dialer_base import DialerBase
from shardcache.wire.endpoint import Endpoint, telling
from shardcache.wire.handshake import handshake_flow, hung_up
from shardcache.wire.sync.connection import pack_all
from shardcache.wire.sync.dialer import no_delay
from shardcache.wire.target import Prepared

__all__ = ("AsyncDialer",)

# Seconds that one address is tried alone before the next one is tried as well.
# RFC 8305 recommends 0.25.
ATTEMPT_DELAY = 0.25
NewLink = Callable[[], AsyncConnection]


class AsyncDialer(DialerBase):
    """Opens connections to one shard."""

    __slots__ = ()

    async def __call__(
        self,
        deadline: float,
        timeout: float,
        on_end: Callable[[AsyncConnection, Exception], None],
        on_room: Callable[[int], None],
    ) -> AsyncConnection:
        """Return a connection that is logged in and checked, by ``deadline`` of the loop's clock.

        Raises OSError if no connection can be made, `ShardError` if the server refuses.
        """
        loop = asyncio.get_running_loop()
        new = partial(
            AsyncConnection, self.shard, loop, timeout, on_end, on_room, self.options.max_value
        )
        prepared = await self._target.prepare_async(deadline)
        try:
            async with asyncio.timeout(None) as limit:
                # This is a timeout at the deadline, with one difference: after a pause of this
                # process, the bytes that have come in meanwhile are read before it ends.
                timer = loop.call_at(
                    deadline, lambda: limit.reschedule(loop.time() + longer(loop.time(), deadline))
                )
                try:
                    return await self._first(prepared, deadline, new)
                finally:
                    timer.cancel()
        except (TimeoutError, ShardError):
            # The name may have moved: the next call will know. Another server than expected may
            # have taken the place of the one that moved.
            prepared.target.refresh()
            raise

    async def _first(self, prepared: Prepared, deadline: float, new: NewLink) -> AsyncConnection:
        """Return a connection over an endpoint of the name, or of what it has moved to."""
        try:
            return await self._race(prepared, prepared.endpoints, deadline, new)
        except OSError:
            others = await prepared.target.others_async(prepared.endpoints, deadline)
            if not others:
                raise
        return await self._race(prepared, others, deadline, new)

    async def _race(
        self, prepared: Prepared, endpoints: list[Endpoint], deadline: float, new: NewLink
    ) -> AsyncConnection:
        """Return a connection over the endpoint that has one first.

        They are tried one after the other, each with a head start (RFC 8305).
        """
        rest = max(deadline - asyncio.get_running_loop().time(), 0)
        attempts = [
            partial(self._open, prepared, endpoint, deadline, new) for endpoint in endpoints
        ]
        delay = min(ATTEMPT_DELAY, rest / len(endpoints))
        return await first_success(attempts, delay, _discard, telling)

    async def _open(
        self, prepared: Prepared, endpoint: Endpoint, deadline: float, new: NewLink
    ) -> AsyncConnection:
        """Return a connection over one endpoint."""
        address, login = prepared.target.address, prepared.login
        connection = new()
        try:
            await self._connect(connection, prepared, endpoint)
            steps = handshake_flow(self.shard, address, self.options, login, self._kind)
            commands = next(steps)
            # The handshake says what to send, and ends with the run of the server.
            while True:
                try:
                    replies = await connection.send(pack_all(commands), len(commands), deadline)
                except Exception as error:
                    # The server may have said why it closes the connection: that is the error.
                    if told := hung_up(error, connection.last_words):
                        raise told from error
                    raise
                commands = steps.send([replies] if len(commands) == 1 else replies)
        except StopIteration as end:
            connection.set_server_run(end.value)
            connection.marked = self.options.echo_check
            connection.used = False
            prepared.target.connected(endpoint)
            return connection
        except BaseException as error:
            # A connection that is not ready is closed before anybody else can try another.
            connection.end(
                error
                if isinstance(error, Exception)
                else ConnectionError("connecting was broken off")
            )
            await connection.wait_closed()
            raise

    async def _connect(
        self, connection: AsyncConnection, prepared: Prepared, endpoint: Endpoint
    ) -> None:
        loop = asyncio.get_running_loop()
        sock = socket.socket(endpoint.family, endpoint.kind, endpoint.protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, endpoint.where)
            no_delay(sock)
            await loop.create_connection(
                lambda: connection,
                sock=sock,
                ssl=prepared.context,
                server_hostname=prepared.target.address.host if prepared.context else None,
            )
        except BaseException as error:
            sock.close()
            if isinstance(error, ValueError) and not isinstance(error, OSError):
                # No certificate can be for this host, or the path has a zero byte.
                # (The error of a refused certificate is a ValueError and an OSError.)
                raise OSError(str(error)) from error
            raise


def _discard(connection: AsyncConnection) -> None:
    connection.end(ConnectionError("another address was faster"))
