"""Opening a connection, by one deadline: the socket, TLS if asked for, one round trip of handshake.

Only the standard library is used for it. redis-py's connection classes cost 0.4 ms more for each
connection: they look up their own version under the import lock, which a child that is forked at
that moment inherits locked, and they read the certificates anew.
"""

import socket
from collections.abc import Callable
from contextlib import suppress

from shardcache.errors import ShardError
from shardcache.options import Options
from shardcache.urls import Address
from shardcache.wire.dialer_base import DialerBase
from shardcache.wire.endpoint import Endpoint, telling
from shardcache.wire.handshake import handshake_flow, hung_up
from shardcache.wire.server_kind import ServerKind
from shardcache.wire.sync.connection import Connection, pack_all
from shardcache.wire.sync.exchange import Turn, transfer
from shardcache.wire.sync.marked import MarkedConnection
from shardcache.wire.target import Prepared

__all__ = ("Dialer",)


class Dialer(DialerBase):
    """Opens connections to one shard.

    ``clock``: the clock of deadlines, in seconds.
    """

    __slots__ = ("clock",)

    def __init__(
        self,
        shard: str,
        address: Address,
        options: Options,
        clock: Callable[[], float],
        kind: ServerKind = "standalone",
    ) -> None:
        super().__init__(shard, address, options, kind)
        self.clock = clock

    def __call__(self, deadline: float, generation: int = 0) -> Connection:
        """Return a connection that is logged in and checked.

        Raises OSError if no connection can be made, `ShardError` if the server refuses.
        """
        prepared = self._target.prepare(deadline, self.clock)
        errors: list[OSError] = []
        try:
            found = self._first(prepared, prepared.endpoints, deadline, generation, errors)
            if found is None:
                # The name may have moved. Where the deadline is over, the next call will know.
                others = prepared.target.others(prepared.endpoints, deadline, self.clock)
                found = self._first(prepared, others, deadline, generation, errors)
        except ShardError:
            # Another server than expected may have taken the place of the one that moved.
            prepared.target.refresh()
            raise
        if found is None:
            raise telling(errors)
        return found

    def _first(
        self,
        prepared: Prepared,
        endpoints: list[Endpoint],
        deadline: float,
        generation: int,
        errors: list[OSError],
    ) -> Connection | None:
        """Return a connection over the first of the endpoints that has one; note the errors."""
        for left, endpoint in zip(range(len(endpoints), 0, -1), endpoints, strict=True):
            now = self.clock()
            try:
                connection = self._open(
                    prepared, endpoint, now + (deadline - now) / left, generation
                )
            except OSError as error:
                errors.append(error)
            else:
                prepared.target.connected(endpoint)
                return connection
        return None

    def _open(
        self, prepared: Prepared, endpoint: Endpoint, deadline: float, generation: int
    ) -> Connection:
        """Return a connection over one endpoint, by its share of the time."""
        address, login = prepared.target.address, prepared.login
        sock = self._connect(prepared, endpoint, deadline)
        kind = MarkedConnection if self.options.echo_check else Connection
        connection = kind(self.shard, sock, self.clock, generation, self.options.max_value)
        try:
            steps = handshake_flow(self.shard, address, self.options, login, self._kind)
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

    def _connect(self, prepared: Prepared, endpoint: Endpoint, deadline: float) -> socket.socket:
        sock = socket.socket(endpoint.family, endpoint.kind, endpoint.protocol)
        try:
            sock.settimeout(self._rest(deadline))
            sock.connect(endpoint.where)
            no_delay(sock)
            if prepared.context is not None:
                # The timeout of the whole TLS handshake, in however many pieces it comes.
                sock.settimeout(self._rest(deadline))
                sock = prepared.context.wrap_socket(
                    sock,
                    server_hostname=prepared.target.address.host,
                    do_handshake_on_connect=False,
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
