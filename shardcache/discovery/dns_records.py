"""Nodes out of DNS: addresses (A or AAAA), or services (SRV).

Theory
------
DNS answers in any order, so an answer is a set. It is asked for one family of addresses at a time,
and one question may fail while the other does not. So only one family is asked for: else a lost
packet would make other nodes out of the same servers, and a server with two addresses would be two
nodes, with two votes on a lock.

An SRV record (RFC 2782) has a host, a port, a priority and a weight. Host and port are the name of
the node, as they are for a URL without a name, so the address behind it may change without a key
moving. Only records of the first priority count: the others stand in for these. Weights count
relative to the smallest, and not at all if they are equal, because some servers (CoreDNS) give
percentages, and these change for all nodes with each node that comes or goes.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from shardcache.discovery.host_addresses import HostAddresses
from shardcache.discovery.name_server import NameServer
from shardcache.discovery.url_template import URLTemplate
from shardcache.errors import DiscoveryFailed, InvalidArgument, InvalidOption, InvalidURL
from shardcache.placement.node import Node
from shardcache.urls import parse_url

__all__ = ("AddressRecords", "ServiceRecords", "nodes_from_dns", "relative_weights")

_SERVICE = re.compile(r"_[^.]+\._[^.]+\.")


def nodes_from_dns(
    name: str,
    port: int | None = None,
    *,
    ipv6: bool = False,
    nameserver: str | None = None,
    timeout: float = 5.0,
) -> "AddressRecords | ServiceRecords":
    """Return a source for ``nodes=``: the nodes that a name stands for in DNS.

    ``name``: a host name, each address of which is a node, called by address and port; or a service
        name such as ``_redis._tcp.redis.svc``, each SRV record of which is a node, called by host
        and port. Or a URL with such a name as its host: then scheme, login, database and settings
        of TLS are those of the URL. Nodes are called ``host:port/db``, as URLs without ``name``.
    ``port``: the port of every node, 1 to 65535; None: 6379, or what the URL or the records say.
    ``ipv6``: ask for AAAA records instead of A. Default: False.
    ``nameserver``: the IP address of the DNS server to ask, perhaps with a port, as in
        "127.0.0.1:8600"; None (the default): as the system is set up.
    ``timeout``: seconds that one question to DNS may take, 0.1 to 60. Default: 5. For addresses
        without ``nameserver`` the system has limits of its own.

    A name that is not there, an answer without records, or none leaves the last good nodes in
    service. Where a DNS server gives only some of the addresses of a name, use SRV records or a
    file. SRV records and ``nameserver`` need the extra ``dns`` (dnspython). Raises `InvalidURL` or
    `InvalidOption`.
    """
    _check(name, port, timeout)
    if port is not None and ":" in name:
        raise InvalidURL("the port stands in the URL or in port=, not in both")
    template = URLTemplate(name if port is None else f"{name}:{port}")
    server = None if nameserver is None else NameServer(nameserver, timeout)
    hosts = HostAddresses(ipv6=ipv6, server=server)
    if not _SERVICE.match(template.address.host):
        return AddressRecords(template, hosts)
    # The records say what else there is to say of a node.
    if port is not None:
        raise InvalidOption("SRV records have ports of their own: leave out port=")
    if "weight" in template.query:
        raise InvalidURL("SRV records have weights of their own: leave out weight")
    return ServiceRecords(template, server or NameServer(None, timeout), hosts if server else None)


def _check(name: object, port: object, timeout: object) -> None:
    if not isinstance(name, str) or not name:
        raise InvalidURL(f"a name in DNS must be a non-empty str, got {type(name).__name__}")
    if port is not None and (
        isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536
    ):
        raise InvalidOption(f"port must be a whole number from 1 to 65535, got {port!r:.80}")
    if (
        isinstance(timeout, bool)
        or not isinstance(timeout, (int, float))
        or not 0.1 <= timeout <= 60
    ):
        raise InvalidOption(f"timeout must be a number from 0.1 to 60, got {timeout!r:.80}")


class AddressRecords:
    """Each address of a host name is a node; see `nodes_from_dns`.

    ``template``: a URL with the name.
    ``hosts``: looks it up.
    """

    __slots__ = ("_hosts", "_template", "shown")

    def __init__(self, template: URLTemplate, hosts: HostAddresses) -> None:
        self._hosts = hosts
        self._template = template
        self.shown = f"nodes_from_dns({template.address.host!r})"

    def __repr__(self) -> str:
        return self.shown

    def __call__(self) -> list[Node]:
        host, port = self._template.address.host, self._template.address.port
        found = self._hosts.of(host)
        if not found:
            raise DiscoveryFailed(self.shown, "there is no such name, or it has no addresses")
        return [self._template.node(one, port) for one in found]


class _Service(NamedTuple):
    """What counts of an SRV record."""

    host: str
    port: int
    weight: int


class ServiceRecords:
    """Each SRV record of a service name is a node; see `nodes_from_dns`.

    ``template``: a URL with the name.
    ``server``: who knows the records.
    ``hosts``: looks up their hosts; None: whoever connects to them does.
    """

    __slots__ = ("_hosts", "_server", "_template", "shown")

    def __init__(
        self, template: URLTemplate, server: NameServer, hosts: HostAddresses | None
    ) -> None:
        self._hosts = hosts
        self._server = server
        self._template = template
        self.shown = f"nodes_from_dns({template.address.host!r})"

    def __repr__(self) -> str:
        return self.shown

    def __call__(self) -> list[Node]:
        services = self._services()
        weights = relative_weights([one.weight for one in services])
        return [
            self._template.node(self._place(one.host), one.port, weight=weight, called=one.host)
            for one, weight in zip(services, weights, strict=True)
        ]

    def _services(self) -> list[_Service]:
        """Return the records that count, sorted."""
        records = self._server.ask(self._template.address.host, "SRV")
        first = min((record.priority for record in records), default=0)
        # A record that comes twice, perhaps with another weight, is one node, with the greater one.
        found = {}
        for record in sorted(records, key=lambda record: record.weight):
            host = record.target.to_text(omit_final_dot=True).lower()
            if record.priority == first and host != ".":  # the root: no such service (RFC 2782)
                self._check(host, record.port)
                found[host, record.port] = _Service(host, record.port, record.weight)
        if not found:
            raise DiscoveryFailed(self.shown, "there is no such name, or it has no SRV records")
        return sorted(found.values())

    def _check(self, host: str, port: int) -> None:
        try:
            parse_url(f"redis://{host}:{port}")
        except InvalidArgument:
            raise DiscoveryFailed(
                self.shown, f"its SRV records name {host!r:.100}, port {port}, where no server is"
            ) from None

    def _place(self, host: str) -> str:
        """Return where to connect to: an address, if the system does not know the host."""
        found = self._hosts.of(host) if self._hosts is not None else []
        return found[0] if found else host


def relative_weights(weights: Sequence[int]) -> list[float]:
    """Return weights relative to the smallest above 0, to one decimal; 0 counts as that.

    ``weights``: of SRV records, 0 to 65535.
    """
    smallest = min((weight for weight in weights if weight), default=1)
    return [round(max(weight, smallest) / smallest, 1) for weight in weights]
