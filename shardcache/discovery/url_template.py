"""A URL in which other hosts are put in the place of its own."""

import re
from dataclasses import replace
from ipaddress import ip_address

from shardcache.errors import InvalidURL
from shardcache.placement.node import Node
from shardcache.urls import parse_url

__all__ = ("URLTemplate",)

_TAIL = re.compile(r"[/?].*|$", re.DOTALL)


class URLTemplate:
    """The URL of one server, whose host is a name in DNS.

    ``text``: the URL, with login, database and settings, or a host name.

    Raises `InvalidURL`.
    """

    __slots__ = ("_head", "_tail", "address", "query")

    def __init__(self, text: str) -> None:
        text = text.strip()
        found = parse_url(text if "://" in text or ":" in text else f"redis://{text}")
        self.address, self.query = found.address, found.query
        if found.address.path or _is_address(found.address.host):
            raise InvalidURL("a name in DNS is expected, got an IP address or a Unix socket")
        if "name" in self.query:
            raise InvalidURL("the nodes get their names from DNS: leave out name")
        # `parse_url` has seen to it that an "@" stands nowhere but behind a login.
        scheme, _, rest = text.rpartition("://")
        login, at, rest = rest.rpartition("@")
        self._head = f"{scheme or 'redis'}://{login}{at}"
        self._tail = "".join(_TAIL.findall(rest)[:1])

    def node(self, host: str, port: int, *, weight: float = 1.0, called: str = "") -> Node:
        """Return a node at another host and port.

        ``called``: the host by which it is named; empty: the same host.
        """
        place = replace(self.address, host=called or host, port=port)
        where = f"[{host}]" if ":" in host else host
        return Node(place.label, weight, f"{self._head}{where}:{port}{self._tail}")


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
