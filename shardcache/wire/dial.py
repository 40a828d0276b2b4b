"""Opening a connection: the socket by redis-py's classes, then one round trip of handshake.

redis-py knows how to make TCP, TLS and Unix-socket connections; its own handshake takes a round
trip per command and cannot be given one deadline, so ours (`flows.handshake`) takes its place.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis.connection
from redis.exceptions import RedisError

from shardcache.flows.handshake import handshake
from shardcache.options import Options
from shardcache.urls import Address
from shardcache.wire.fanout import Turn, transfer
from shardcache.wire.link import Link, pack_all

__all__ = ("Dialer",)


class _Timed:
    """Redirects redis-py's socket timeouts to one deadline over all its steps."""

    deadline = 0.0
    clock: Callable[[], float]

    @property
    def socket_timeout(self) -> float:
        return max(self.deadline - self.clock(), 0.001)

    @socket_timeout.setter
    def socket_timeout(self, _: object) -> None:
        pass

    socket_connect_timeout = socket_timeout


class _TCP(_Timed, redis.connection.Connection):  # type: ignore[misc]  # the properties are the point
    pass


class _TLS(_Timed, redis.connection.SSLConnection):  # type: ignore[misc]
    pass


class _Unix(_Timed, redis.connection.UnixDomainSocketConnection):  # type: ignore[misc]
    pass


@dataclass(frozen=True, slots=True)
class Dialer:
    """Opens links to one shard."""

    shard: str
    address: Address
    options: Options
    clock: Callable[[], float]

    def __call__(self, deadline: float, generation: int = 0) -> Link:
        """Return a link that is logged in and checked.

        Raises OSError where there is no connection, `ShardError` where the server says no.
        """
        link = self._connect(deadline, generation)
        steps = handshake(self.shard, self.address, self.options)
        try:
            commands = next(steps)
            while True:
                turn = Turn(link, pack_all(commands), len(commands))
                transfer([turn], deadline, self.clock)
                if turn.error is not None:
                    raise turn.error
                commands = steps.send(turn.replies)
        except StopIteration as end:
            link.met(end.value)
            link.marked = self.options.echo_check
            return link
        except BaseException:
            link.close()
            raise

    def _connect(self, deadline: float, generation: int) -> Link:
        address = self.address
        kind: Any
        where: dict[str, Any]
        if address.path:
            kind, where = _Unix, {"path": address.path}
        else:
            kind, where = _TCP, {"host": address.host, "port": address.port}
        if address.tls:
            tls = self.options.tls
            kind = _TLS
            where.update(
                ssl_cert_reqs=ssl.CERT_REQUIRED if tls.verify else ssl.CERT_NONE,
                ssl_check_hostname=tls.verify and tls.check_hostname,
                ssl_ca_certs=tls.ca_file,
                ssl_certfile=tls.cert_file,
                ssl_keyfile=tls.key_file,
            )
        connection = kind(**where, redis_connect_func=lambda _: None, protocol=2)
        connection.clock = self.clock
        connection.deadline = deadline
        try:
            connection.connect()
        except RedisError as error:
            # redis-py wraps the OSError; what it wrapped says more, and says it as OSError.
            cause = error.__context__
            raise cause if isinstance(cause, OSError) else OSError(str(error)) from None
        sock, connection._sock = connection._sock, None  # ours from here on
        return Link(self.shard, sock, self.clock, generation, self.options.max_value)
