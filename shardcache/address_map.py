"""Addresses that servers announce, put into those by which a client reaches them.

Sentinels, and the nodes of a cluster, tell the addresses by which they know each other. Behind NAT,
port-forwards or containers a client needs others. `Options.address_map` says which.
"""

from collections.abc import Callable, Mapping
from typing import Any

from shardcache.errors import InvalidOption

__all__ = ("AddressMap", "check_address_map", "mapped")

Place = str | tuple[str, int]  # "host:port" or (host, port)
AddressMap = Mapping[Any, Any] | Callable[[tuple[str, int]], Any]


def check_address_map(address_map: object) -> None:
    """Raise `InvalidOption` if it is neither None, a mapping of addresses, nor callable."""
    if address_map is None or (callable(address_map) and not isinstance(address_map, Mapping)):
        return
    if not isinstance(address_map, Mapping):
        raise InvalidOption(
            "address_map must be a mapping of addresses, a callable or None, got "
            f"{type(address_map).__name__}"
        )
    for announced, reached in address_map.items():
        _pair(announced)
        _pair(reached)


def mapped(address_map: AddressMap | None, host: str, port: int) -> tuple[str, int]:
    """Return the host and the port by which a client reaches what was announced.

    ``address_map``: `Options.address_map`.
    ``host``: a name or an IP address, IPv6 without brackets.
    ``port``: 1 to 65535.

    What a mapping does not have, and what a callable answers by None, stays as it is. Raises
    `InvalidOption` if a callable answers what is no address, and whatever it raises itself.
    """
    if address_map is None:
        return host, port
    if isinstance(address_map, Mapping):
        found = address_map.get((host, port))
        if found is None:
            found = address_map.get(_text(host, port))
    else:
        found = address_map((host, port))
    return (host, port) if found is None else _pair(found)


def _text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _pair(place: Any) -> tuple[str, int]:
    """Return an address as host and port, the host of IPv6 without brackets."""
    found = place
    if isinstance(place, str):
        host, _, port = place.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            host = ""  # IPv6 without brackets: it is not clear where the port begins
        found = (host, int(port) if port.isascii() and port.isdigit() else 0)
    if (
        isinstance(found, tuple)
        and len(found) == 2
        and isinstance(found[0], str)
        and found[0]
        and type(found[1]) is int
        and 0 < found[1] < 65536
    ):
        return found[0], found[1]
    raise InvalidOption(
        "an address of address_map must be 'host:port' or (host, port) with a port from 1 to "
        f"65535, got {place!r:.80}"
    )
