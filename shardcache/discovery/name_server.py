"""Questions to DNS that the operating system has no function for, by dnspython."""

from importlib import import_module
from ipaddress import ip_address
from typing import Any

from shardcache.errors import DiscoveryFailed, InvalidOption

__all__ = ("NameServer",)


class NameServer:
    """The DNS servers of the system, or a given one.

    ``server``: an IP address, perhaps with a port; None: those of the system, which are looked up
        anew each time.
    ``timeout``: seconds that one question may take, all servers and repetitions together.

    Raises `InvalidOption` for another text, and where dnspython is not installed.
    """

    __slots__ = ("_errors", "_resolver", "_server", "_timeout")

    def __init__(self, server: str | None, timeout: float) -> None:
        self._server = None if server is None else _parsed(server)
        self._timeout = timeout
        # Imported here and not in the thread that asks: a fork meanwhile would leave the child the
        # import lock.
        try:
            self._resolver: Any = import_module("dns.resolver")
            self._errors: Any = import_module("dns.exception")
        except ImportError:
            raise InvalidOption(
                "SRV records and nameserver= need the package dnspython: shardcache[dns]"
            ) from None

    def ask(self, name: str, kind: str) -> list[Any]:
        """Return the records of ``name``; none if DNS says that there are none.

        ``kind``: "A", "AAAA" or "SRV".

        Raises `DiscoveryFailed` if it says nothing.
        """
        module = self._resolver
        try:
            resolver = module.Resolver(configure=self._server is None)
            if self._server is not None:
                address, resolver.port = self._server
                resolver.nameservers = [address]
            return list(resolver.resolve(name, kind, lifetime=self._timeout, search=True))
        except (module.NXDOMAIN, module.NoAnswer):
            return []
        # Its servers, its time, or what they said: the text has names and addresses only.
        except (self._errors.DNSException, OSError, ValueError) as error:
            raise DiscoveryFailed(name, f"{type(error).__name__}: {error}") from error


def _parsed(server: str) -> tuple[str, int]:
    """Return address and port of a DNS server."""
    if isinstance(server, str):
        host, _, port = server.rpartition(":")
        for place, digits in ((server, "53"), (host, port)):
            address = place.removeprefix("[").removesuffix("]")
            try:
                ip_address(address)
            except ValueError:
                continue
            if digits.isascii() and digits.isdigit() and 0 < int(digits[:6]) < 65536:
                return address, int(digits)
    raise InvalidOption(
        "nameserver must be an IP address, perhaps with a port, such as '10.0.0.2' or "
        f"'127.0.0.1:8600', got {server!r:.80}"
    )
