"""The ring: consistent hashing by virtual nodes, looked up in a table."""

from collections.abc import Sequence
from typing import Any

from mmh3 import mmh3_32_uintdigest

from shardcache.errors import InvalidNode, InvalidOption
from shardcache.per_key import hash_tag, ring_owners
from shardcache.placement.circle import Circle, Nodes, read_nodes
from shardcache.placement.points import BITS, SLOTS, lay_out

__all__ = ("HashRing",)

VNODES = 4096
MAX_VNODES = 65536
# As a number: CPython finds one in bytes ten times as fast as bytes in bytes.
BRACE = ord("{")
# A table of 2²⁰ slots cannot tell more apart, and a ring would take seconds to build.
MAX_POINTS = 2**22


class HashRing(Circle):
    """Which node owns a key: consistent hashing with virtual nodes, weights and hash tags.

    ``nodes``: `Node` objects or names, or a mapping of name to weight; their order does not matter.
    ``vnodes``: points per unit of weight, 1 to 65536: with more points shares are more even, and
        the build is slower. Default: 4096.

    Keys are any str (as UTF-8) or bytes; of a key with a ``{tag}`` only the first tag is hashed.
    Raises `InvalidNode` for no nodes, for a name twice, and for weights that add up to more than
    2²² points, `InvalidOption` for ``vnodes`` outside its range.

    Guarantees: the answer depends on names, weights and ``vnodes`` alone, in every process and
    version (``tests/vectors/ring.json``). Adding a node or weight moves keys to that node only,
    removing a node moves keys from it only (G5). A look-up is one murmur3 hash and one index into a
    table, whatever the number of nodes.

    Sources: Karger et al., "Consistent hashing and random trees" (STOC 1997); the rule, to the bit,
    is in `shardcache.placement.points`.
    """

    __slots__ = ("_table", "vnodes")

    size = SLOTS
    vnodes: int
    _table: Sequence[int]

    def __init__(self, nodes: Nodes, *, vnodes: int = VNODES) -> None:
        if isinstance(vnodes, bool) or not isinstance(vnodes, int) or not 1 <= vnodes <= MAX_VNODES:
            raise InvalidOption(
                f"vnodes must be a whole number from 1 to {MAX_VNODES}, got {vnodes!r}"
            )
        placed = tuple(sorted(read_nodes(nodes), key=lambda node: node.name))
        counts = [max(1, round(vnodes * node.weight)) for node in placed]
        if sum(counts) > MAX_POINTS:
            raise InvalidNode(
                f"{len(placed)} nodes with weights of {sum(node.weight for node in placed):g} in "
                f"all and vnodes={vnodes} "
                f"make {sum(counts)} points, allowed are {MAX_POINTS}; only the ratios of "
                "weights count, so "
                "scale them down, or lower vnodes"
            )
        names = tuple(node.name for node in placed)
        ends, owners, table = lay_out(list(zip(names, counts, strict=True)))
        owners.append(owners[0])
        self._freeze(
            nodes=placed, names=names, vnodes=vnodes, _ends=ends, _seq=owners, _table=table
        )

    def owner_index(self, wire_key: bytes, /) -> int:
        """Return the index into ``nodes`` of the owner of an encoded key.

        ``wire_key``: the key as bytes, with its namespace.
        """
        if BRACE in wire_key:
            wire_key = hash_tag(wire_key)
        return self._table[mmh3_32_uintdigest(wire_key) >> BITS]

    def owner_indexes(self, wire_keys: list[bytes], /) -> list[int]:
        """Return `owner_index` of every key, in order, at a fraction of the cost.

        ``wire_keys``: the keys as bytes, with their namespace.
        """
        return ring_owners(list(wire_keys), self._table, BITS)

    def _position(self, raw: bytes) -> int:
        return mmh3_32_uintdigest(hash_tag(raw)) >> BITS

    def _settings(self) -> dict[str, Any]:
        return {"vnodes": self.vnodes}
