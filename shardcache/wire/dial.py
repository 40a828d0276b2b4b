"""Opening a connection: the socket by redis-py's classes, then one round trip of handshake.

redis-py knows how to make TCP, TLS and Unix-socket connections and how to ask a credential
provider; its own handshake takes a round trip per command and cannot be given one deadline.
Here everything the server must hear goes out in one write: HELLO (with AUTH and SETNAME) and
SELECT. The answer to HELLO tells the server's mode and role, and with them whether it may
stand on a ring at all.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis.connection
from redis.exceptions import RedisError

from shardcache.commands import Command, ErrorReply, Reply, as_error
from shardcache.errors import CommandRefused, OutOfStep, ShardError, WrongTopology
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
        try:
            self._handshake(link, deadline)
        except BaseException:
            link.close()
            raise
        return link

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
        connection = kind(**where, redis_connect_func=lambda _: None, driver_info=None, protocol=2)
        connection.clock = self.clock
        connection.deadline = deadline
        try:
            connection.connect()
        except RedisError as error:
            # redis-py wraps the OSError; what it wrapped says more, and says it as OSError.
            cause = error.__context__
            raise cause if isinstance(cause, OSError) else OSError(str(error)) from None
        sock, connection._sock = connection._sock, None  # ours from here on
        return Link(self.shard, sock, self.clock, generation)

    def _handshake(self, link: Link, deadline: float) -> None:
        login = self._login()
        if self.options.protocol == 3:
            hello: Command = (b"HELLO", 3)
            if login:
                hello += (b"AUTH", *(login if len(login) == 2 else ("default", *login)))
            if self.options.client_name:
                hello += (b"SETNAME", self.options.client_name)
            first = self._ask(link, [hello, *self._select()], deadline)
            if isinstance(first[0], dict):
                self._check(first[1:])
                self._place(first[0].get(b"mode", b"standalone"), first[0].get(b"role", b"master"))
                return
            if not self._unknown(first[0]):
                self._check(first)
                raise OutOfStep(self.shard, f"HELLO was answered with {type(first[0]).__name__}")
        commands: list[Command] = [(b"AUTH", *login)] if login else []
        if self.options.client_name:
            commands.append((b"CLIENT", b"SETNAME", self.options.client_name))
        commands += [*self._select(), (b"INFO", b"server"), (b"ROLE",)]
        replies = self._ask(link, commands, deadline)
        info, role = replies[-2:]
        self._check(replies[:-2])
        if isinstance(info, bytes) and isinstance(role, list) and role:  # else: ACL says no, and so it stays unknown
            mode = b"cluster" if b"redis_mode:cluster" in info else b"sentinel" if role[0] == b"sentinel" else b""
            self._place(mode, b"replica" if role[0] == b"slave" else b"master")

    def _ask(self, link: Link, commands: list[Command], deadline: float) -> list[Reply]:
        turn = Turn(link, pack_all(commands), len(commands))
        transfer([turn], deadline, self.clock)
        if turn.error is not None:
            raise turn.error
        return turn.replies

    def _login(self) -> tuple[str, ...]:
        if self.options.credential_provider is not None:
            return tuple(self.options.credential_provider.get_credentials())
        address = self.address
        if address.username is not None:
            return (address.username, address.password or "")
        return (address.password,) if address.password else ()

    def _select(self) -> list[Command]:
        return [(b"SELECT", self.address.db)] if self.address.db else []

    @staticmethod
    def _unknown(reply: Reply) -> bool:
        """Whether the server is too old for HELLO or RESP3 (or a proxy that hides them)."""
        return isinstance(reply, ErrorReply) and str(reply).lower().startswith(("err unknown command", "noproto"))

    def _check(self, replies: list[Reply]) -> None:
        for reply in replies:
            if isinstance(reply, ErrorReply):
                error: ShardError = as_error(self.shard, reply)
                if isinstance(error, CommandRefused) and "DB index" in error.reason:
                    error = CommandRefused(self.shard, f"{error.reason} (database {self.address.db})")
                raise error

    def _place(self, mode: bytes, role: bytes) -> None:
        if mode == b"cluster":
            raise WrongTopology(
                self.shard,
                "is a member of a Redis Cluster, which places keys itself; a ring takes independent servers",
            )
        if mode == b"sentinel":
            raise WrongTopology(self.shard, "is a Sentinel; a ring takes the data servers")
        if role in (b"replica", b"slave"):
            raise WrongTopology(self.shard, "is a replica and takes no writes; a ring takes primaries")
