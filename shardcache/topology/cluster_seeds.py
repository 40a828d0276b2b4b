"""Some nodes of a Redis Cluster, which are asked for the others: ``redis+cluster://h1:6379,h2``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from shardcache.errors import InvalidURL
from shardcache.options import TLS
from shardcache.placement.node import Node
from shardcache.topology.nodes import Member, tls_of
from shardcache.url_options import unknown_setting
from shardcache.urls import Address, ParsedURL

__all__ = ("ClusterSeeds",)


@dataclass(frozen=True, slots=True)
class ClusterSeeds:
    """The nodes that a client of a cluster asks first, and how all nodes are reached.

    ``addresses``: of the seeds, in the order of the URL; all have the same login and TLS.
    ``tls``: how certificates are checked, where the URL says so; None: as the client's `Options`.
    """

    addresses: tuple[Address, ...]
    tls: TLS | None = None

    @classmethod
    def of(cls, urls: Sequence[ParsedURL]) -> Self:
        """Return the seeds that one ``redis+cluster://`` URL names.

        ``urls``: what `parse_many` or `read_url` made of it.

        Raises `InvalidURL` for a setting that is not for a cluster, or for several logins.
        """
        first = urls[0]
        addresses = tuple(dict.fromkeys(url.address for url in urls))
        if len({(one.username, one.password) for one in addresses}) > 1:
            raise InvalidURL(
                f"{first.which} gives the nodes of one cluster several logins; one, before the "
                "first host, is that of all nodes"
            )
        query = dict(first.query)
        tls = tls_of(query, first)
        if tls is not None and not addresses[0].tls:
            raise InvalidURL(f"{first.which} has ssl_ settings but is not rediss+cluster://")
        for setting in query:
            raise unknown_setting(setting, first, whole_client=False)
        return cls(addresses, tls)

    def node(self, host: str, port: int) -> Address:
        """Return the address of a node that the cluster has announced, with the seeds' login.

        ``host``: a name or an IP address, IPv6 without brackets.
        ``port``: of commands, 1 to 65535.
        """
        return replace(self.addresses[0], host=host, port=port)

    def member(self, host: str, port: int) -> Member:
        """Return a node that the cluster has announced; its name is ``host:port``."""
        address = self.node(host, port)
        name = address.label.rpartition("/")[0]
        scheme = "rediss" if address.tls else "redis"
        return Member(
            Node(name, 1.0, f"{scheme}://{name}"), address, self.tls, named=False, kind="cluster"
        )
