"""What the members of a Redis Cluster say about it: CLUSTER SHARDS and CLUSTER SLOTS as a map.

Redis 7 on and Valkey know both commands, older servers the second only. SHARDS tells more (health,
offset, both ports), and SLOTS is right where SHARDS of Redis 7 is not (redis #13414: no slots for a
shard whose first node has failed). A reply is read whole or refused whole.

Which address a node has, by what is announced as its *endpoint*
(https://redis.io/docs/latest/commands/cluster-slots/):

==================  ===========================================================================
endpoint            address
==================  ===========================================================================
a host or an IP     that
null                the host that was asked (``cluster-preferred-endpoint-type unknown-endpoint``)
``?``               the announced IP if there is one, else the host that was asked (the node has
                    no host name, although the type is ``hostname``)
empty               the address that was asked if the node itself was asked, else its host (the
                    node has not met others yet)
==================  ===========================================================================

With TLS it is the TLS port. A Redis up to 7.0 without ``tls-cluster`` announces plain ports only.
In SHARDS that shows, and then the distance between the two ports of the node that was asked is
taken for that of all nodes. Where it is another, an address map must tell.
"""

import re
from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

from shardcache.address_map import AddressMap, mapped
from shardcache.resp import Reply
from shardcache.topology.cluster_map import (
    ClusterMap,
    ClusterNode,
    ClusterShard,
    Health,
    SlotRange,
)

__all__ = ("Asked", "parse_epoch", "parse_shards", "parse_slots")

_HOST = re.compile(rb"[A-Za-z0-9_.:%~-]{1,255}")
_ID = re.compile(rb"[!-~]{1,128}")
_EPOCH = re.compile(rb"^cluster_current_epoch:(\d{1,20})\r?$", re.MULTILINE)
_HEALTH: dict[bytes, Health] = {b"online": "online", b"fail": "fail", b"failed": "fail"}
_PRIMARY, _REPLICA = (b"master", b"primary"), (b"replica", b"slave")


class Asked(NamedTuple):
    """The member that gave a reply.

    ``host``, ``port``: the address by which it was reached.
    ``tls``: whether that was by TLS.
    ``id``: its own node id; empty if unknown.
    """

    host: str
    port: int
    tls: bool = False
    id: str = ""


class _Announced(NamedTuple):
    """What a reply says about one node. ``endpoint`` and ``ip``: as they came; ``hosts``: all."""

    id: str
    endpoint: bytes | None
    ip: bytes
    hosts: frozenset[str]
    port: int  # the plain one, or the one that CLUSTER SLOTS has; 0: none
    tls_port: int = 0
    primary: bool = True
    health: Health = "online"
    offset: int | None = None

    def node(self, asked: Asked, address_map: AddressMap | None, distance: int) -> ClusterNode:
        """Return the node with the address to connect to.

        ``distance``: from the plain port of a node to its TLS port, where only the former is told.
        """
        if asked.tls:
            port = self.tls_port or self.port + distance
        else:
            port = self.port or self.tls_port
        if not 0 < port < 65536:
            raise ValueError(f"node {self.id} has no port to connect to")
        if self.endpoint == b"" and self.id == asked.id:
            host, port = asked.host, asked.port
        else:
            endpoint = self.ip if self.endpoint == b"?" else self.endpoint
            host = endpoint.decode().lower() if endpoint else asked.host
            host, port = mapped(address_map, host, port)
        ports = {one for one in (self.port, self.tls_port) if one}
        return ClusterNode(
            self.id or f"{host}:{port}",
            host,
            port,
            self.health,
            frozenset((name, one) for name in self.hosts for one in ports),
            self.offset,
        )


def parse_shards(
    reply: Reply, asked: Asked, address_map: AddressMap | None = None, epoch: int = 0
) -> ClusterMap:
    """Return the map that a reply to CLUSTER SHARDS describes, of RESP2 or RESP3.

    Raises ValueError, with what is wrong, if it is none; `InvalidOption` as `mapped` does.

    ``asked``: the member that gave it.
    ``address_map``: as in `Options`, applied to each announced address.
    ``epoch``: that of the map, as `parse_epoch` returns it.
    """
    shards = [_shard(shard) for shard in _list(reply, "CLUSTER SHARDS")]
    distance = 0
    if asked.tls and address_map is None:
        distance = _distance(chain.from_iterable(nodes for nodes, _ in shards), asked)
    found: list[ClusterShard] = []
    for nodes, ranges in shards:
        # A node without a port cannot be reached, and only a primary with slots has to be.
        primary = _primary(nodes, ranges)
        there = [
            (one, one.node(asked, address_map, distance))
            for one in nodes
            if one.port or one.tls_port or (ranges and one is primary)
        ]
        # Members beside the primary and its replicas serve nothing: failed primaries, for example.
        mine = next((node for one, node in there if one is primary), None)
        if mine is not None:
            replicas = [node for one, node in there if not one.primary]
            found.append(ClusterShard(mine, replicas, ranges))
        found += [
            ClusterShard(node)
            for one, node in there
            if node is not mine and (one.primary or mine is None)
        ]
    return ClusterMap.of(found, epoch)


