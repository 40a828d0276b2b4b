"""The ring of twemproxy and libmemcached, so that a fleet can move over without a cold cache.

The rule (twemproxy ``src/hashkit/nc_ketama.c``, libmemcached ``hosts.cc``), with what surprises in
it:

- A server of weight w among n with W in all gets ``floor(w / W · 40 · n)`` digests of 4 points,
  reckoned in single precision, each step rounded, with 1e-10 added in double before the floor,
  which changes nothing: equal weights may get 39 digests instead of 40, and a light server none at
  all.
- Digest i is the md5 of ``name-i``; its points are its four little-endian words.
- The name is the one in the configuration, else ``host:port`` as written there, or ``host`` alone
  if the port is 11211.
- Names are cut to 85 bytes with their ``-i``, but hashed to their full length, past the end of the
  buffer: what a longer name does is undefined, so it is refused here.
- Servers are sorted by name, the shorter first, before the points are: with glibc's stable sort
  that decides between equal points.
- Points depend on the weights of all, so that any change of weights or nodes moves keys between
  bystanders too.
"""

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from hashlib import md5
from math import floor
from typing import Any

from shardcache.errors import InvalidNode, InvalidOption
from shardcache.placement.circle import Circle, Nodes, read_nodes
from shardcache.placement.key_hashes import KEY_HASHES, KeyHash
from shardcache.placement.node import Node

__all__ = ("KetamaRing",)

DIGESTS = 40  # of 4 points, per server
MAX_NAME = 85  # bytes


class KetamaRing(Circle):
    """Places keys exactly as twemproxy (``distribution: ketama``) and libmemcached (weighted) do.

    ``nodes``: as for `HashRing`, but with whole weights. A node must have the name that the proxy
        uses: the one in its configuration, else ``host:port``, or ``host`` where the port is 11211.
    ``key_hash``: the proxy's ``hash:``. Default: "fnv1a_64" as there; libmemcached's weighted
        ketama has "md5".
    ``hash_tag``: the proxy's ``hash_tag:`` of two characters, or None (the default).

    Raises `InvalidNode` for a weight that is not whole and for a name longer than 85 bytes with its
    counter, `InvalidOption` for an unknown hash or a tag that is not two characters.

    Guarantee: checked key by key against nutcracker 0.5.0 on x86-64. It moves more keys than it
    must: with unequal weights, 3.6 to 10.5 % of all keys on top of those of the node that leaves,
    and its shares are less even (160 points a node): use `HashRing` for a new fleet.

    Sources: twemproxy ``src/hashkit/nc_ketama.c``, libmemcached ``hosts.cc``.
    """

    __slots__ = ("_digest", "_tag", "hash_tag", "key_hash")

    size = 2**32
    key_hash: str
    hash_tag: str | None
    _digest: KeyHash
    _tag: tuple[bytes, bytes] | None

    def __init__(
        self, nodes: Nodes, *, key_hash: str = "fnv1a_64", hash_tag: str | None = None
    ) -> None:
        if not isinstance(key_hash, str) or key_hash not in KEY_HASHES:
            raise InvalidOption(
                f"key_hash must be one of {', '.join(KEY_HASHES)}, got {key_hash!r:.80}"
            )
        if hash_tag is not None and not (
            isinstance(hash_tag, str) and len(hash_tag) == 2 and hash_tag.isascii()
        ):
            raise InvalidOption(
                f"hash_tag must be two ASCII characters such as '{{}}', or None, got "
                f"{hash_tag!r:.80}"
            )
        # The order of the nodes is a fixed one, since it decides between points at one place.
        placed = tuple(
            sorted(read_nodes(nodes), key=lambda node: (len(_bytes(node)), _bytes(node)))
        )
        points = sorted(_points(placed))
        self._freeze(
            nodes=placed,
            names=tuple(node.name for node in placed),
            key_hash=key_hash,
            hash_tag=hash_tag,
            _digest=KEY_HASHES[key_hash],
            _tag=(hash_tag[:1].encode(), hash_tag[1:].encode()) if hash_tag else None,
            _ends=array("I", [point for point, _ in points]),
            _seq=array("H", [index for _, index in (*points, points[0])]),
        )

    def owner_index(self, wire_key: bytes, /) -> int:
        """Return the index into ``nodes`` of the owner of an encoded key.

        ``wire_key``: the key as bytes, with its namespace.
        """
        return self._seq[bisect_left(self._ends, self._position(wire_key))]

    def owner_indexes(self, wire_keys: list[bytes], /) -> list[int]:
        """Return `owner_index` of every key, in order.

        ``wire_keys``: the keys as bytes, with their namespace.
        """
        ends, seq = self._ends, self._seq
        return [seq[bisect_left(ends, position)] for position in map(self._position, wire_keys)]

    def _position(self, raw: bytes) -> int:
        if self._tag is not None:
            start = raw.find(self._tag[0])
            end = raw.find(self._tag[1], start + 1)
            # Nothing between the two is no tag: the whole key counts.
            if start >= 0 and end > start + 1:
                raw = raw[start + 1 : end]
        return self._digest(raw)

    def _settings(self) -> dict[str, Any]:
        return {"key_hash": self.key_hash, "hash_tag": self.hash_tag}

    def _hashes_like(self, other: Circle) -> bool:
        return super()._hashes_like(other) and self._settings() == other._settings()


def _points(nodes: tuple[Node, ...]) -> Iterator[tuple[int, int]]:
    """Yield every point with the index of its node."""
    for node in nodes:
        if node.weight != floor(node.weight):
            raise InvalidNode(
                f"node {node.name!r}: ketama takes whole weights only, got {node.weight!r}"
            )
    total = sum(int(node.weight) for node in nodes)
    for index, node in enumerate(nodes):
        name = _bytes(node)
        digests = _digests(int(node.weight), total, len(nodes))
        if len(b"%b-%d" % (name, max(digests - 1, 0))) > MAX_NAME:
            raise InvalidNode(
                f"node {node.name!r}: ketama takes names of up to {MAX_NAME} bytes with '-' and "
                "a counter"
            )
        for count in range(digests):
            for point in struct.unpack(
                "<4I", md5(b"%b-%d" % (name, count), usedforsecurity=False).digest()
            ):
                yield point, index


def _digests(weight: int, total: int, servers: int) -> int:
    share = _single(_single(weight) / _single(total))
    return floor(
        _single(
            _single(_single(_single(share * (4 * DIGESTS)) / 4) * _single(servers)) + 0.0000000001
        )
    )


def _single(number: float) -> float:
    """Round to single precision, as every step of the C code does."""
    rounded: float = struct.unpack("<f", struct.pack("<f", number))[0]
    return rounded


def _bytes(node: Node) -> bytes:
    return node.name.encode("utf-8", "surrogatepass")
