"""Which shards there are: what a caller may give as nodes, resolved to names, weights and addresses."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from shardcache.errors import InvalidNode, InvalidOption, InvalidURL
from shardcache.options import TLS
from shardcache.placement.node import Node
from shardcache.settings import FLAGS, TLS_SETTINGS, unknown_setting
from shardcache.urls import Address, ParsedURL, parse_many, parse_url

__all__ = ("Member", "Nodes", "members")

Nodes = str | Iterable["str | Node | ParsedURL"] | Mapping[str, str]


class Member(NamedTuple):
    """One shard: its place on the ring and its address. ``tls`` is set where its URL said something of it."""

    node: Node
    address: Address
    tls: TLS | None


def members(nodes: Nodes) -> list[Member]:
    """Resolve ``nodes``: URLs in one text or a list, a mapping of names to URLs, or `Node` objects with URLs."""
    given = _given(nodes)
    if not given:
        raise InvalidNode("at least one node is needed, got none")
    found = [_member(*one) for one in given]
    places: dict[str, int] = {}
    for at, ((name, url, _), member) in enumerate(zip(given, found, strict=True)):
        first = places.setdefault(member.node.name, at)
        if first != at:
            # A host may be part of a login that was not escaped.
            named = repr(member.node.name) if name is not None or url.quotable else "one name"
            raise InvalidNode(
                f"every node needs a name of its own, got {named} more than once (nodes {first + 1} and {at + 1})"
            )
    return found


def _given(nodes: Nodes) -> list[tuple[str | None, ParsedURL, float]]:
    """Return for each node the name that it was given beside its URL, the URL, and the weight beside it."""
    if isinstance(nodes, str):
        return [(None, url, 1.0) for url in parse_many(nodes)]
    if isinstance(nodes, Mapping):
        return [(_name(name), _one(name, url), 1.0) for name, url in nodes.items()]
    if not isinstance(nodes, Iterable) or isinstance(nodes, (bytes, bytearray)):
        raise InvalidNode(f"nodes must be URLs, a mapping of names to URLs, or Nodes, got {type(nodes).__name__}")
    found: list[tuple[str | None, ParsedURL, float]] = []
    for node in nodes:
        if isinstance(node, Node):
            if node.url is None:
                raise InvalidNode(f"node {node.name!r} has no url, which a cache client needs")
            found.append((node.name, _one(node.name, node.url), node.weight))
        elif isinstance(node, ParsedURL):
            found.append((None, node, 1.0))
        elif isinstance(node, str):
            found.extend((None, url, 1.0) for url in parse_many(node))
        else:
            raise InvalidNode(f"a node must be a URL or a Node, got {type(node).__name__}")
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
    where = f"node {name!r}" if name else url.shown
    named = query.pop("name", None)
    if named is not None and name is not None and named != name:
        raise InvalidNode(f"node {name!r} has another name in its URL: {url.quote(named)}")
    if named == "":
        raise InvalidNode(f"{where} has an empty name in its URL")
    heavy = query.pop("weight", None)
    if heavy is not None:
        weight = _weight(heavy)
        if not math.isfinite(weight):
            raise InvalidNode(f"{where}: weight must be a number, got {url.quote(heavy)}")
    tls = _tls(query, url)
    if tls is not None and not address.tls:
        raise InvalidURL(f"the URL of {where} has ssl_ settings but is not rediss://")
    for setting in query:
        raise unknown_setting(setting, url, whole_client=False)
    scheme = "unix" if address.path else "rediss" if address.tls else "redis"
    return Member(Node(name or named or address.label, weight, f"{scheme}://{address.label}"), address, tls)


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _tls(query: dict[str, str], url: ParsedURL) -> TLS | None:
    """Return what redis-py's own query settings say about TLS, if anything; take it out of ``query``."""
    said = {name: query.pop(name) for name in TLS_SETTINGS if name in query}
    if not said:
        return None
    verify = said.get("ssl_cert_reqs", "required").lower()
    if verify not in ("required", "none"):
        raise InvalidURL(f"ssl_cert_reqs must be 'required' or 'none', got {url.quote(verify)}")
    hostname = said.get("ssl_check_hostname", "true").lower()
    if hostname not in FLAGS:
        raise InvalidURL(f"ssl_check_hostname must be 'true' or 'false', got {url.quote(hostname)}")
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        if name in said and not Path(said[name]).is_file():
            raise InvalidOption(f"{name} must be the path of a PEM file, there is none at {url.quote(said[name])}")
    return TLS(
        ca_file=said.get("ssl_ca_certs"),
        cert_file=said.get("ssl_certfile"),
        key_file=said.get("ssl_keyfile"),
        verify=verify == "required",
        check_hostname=FLAGS[hostname],
    )
