"""Opening an asyncio connection.

The steps are a socket, the transport of the event loop, and then the handshake of both colours.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial

from shardcache.flows.own_pause import longer
from shardcache.options import Options
from shardcache.urls import Address
from shardcache.wire.aio.connection import AsyncConnection
from shardcache.wire.aio.staggered import first_success
from shardcache.wire.credentials import Credentials, Login
from shardcache.wire.handshake import handshake, hung_up
from shardcache.wire.resolve import Endpoint, Resolver, telling
from shardcache.wire.shared_call import NotInTime
from shardcache.wire.sync.connection import pack_all
from shardcache.wire.sync.dialer import no_delay, unusable
from shardcache.wire.tls import TLSContext

__all__ = ("AsyncDialer",)

# Seconds that one address is tried alone before the next one is tried as well.
# RFC 8305 recommends 0.25.
ATTEMPT_DELAY = 0.25
NewLink = Callable[[], AsyncConnection]


class AsyncDialer:
    """Opens connections to one shard."""

    __slots__ = ("_context", "_credentials", "_resolver", "address", "options", "shard")

    def __init__(self, shard: str, address: Address, options: Options) -> None:
        self.shard = shard
        self.address = address
        self.options = options
        self._credentials = Credentials(
            shard, address, options.credential_provider, options.on_event
        )
        self._context = TLSContext.of(options.tls) if address.tls else None
        self._resolver = Resolver(address.host, address.port, options.on_event)

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
        login = await self._credentials.get_async(deadline)
        context = (
            None
            if self._context is None
            else await self._read_certificates(self._context, deadline)
        )
        endpoints = await self._endpoints(deadline)
        # The addresses are tried one after the other, each with a head start (RFC 8305).
        delay = min(ATTEMPT_DELAY, max(deadline - loop.time(), 0) / len(endpoints))
        attempts = [
            partial(self._open, endpoint, context, login, deadline, new) for endpoint in endpoints
        ]
        async with asyncio.timeout(None) as limit:
            # This is a timeout at the deadline, with one difference: after a pause of this
            # process, the bytes that have come in meanwhile are read before it ends.
            timer = loop.call_at(
                deadline, lambda: limit.reschedule(loop.time() + longer(loop.time(), deadline))
            )
            try:
                return await first_success(attempts, delay, _discard, telling)
            finally:
                timer.cancel()

    async def _endpoints(self, deadline: float) -> list[Endpoint]:
        if self.address.path:
            return [Endpoint(socket.AF_UNIX, socket.SOCK_STREAM, 0, self.address.path)]
        return await self._resolver.get_async(deadline)

    async def _read_certificates(self, context: TLSContext, deadline: float) -> ssl.SSLContext:
        try:
            return await context.get_async(deadline, self.options.on_event)
        except NotInTime:
            raise
        except OSError as error:
            raise unusable(self.shard, error) from error

    async def _open(
        self,
        endpoint: Endpoint,
        context: ssl.SSLContext | None,
        login: Login,
        deadline: float,
        new: NewLink,
    ) -> AsyncConnection:
        """Return a connection over one endpoint."""
        connection = new()
        try:
            await self._connect(connection, endpoint, context)
            steps = handshake(self.shard, self.address, self.options, login)
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
            self._resolver.last = endpoint
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
        self, connection: AsyncConnection, endpoint: Endpoint, context: ssl.SSLContext | None
    ) -> None:
        loop = asyncio.get_running_loop()
        sock = socket.socket(endpoint.family, endpoint.kind, endpoint.protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, endpoint.where)
            no_delay(sock)
            host = self.address.host if context is not None else None
            await loop.create_connection(
                lambda: connection, sock=sock, ssl=context, server_hostname=host
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
