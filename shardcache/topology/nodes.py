"""Which shards there are: the nodes that a caller gives, as names, weights and addresses."""

import math
import sys
import warnings
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, NamedTuple

from shardcache.errors import InvalidNode, InvalidOption, InvalidURL
from shardcache.options import TLS
from shardcache.placement.node import Node
from shardcache.url_options import FLAGS, TLS_SETTINGS, unknown_setting
from shardcache.urls import Address, ParsedURL, parse_many, parse_url

__all__ = ("AddressAsNameWarning", "Member", "Nodes", "members", "tls_of", "warn_of_addresses")

Nodes = str | Iterable["str | Node | ParsedURL"] | Mapping[str, str]


class Member(NamedTuple):
    """One shard: its place on the ring and its address. ``tls`` is set where its URL says so."""

    node: Node
    address: Address
    tls: TLS | None
    named: bool  # whether it was given a name, and not called by its address
    # What its server must be.
    kind: Literal["standalone", "replica", "cluster", "cluster-reads"] = "standalone"
    replicas: tuple[Address, ...] = ()  # of an independent node, where its source names them

    def replica(self, address: Address) -> "Member":
        """Return one of its replicas, which is called by its address."""
        scheme = "rediss" if address.tls else "redis"
        node = Node(address.label, 1.0, f"{scheme}://{address.label}")
        return Member(node, address, self.tls, named=False)


def members(nodes: Nodes) -> list[Member]:
    """Resolve ``nodes``: URLs in a text or a list, a mapping of names to URLs, or `Node` s."""
    given = _given(nodes)
    if not given:
        raise InvalidNode("at least one node is needed, got none")
    _check_independent([url for _, url, _ in given])
    found = [_member(*one) for one in given]
    places: dict[str, int] = {}
    for at, ((name, url, _), member) in enumerate(zip(given, found, strict=True)):
        first = places.setdefault(member.node.name, at)
        if first != at:
            # A host may be part of a login that was not escaped.
            named = repr(member.node.name) if name is not None or url.quotable else "one name"
            raise InvalidNode(
                f"every node needs a name of its own, got {named} more than once (nodes "
                f"{first + 1} and {at + 1})"
            )
    return found


def _check_independent(urls: list[ParsedURL]) -> None:
    for url in urls:
        if url.kind:
            raise InvalidURL(
                f"{url.which} is not that of one server: redis+{url.kind}:// stands for all "
                "servers of a client, alone and not in a list or mapping"
            )


class AddressAsNameWarning(UserWarning):
    """Of several nodes some have no name: their hosts decide where keys lie, and may be renamed."""


def warn_of_addresses(found: Iterable[Member]) -> None:
    """Warn, at the line outside of the library, if a host name names one node of several.

    An IP address, a Unix socket and localhost give no warning: they are used in trials, and where
    an operator has decided for them.
    """
    found = list(found)
    unnamed = sum(not member.named and _may_change(member.address) for member in found)
    if not unnamed or len(found) < 2:
        return
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "shardcache":
        frame, level = frame.f_back, level + 1
    warnings.warn(
        f"{unnamed} of {len(found)} shards have no name of their own, so that keys are placed by "
        "their host names: if one changes, "
        'its keys are lost. Give names, as in {"a": "redis://host:6379"} or '
        "redis://host:6379?name=a (the present host:port/db "
        "as the name leaves every key where it is)",
        AddressAsNameWarning,
        stacklevel=level,
    )


def _may_change(address: Address) -> bool:
    host = address.host
    if not host or host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return True
    return False


def _given(nodes: Nodes) -> list[tuple[str | None, ParsedURL, float]]:
    """Return for each node the name given beside its URL, the URL, and the weight beside it."""
    if isinstance(nodes, str):
        return [(None, url, 1.0) for url in parse_many(nodes)]
    if isinstance(nodes, Mapping):
        return [(_name(name), _one(name, url), 1.0) for name, url in nodes.items()]
    if not isinstance(nodes, Iterable) or isinstance(nodes, (bytes, bytearray)):
        raise InvalidNode(
            f"nodes must be URLs, a mapping of names to URLs, or Nodes, got {type(nodes).__name__}"
        )
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
    tls = tls_of(query, url)
    if tls is not None and not address.tls:
        raise InvalidURL(f"{where} has ssl_ settings but is not rediss://")
    for setting in query:
        raise unknown_setting(setting, url, whole_client=False)
    scheme = "unix" if address.path else "rediss" if address.tls else "redis"
    return Member(
        Node(name or named or address.label, weight, f"{scheme}://{address.label}"),
        address,
        tls,
        bool(name or named),
    )


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def tls_of(query: dict[str, str], url: ParsedURL) -> TLS | None:
    """Return what redis-py's query settings say about TLS; take it out of ``query``."""
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
            raise InvalidOption(
                f"{name} must be the path of a PEM file, there is none at {url.quote(said[name])}"
            )
    return TLS(
        ca_file=said.get("ssl_ca_certs"),
        cert_file=said.get("ssl_certfile"),
        key_file=said.get("ssl_keyfile"),
        verify=verify == "required",
        check_hostname=FLAGS[hostname],
    )
