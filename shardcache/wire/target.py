"""Where the connections of a shard go, and what has to be known before one can be opened.

A dialer refers to one `Target`, and to another one from the moment at which its shard has another
address. A connection is opened by one of them from beginning to end.
"""

import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple

from shardcache.errors import AuthenticationFailed
from shardcache.options import Options
from shardcache.urls import Address
from shardcache.wire.credentials import Credentials, Login
from shardcache.wire.endpoint import Endpoint
from shardcache.wire.host_name import NameUser
from shardcache.wire.resolve import Resolver
from shardcache.wire.shared_call import NotBegun, NotInTime
from shardcache.wire.tls import TLSContext

__all__ = ("Prepared", "Target")


class Prepared(NamedTuple):
    """What is needed to open a connection.

    ``target``: where this comes from.
    ``login``: what the server is told first.
    ``context``: the certificates; None: without TLS.
    ``endpoints``: the addresses, in the order to try them.
    """

    target: "Target"
    login: Login
    context: ssl.SSLContext | None
    endpoints: list[Endpoint]


class Target:
    """One address of a shard, with what belongs to it: its login, certificates and host name."""

    __slots__ = ("_context", "_credentials", "_hook", "_resolver", "_shard", "address")

    def __init__(self, shard: str, address: Address, options: Options) -> None:
        self._shard = shard
        self._hook = options.on_event
        self.address = address
        self._credentials = Credentials(
            shard, address, options.credential_provider, options.on_event
        )
        self._context = TLSContext.of(options.tls) if address.tls else None
        self._resolver = (
            None
            if address.path
            else Resolver(address.host, address.port, options.dns_ttl, options.on_event)
        )

    def prepare(self, deadline: float, clock: Callable[[], float]) -> Prepared:
        """Return what a connection needs, by ``deadline``.

        Raises OSError (`NotInTime` is one), or `ShardError`.
        """
        login = self._credentials.get(deadline, clock)
        context = None
        if self._context is not None:
            try:
                context = self._context.get(deadline, clock, self._hook)
            except OSError as error:
                raise self._unusable(error) from error
        resolver = self._resolver
        endpoints = self._socket_file() if resolver is None else resolver.get(deadline, clock)
        return Prepared(self, login, context, endpoints)

    async def prepare_async(self, deadline: float) -> Prepared:
        """As `prepare`, on an event loop; ``deadline`` is of its clock."""
        login = await self._credentials.get_async(deadline)
        context = None
        if self._context is not None:
            try:
                context = await self._context.get_async(deadline, self._hook)
            except OSError as error:
                raise self._unusable(error) from error
        resolver = self._resolver
        endpoints = self._socket_file() if resolver is None else await resolver.get_async(deadline)
        return Prepared(self, login, context, endpoints)

    def connected(self, endpoint: Endpoint) -> None:
        """Note over which endpoint a connection was made: it is tried first from now on."""
        if self._resolver is not None:
            self._resolver.last = endpoint

    def others(
        self, tried: list[Endpoint], deadline: float, clock: Callable[[], float]
    ) -> list[Endpoint]:
        """Return endpoints that are new since those that were ``tried`` in vain."""
        return [] if self._resolver is None else self._resolver.others(tried, deadline, clock)

    async def others_async(self, tried: list[Endpoint], deadline: float) -> list[Endpoint]:
        """As `others`, on an event loop."""
        return [] if self._resolver is None else await self._resolver.others_async(tried, deadline)

    def refresh(self) -> None:
        """Look the host name up in the background: what was reached is not what it was."""
        if self._resolver is not None:
            self._resolver.refresh()

    def watch(self, user: NameUser) -> None:
        """Tell ``user``, which is held weakly, of look-ups of the host name, until `unwatch`."""
        if self._resolver is not None:
            self._resolver.watch(user)

    def unwatch(self, user: NameUser) -> None:
        """Tell ``user`` no more."""
        if self._resolver is not None:
            self._resolver.unwatch(user)

    def _socket_file(self) -> list[Endpoint]:
        return [Endpoint(socket.AF_UNIX, socket.SOCK_STREAM, 0, self.address.path)]

    def _unusable(self, error: OSError) -> OSError | AuthenticationFailed:
        """Return what to raise for certificates or keys that cannot be read.

        That is a mistake, not an outage.
        """
        if isinstance(error, (NotBegun, NotInTime)):
            return error
        return AuthenticationFailed(self._shard, f"its TLS files cannot be used: {error}")
