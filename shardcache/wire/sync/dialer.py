"""Opening a connection, by one deadline: the socket, TLS if asked for, one round trip of handshake.

Only the standard library is used for it. redis-py's connection classes cost 0.4 ms more for each
connection: they look up their own version under the import lock, which a child that is forked at
that moment inherits locked, and they read the certificates anew.
"""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from shardcache.errors import AuthenticationFailed
from shardcache.options import Options
from shardcache.urls import Address
from shardcache.wire.credentials import Credentials, Login
from shardcache.wire.handshake import handshake, hung_up
from shardcache.wire.resolve import Endpoint, Resolver, telling
from shardcache.wire.shared_call import NotInTime
from shardcache.wire.sync.connection import Connection, pack_all
from shardcache.wire.sync.exchange import Turn, transfer
from shardcache.wire.tls import TLSContext

__all__ = ("Dialer",)


class Dialer:
    """Opens connections to one shard."""

    __slots__ = ("_context", "_credentials", "_resolver", "address", "clock", "options", "shard")

    def __init__(
        self, shard: str, address: Address, options: Options, clock: Callable[[], float]
    ) -> None:
        self.shard = shard
        self.address = address
        self.options = options
        self.clock = clock
        self._credentials = Credentials(
            shard, address, options.credential_provider, options.on_event
        )
        self._context = TLSContext.of(options.tls) if address.tls else None
        self._resolver = Resolver(address.host, address.port, options.on_event)

    def __call__(self, deadline: float, generation: int = 0) -> Connection:
        """Return a connection that is logged in and checked.

        Raises OSError if no connection can be made, `ShardError` if the server refuses.
        """
        login = self._credentials.get(deadline, self.clock)
        context = (
            None if self._context is None else self._read_certificates(self._context, deadline)
        )
        endpoints = self._endpoints(deadline)
        errors: list[OSError] = []
        for left, endpoint in zip(range(len(endpoints), 0, -1), endpoints, strict=True):
            now = self.clock()
            try:
                connection = self._open(
                    endpoint, context, login, now + (deadline - now) / left, generation
                )
            except OSError as error:
                errors.append(error)
            else:
                self._resolver.last = endpoint
                return connection
        raise telling(errors)

    def _endpoints(self, deadline: float) -> list[Endpoint]:
        if self.address.path:
            return [Endpoint(socket.AF_UNIX, socket.SOCK_STREAM, 0, self.address.path)]
        return self._resolver.get(deadline, self.clock)

    def _read_certificates(self, context: TLSContext, deadline: float) -> ssl.SSLContext:
        try:
            return context.get(deadline, self.clock, self.options.on_event)
        except NotInTime:
            raise
        except OSError as error:
            raise unusable(self.shard, error) from error

    def _open(
        self,
        endpoint: Endpoint,
        context: ssl.SSLContext | None,
        login: Login,
        deadline: float,
        generation: int,
    ) -> Connection:
        """Return a connection over one endpoint, by its share of the time."""
        sock = self._connect(endpoint, context, deadline)
        connection = Connection(self.shard, sock, self.clock, generation, self.options.max_value)
        try:
            steps = handshake(self.shard, self.address, self.options, login)
            commands = next(steps)
            # The handshake says what to send, and ends with the run of the server.
            while True:
                turn = Turn(connection, pack_all(commands), len(commands))
                transfer([turn], deadline, self.clock)
                if turn.error is not None:
                    # The server may have said why it closes the connection: that is the error.
                    raise hung_up(turn.error, turn.replies or connection.last_words()) or turn.error
                commands = steps.send(turn.replies)
        except StopIteration as end:
            connection.set_server_run(end.value)
            connection.marked = self.options.echo_check
            return connection
        except BaseException:
            connection.close()
            raise

    def _connect(
        self, endpoint: Endpoint, context: ssl.SSLContext | None, deadline: float
    ) -> socket.socket:
        sock = socket.socket(endpoint.family, endpoint.kind, endpoint.protocol)
        try:
            sock.settimeout(self._rest(deadline))
            sock.connect(endpoint.where)
            no_delay(sock)
            if context is not None:
                # The timeout of the whole TLS handshake, in however many pieces it comes.
                sock.settimeout(self._rest(deadline))
                sock = context.wrap_socket(
                    sock, server_hostname=self.address.host, do_handshake_on_connect=False
                )
                sock.do_handshake()
        except BaseException as error:
            sock.close()
            if isinstance(error, ValueError) and not isinstance(error, OSError):
                # No certificate can be for this host, or the path has a zero byte.
                # (The error of a refused certificate is a ValueError and an OSError.)
                raise OSError(str(error)) from error
            raise
        return sock

    def _rest(self, deadline: float) -> float:
        rest = deadline - self.clock()
        if rest <= 0:
            raise TimeoutError("no time is left to connect")
        return rest


def no_delay(sock: socket.socket) -> None:
    """Have small requests sent at once, if the socket has that option."""
    with suppress(OSError):  # a Unix socket has none
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def unusable(shard: str, error: OSError) -> AuthenticationFailed:
    """Return the error for certificates or keys that cannot be read: a mistake, not an outage."""
    return AuthenticationFailed(shard, f"its TLS files cannot be used: {error}")