def parse_slots(
    reply: Reply, asked: Asked, address_map: AddressMap | None = None, epoch: int = 0
) -> ClusterMap:
    """Return the map that a reply to CLUSTER SLOTS describes: as `parse_shards`."""
    by_primary: dict[str, tuple[ClusterNode, dict[str, ClusterNode], list[SlotRange]]] = {}
    known: dict[str, tuple[ClusterNode, bool]] = {}
    for entry in _list(reply, "CLUSTER SLOTS"):
        first, last, *listed = _list(entry, "a range of slots", at_least=3)
        nodes = [_listed(node).node(asked, address_map, 0) for node in listed]
        for node in nodes:
            one = node, node is nodes[0]
            if known.setdefault(node.id, one) != one:
                raise ValueError(f"node {node.id} has two addresses, or two roles")
        _, replicas, ranges = by_primary.setdefault(nodes[0].id, (nodes[0], {}, []))
        ranges.append((_number(first, "a slot"), _number(last, "a slot")))
        replicas.update((node.id, node) for node in nodes[1:])
    return ClusterMap.of(
        (
            ClusterShard(primary, list(replicas.values()), ranges)
            for primary, replicas, ranges in by_primary.values()
        ),
        epoch,
    )


def parse_epoch(reply: Reply) -> int:
    """Return the current epoch that a reply to CLUSTER INFO tells; 0 if it tells none."""
    found = _EPOCH.search(reply) if isinstance(reply, bytes) else None
    return int(found[1]) if found else 0


def _primary(nodes: Iterable[_Announced], ranges: list[SlotRange]) -> _Announced | None:
    """Return the primary of a shard; None if it has none and serves no slots.

    After a failover a shard may have two for a while: the failed one is still called so.
    """
    primaries = [node for node in nodes if node.primary]
    if len(primaries) > 1:
        primaries = [node for node in primaries if node.health == "online"]
    if len(primaries) == 1:
        return primaries[0]
    if ranges:
        raise ValueError(
            f"the slots {ranges[0][0]} to {ranges[0][1]} belong to a shard with {len(primaries)} "
            "primaries"
        )
    return None


def _shard(shard: Reply) -> tuple[list[_Announced], list[SlotRange]]:
    """Read a shard of CLUSTER SHARDS: its nodes, and its slots."""
    fields = _fields(shard, "a shard")
    slots = _list(fields.get(b"slots"), "the slots of a shard")
    if len(slots) % 2:
        raise ValueError("the slots of a shard are no pairs")
    numbers = [_number(slot, "a slot") for slot in slots]
    return (
        [_described(node) for node in _list(fields.get(b"nodes"), "the nodes of a shard")],
        list(zip(numbers[::2], numbers[1::2], strict=True)),
    )


def _distance(nodes: Iterable[_Announced], asked: Asked) -> int:
    """Return how far the TLS port of the asked node is from the plain one, if it tells this one."""
    return next(
        (
            asked.port - node.port
            for node in nodes
            if node.id == asked.id and node.port and not node.tls_port
        ),
        0,
    )


def _described(node: Reply) -> _Announced:
    """Read a node of CLUSTER SHARDS."""
    fields = _fields(node, "a node")
    role, health, offset = (fields.get(one) for one in (b"role", b"health", b"replication-offset"))
    if role not in (*_PRIMARY, *_REPLICA):
        raise ValueError(f"the role of a node is {role!r:.40}")
    ip = _host(fields.get(b"ip"), "ip") or b""
    endpoint = _host(fields.get(b"endpoint", ip), "endpoint")
    hosts = (ip, endpoint, _host(fields.get(b"hostname"), "hostname"))
    return _Announced(
        _id(fields.get(b"id")),
        endpoint,
        ip,
        _named(hosts),
        _port(fields.get(b"port", 0)),
        _port(fields.get(b"tls-port", 0)),
        role in _PRIMARY,
        _HEALTH.get(health, "loading") if isinstance(health, bytes) else "loading",
        offset if offset.__class__ is int else None,
    )


def _listed(node: Reply) -> _Announced:
    """Read a node of CLUSTER SLOTS: endpoint, port, id (from Redis 4), other hosts (from 7)."""
    endpoint, port, *rest = _list(node, "a node", at_least=2)
    more = _fields(rest[1], "what is told of a node") if len(rest) > 1 else {}
    endpoint = _host(endpoint, "endpoint")
    ip = _host(more.get(b"ip"), "ip") or b""
    hosts = (ip, endpoint, _host(more.get(b"hostname"), "hostname"))
    return _Announced(_id(rest[0]) if rest else "", endpoint, ip, _named(hosts), _port(port))


def _named(hosts: Iterable[bytes | None]) -> frozenset[str]:
    return frozenset(host.decode().lower() for host in hosts if host and host != b"?")


def _list(value: Reply, what: str, at_least: int = 0) -> list[Any]:
    if not isinstance(value, list) or len(value) < at_least:
        raise ValueError(f"{what} should be a list, got {value!r:.40}")
    return value


def _fields(value: Reply, what: str) -> dict[Any, Any]:
    """Return names and values: a map of RESP3, or a flat list of RESP2."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and not len(value) % 2:
        names = value[::2]
        if all(isinstance(name, bytes) for name in names):
            return dict(zip(names, value[1::2], strict=True))
    raise ValueError(f"{what} should be names with values, got {value!r:.40}")


def _number(value: Reply, what: str) -> int:
    if value.__class__ is not int:
        raise ValueError(f"{what} should be a number, got {value!r:.40}")
    number: int = value
    return number


def _port(value: Reply) -> int:
    """Return a port; 0: the node does not listen there."""
    port = _number(value, "a port")
    if not 0 <= port < 65536:
        raise ValueError(f"a port should be from 1 to 65535, got {port!r:.40}")
    return port


def _host(value: Reply, what: str) -> bytes | None:
    """Return a host, or ``?``, or nothing, as they came."""
    if value is None or value in (b"", b"?"):
        nothing: bytes | None = value
        return nothing
    if not isinstance(value, bytes) or not _HOST.fullmatch(value):
        raise ValueError(f"the {what} of a node is {value!r:.40}")
    return value


def _id(value: Reply) -> str:
    if not isinstance(value, bytes) or not _ID.fullmatch(value):
        raise ValueError(f"the id of a node is {value!r:.40}")
    return value.decode()
