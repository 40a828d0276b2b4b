"""The addresses of one host as the socket calls take them, and the order to try them in."""

import encodings.idna  # noqa: F401
import socket
import ssl
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple

from shardcache.wire.lookup_guard import LookupGuard

__all__ = ("Endpoint", "interleaved", "is_numeric", "look_up", "telling")

# `encodings.idna` is imported here, because getaddrinfo would import it at the first look-up, under
# the import lock, which a forked child may inherit locked.
_BY_WEIGHT = (ssl.SSLCertVerificationError, ssl.SSLError)


class Endpoint(NamedTuple):
    """One address of a server, as the socket calls take it."""

    family: int
    kind: int
    protocol: int
    where: Any

    def with_port(self, port: int) -> "Endpoint":
        """Return it with this port, if it has none."""
        host, own, *rest = self.where
        return self if own else self._replace(where=(host, port, *rest))


def look_up(host: str, port: int | None = None, flags: int = 0) -> list[Endpoint]:
    """Return what the system says of a host. Raises OSError if there is nothing.

    It takes as long as the system likes, unless ``host`` is an address.
    """
    try:
        with LookupGuard():
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except ValueError as error:  # no DNS name, though it may stand in a URL
        raise OSError(f"{host!r} is no host name: {error}") from error
    found = [Endpoint(family, kind, protocol, where) for family, kind, protocol, _, where in rows]
    if not found:
        raise OSError(f"no address is known for {host!r}")
    return interleaved(found)


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


def is_numeric(host: str) -> bool:
    """Whether ``host`` is an address already, so that no look-up is needed."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
        except (OSError, ValueError):
            continue
        return True
    return False
