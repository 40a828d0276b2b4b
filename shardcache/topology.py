"""Which shards there are: what a caller may give as nodes, resolved to names, weights and addresses."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from shardcache.errors import InvalidNode, InvalidURL
from shardcache.options import TLS
from shardcache.placement.node import Node
from shardcache.urls import Address, ParsedURL, parse_many, parse_url, redact

__all__ = ("Member", "Nodes", "members")

Nodes = str | Iterable["str | Node | ParsedURL"] | Mapping[str, str]

_TLS_QUERY = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")


class Member(NamedTuple):
    """One shard: its place on the ring and its address. ``tls`` is set where its URL said something of it."""

    node: Node
    address: Address
    tls: TLS | None


def members(nodes: Nodes) -> list[Member]:
    """Resolve ``nodes``: URLs in one text or a list, a mapping of names to URLs, or `Node` objects with URLs."""
    found: list[Member] = []
    if isinstance(nodes, str):
        found = [_member(None, url, 1.0) for url in parse_many(nodes)]
    elif isinstance(nodes, Mapping):
        found = [_member(_name(name), _one(name, url), 1.0) for name, url in nodes.items()]
    elif isinstance(nodes, Iterable) and not isinstance(nodes, (bytes, bytearray)):
        for node in nodes:
            if isinstance(node, Node):
                if node.url is None:
                    raise InvalidNode(f"node {node.name!r} has no url, which a cache client needs")
                found.append(_member(node.name, _one(node.name, node.url), node.weight))
            elif isinstance(node, ParsedURL):
                found.append(_member(None, node, 1.0))
            elif isinstance(node, str):
                found.extend(_member(None, url, 1.0) for url in parse_many(node))
            else:
                raise InvalidNode(f"a node must be a URL or a Node, got {type(node).__name__}")
    else:
        raise InvalidNode(f"nodes must be URLs, a mapping of names to URLs, or Nodes, got {type(nodes).__name__}")
    if not found:
        raise InvalidNode("at least one node is needed, got none")
    names = [member.node.name for member in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidNode(f"every node needs a name of its own, got {', '.join(map(repr, twice))} more than once")
    return found


def _name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidNode(f"a node's name must be a non-empty str, got {name!r}")
    return name


def _one(name: str, url: str) -> ParsedURL:
    if not isinstance(url, str):
        raise InvalidURL(f"node {name!r}: its URL must be a str, got {type(url).__name__}")
    return parse_url(url)


def _member(name: str | None, url: ParsedURL, weight: float) -> Member:
    address, query = url.address, dict(url.query)
    named = query.pop("name", None)
    if named is not None and name is not None and named != name:
        raise InvalidNode(f"node {name!r} has another name in its URL: {named!r}")
    heavy = query.pop("weight", None)
    if heavy is not None:
        try:
            weight = float(heavy)
        except ValueError:
            weight = math.nan
        if not math.isfinite(weight):
            raise InvalidNode(f"node {name or named or address.label!r}: weight must be a number, got {heavy!r}")
    tls = _tls(query)
    if tls is not None and not address.tls:
        raise InvalidURL(f"the URL of {address.label!r} has ssl_ settings but is not rediss://")
    if query:
        unknown = ", ".join(sorted(query))
        raise InvalidURL(
            f"the URL of {address.label!r} has unknown settings: {unknown}; a node's URL takes name, weight, db "
            f"and {', '.join(_TLS_QUERY)}"
        )
    scheme = "unix" if address.path else "rediss" if address.tls else "redis"
    shown = redact(f"{scheme}://{address.label}")
    return Member(Node(name or named or address.label, weight, shown), address, tls)


def _tls(query: dict[str, str]) -> TLS | None:
    """Return what redis-py's own query settings say about TLS, if anything."""
    said = {name: query.pop(name) for name in _TLS_QUERY if name in query}
    if not said:
        return None
    verify = said.get("ssl_cert_reqs", "required").lower()
    if verify not in ("required", "none"):
        raise InvalidURL(f"ssl_cert_reqs must be 'required' or 'none', got {verify!r}")
    hostname = said.get("ssl_check_hostname", "true").lower()
    if hostname not in ("true", "false"):
        raise InvalidURL(f"ssl_check_hostname must be 'true' or 'false', got {hostname!r}")
    return TLS(
        ca_file=said.get("ssl_ca_certs"),
        cert_file=said.get("ssl_certfile"),
        key_file=said.get("ssl_keyfile"),
        verify=verify == "required",
        check_hostname=hostname == "true",
    )
