"""The addresses of one host, the one that served last first.

A name may stand for several addresses, and some of them may not answer: an IPv6 address on a
network without a route, a machine that is gone. So each address gets a share of the time of a
call. The address over which a connection was made is remembered, and tried first from then on.

`encodings.idna` is imported here, because getaddrinfo would import it at the first look-up, under
the import lock, which a forked child may inherit locked.
"""

import encodings.idna  # noqa: F401
import socket
import ssl
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple

from shardcache.events import Hook
from shardcache.wire.shared_call import SharedCall

__all__ = ("Endpoint", "Resolver", "interleaved", "telling")


_BY_WEIGHT = (ssl.SSLCertVerificationError, ssl.SSLError)


class Endpoint(NamedTuple):
    """One address of a server, as the socket calls take it."""

    family: int
    kind: int
    protocol: int
    where: Any


class Resolver:
    """Looks up one host.

    ``last``: the endpoint of the last connection that was made.
    ``hook``: is told if no thread could be started for the look-up.
    """

    __slots__ = ("_call", "_hook", "_host", "_port", "last")

    def __init__(self, host: str, port: int, hook: Hook | None = None) -> None:
        self._hook = hook
        self._host = host
        self._port = port
        self._call: SharedCall[list[Endpoint]] = SharedCall("looking up the host name")
        self.last: Endpoint | None = None

    def get(self, deadline: float, clock: Callable[[], float]) -> list[Endpoint]:
        """Return the endpoints in the order to try them. Raises OSError (`NotInTime` is one)."""
        if _is_numeric(self._host):
            return self._look_up(socket.AI_NUMERICHOST)
        return self._ordered(self._call.get(self._look_up, deadline, clock, self._hook))

    async def get_async(self, deadline: float) -> list[Endpoint]:
        """As `get`, on an event loop."""
        if _is_numeric(self._host):
            return self._look_up(socket.AI_NUMERICHOST)
        return self._ordered(await self._call.get_async(self._look_up, deadline, self._hook))

    def _look_up(self, flags: int = 0) -> list[Endpoint]:
        try:
            rows = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=flags)
        except ValueError as error:  # no DNS name, though it may stand in a URL
            raise OSError(f"{self._host!r} is no host name: {error}") from error
        found = [
            Endpoint(family, kind, protocol, where) for family, kind, protocol, _, where in rows
        ]
        if not found:
            raise OSError(f"no address is known for {self._host!r}")
        return interleaved(found)

    def _ordered(self, found: list[Endpoint]) -> list[Endpoint]:
        last = self.last
        return (
            [last, *(one for one in found if one != last)]
            if last in found and last is not None
            else found
        )


def interleaved(endpoints: list[Endpoint]) -> list[Endpoint]:
    """Return each endpoint once, with the address families in turn (RFC 8305, section 4).

    The family that the system lists first comes first.
    """
    families: dict[int, list[Endpoint]] = {}
    for endpoint in dict.fromkeys(endpoints):
        families.setdefault(endpoint.family, []).append(endpoint)
    return [
        endpoint
        for endpoint in chain.from_iterable(zip_longest(*families.values()))
        if endpoint is not None
    ]


def telling(errors: Sequence[OSError]) -> OSError:
    """Return the most important of the errors of all endpoints.

    That is the refusal of a certificate, if there was one, since it is not an outage.
    """
    return next(
        (error for kind in _BY_WEIGHT for error in errors if isinstance(error, kind)), errors[-1]
    )


def _is_numeric(host: str) -> bool:
    """Whether ``host`` is an address already, so that no look-up is needed."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
        except (OSError, ValueError):
            continue
        return True
    return False
