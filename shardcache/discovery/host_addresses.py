"""The addresses of a host, of one family, by the system or by a given DNS server."""

import socket
from ipaddress import ip_address

from shardcache.discovery.name_server import NameServer
from shardcache.errors import DiscoveryFailed

__all__ = ("HostAddresses",)

# What the system says when there is no such name, or no address of this family.
_NONE = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class HostAddresses:
    """Looks up hosts.

    ``ipv6``: look for IPv6 addresses instead of IPv4.
    ``server``: whom to ask; None: the system, which asks DNS by its own rules and limits, and looks
        into its file of hosts.
    """

    __slots__ = ("_ipv6", "_server")

    def __init__(self, *, ipv6: bool, server: NameServer | None) -> None:
        self._ipv6 = ipv6
        self._server = server

    def of(self, host: str) -> list[str]:
        """Return the addresses of ``host``, sorted; none if it is said that there are none.

        Raises `DiscoveryFailed` if nothing is said, or an address at which no server can be.
        """
        if self._server is None:
            found = self._by_system(host)
        else:
            records = self._server.ask(host, "AAAA" if self._ipv6 else "A")
            found = {record.address for record in records}
        for one in found:
            address = ip_address(one.partition("%")[0])
            if address.is_unspecified or address.is_multicast:
                raise DiscoveryFailed(host, f"it is said to be at {one}, where no server can be")
        return sorted(found)

    def _by_system(self, host: str) -> set[str]:
        family = socket.AF_INET6 if self._ipv6 else socket.AF_INET
        try:
            rows = socket.getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in _NONE:
                return set()
            raise DiscoveryFailed(host, error.strerror or "the system cannot look it up") from error
        except (OSError, ValueError) as error:
            raise DiscoveryFailed(host, f"the system cannot look it up: {error}") from error
        return {str(where[0]) for *_, where in rows}
