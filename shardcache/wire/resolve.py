"""The addresses of one host, the one that served last first.

A name may stand for several addresses, of which some are silent: an IPv6 address on a network without a
route, a machine that is gone. So each address gets a share of the time of a call, and the one over which a
connection came about is remembered and tried first from then on.
"""

import encodings.idna  # noqa: F401  else getaddrinfo imports it at the first look-up: under the import lock, which a fork may inherit
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
    """Looks up one host. ``last`` is the endpoint that served last. ``hook`` is told if there is no thread to look up in."""

    __slots__ = ("_call", "_hook", "_host", "_port", "last")

    def __init__(self, host: str, port: int, hook: Hook | None = None) -> None:
        self._hook = hook
        self._host = host
        self._port = port
        self._call: SharedCall[list[Endpoint]] = SharedCall("looking up the host name")
        self.last: Endpoint | None = None

    def get(self, deadline: float, clock: Callable[[], float]) -> list[Endpoint]:
        """Return the endpoints in the order to try them. Raises OSError (`NotInTime` among them)."""
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
    """Return each endpoint once, the families by turns, the system's first choice first (RFC 8305, section 4)."""
    families: dict[int, list[Endpoint]] = {}
    for endpoint in dict.fromkeys(endpoints):
        families.setdefault(endpoint.family, []).append(endpoint)
    return [
        endpoint
        for endpoint in chain.from_iterable(zip_longest(*families.values()))
        if endpoint is not None
    ]


def telling(errors: Sequence[OSError]) -> OSError:
    """Return the error that says most, where every endpoint has had one: a certificate that is refused is no outage."""
    return next(
        (error for kind in _BY_WEIGHT for error in errors if isinstance(error, kind)), errors[-1]
    )


def _is_numeric(host: str) -> bool:
    """Whether ``host`` is an address already, so that nobody needs to be asked."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
        except (OSError, ValueError):
            continue
        return True
    return False
