"""What every ring is: points in order on a circle, each owning the way up to it.

A position on the circle belongs to the first point at or after it, past the end to
the first point of all. Everything that a ring answers (owner, successors, shares,
moves) is read off the same points, so that the answers agree exactly.
"""

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, pairwise
from typing import Any, ClassVar, Self

from shardcache.errors import InvalidKey, InvalidNode, InvalidOption
from shardcache.keys import Key
from shardcache.placement.node import Node

__all__ = ("Circle", "Moves", "Nodes", "encoded", "read_nodes")

Nodes = Iterable[Node | str] | Mapping[str, float]
MAX_NODES = 65535


def encoded(key: Key) -> bytes:
    """Return a key as the bytes that are placed: any str, lone surrogates too, and any bytes."""
    if isinstance(key, str):
        # The plain form is twice as fast, and ASCII has no surrogates.
        return key.encode() if key.isascii() else key.encode("utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return key
    raise InvalidKey(f"a key must be str or bytes, got {type(key).__name__}")


def read_nodes(nodes: Nodes) -> list[Node]:
    """Return the nodes in the caller's order; raise `InvalidNode` if no ring can hold them."""
    if isinstance(nodes, Mapping):
        found = [Node(name, weight) for name, weight in nodes.items()]
    elif isinstance(nodes, Iterable) and not isinstance(nodes, (str, bytes)):
        found = [node if isinstance(node, Node) else Node(node) for node in nodes]
    else:
        raise InvalidNode(
            "nodes must be an iterable of Node or str, or a mapping of name to weight, got "
            f"{nodes!r:.80}"
        )
    if not 1 <= len(found) <= MAX_NODES:
        raise InvalidNode(f"a ring takes 1 to {MAX_NODES} nodes, got {len(found)}")
    name, times = Counter(node.name for node in found).most_common(1)[0]
    if times > 1:
        raise InvalidNode(f"nodes must have different names, got {name!r} {times} times")
    return found


class Moves(Mapping[tuple[str, str], float]):
    """The shares of the key space that change owner, as ``{(from, to): share}``.

    A share is a fraction of 1, exact (a whole number of positions over a power of two), and above
    0.
    """

    __slots__ = ("_shares",)

    def __init__(self, shares: Mapping[tuple[str, str], float]) -> None:
        self._shares = dict(sorted(shares.items()))

    @property
    def total(self) -> float:
        """The share of all keys whose owner changes, from 0 to 1."""
        return sum(self._shares.values(), 0.0)

    def __getitem__(self, pair: tuple[str, str]) -> float:
        return self._shares[pair]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._shares)

    def __len__(self) -> int:
        return len(self._shares)

    def __str__(self) -> str:
        flows = "".join(
            f"\n  {source} -> {target}: {share:.2%}" for (source, target), share in self.items()
        )
        return f"{self.total:.2%} of the keys change hands{flows}"

    def __repr__(self) -> str:
        return f"Moves({self._shares!r})"


class Circle(ABC):
    """A ring of points: immutable, hashable, and equal to another with the same nodes and settings.

    It can be copied, pickled and shared by threads. ``nodes`` are its nodes in the order that the
    indexes of `owner_index` count in, ``names`` their names.
    """

    __slots__ = ("__weakref__", "_ends", "_seq", "names", "nodes")

    size: ClassVar[int]
    """How many positions the circle has: the unit of shares."""

    nodes: tuple[Node, ...]
    names: tuple[str, ...]
    _ends: "array[int]"
    # One longer than _ends: behind the last point comes the first again.
    _seq: "array[int]"

    @abstractmethod
    def _position(self, raw: bytes) -> int:
        """Return the place of an encoded key on the circle, from 0 to ``size`` - 1."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """Return the keyword arguments that make a ring like this of other nodes."""

    @abstractmethod
    def owner_index(self, wire_key: bytes, /) -> int:
        """Return the index into ``nodes`` of the owner of an encoded key.

        ``wire_key``: the key as bytes, with its namespace.
        """

    @abstractmethod
    def owner_indexes(self, wire_keys: list[bytes], /) -> list[int]:
        """Return `owner_index` of every key, in order, at a fraction of the cost.

        ``wire_keys``: the keys as bytes, with their namespace.
        """

    def _freeze(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def owner(self, key: Key) -> str:
        """Return the name of the node that owns a key.

        ``key``: str or bytes, without a namespace unless it is part of the key.

        Raises `InvalidKey` if ``key`` is neither str nor bytes.
        """
        return self.names[self.owner_index(encoded(key))]

    def owners(self, key: Key, n: int) -> tuple[str, ...]:
        """Return distinct nodes clockwise from a key: its owner, then the nodes that follow.

        ``key``: as for `owner`.
        ``n``: how many at most, from 1; if there are fewer, all nodes that own any keys.

        The second would own the key if the first left, and so on. Raises `InvalidOption` for an
        ``n`` below 1.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise InvalidOption(f"n must be a whole number from 1, got {n!r}")
        wanted = min(n, len(self.nodes))
        start = bisect_left(self._ends, self._position(encoded(key)))
        found: dict[int, None] = {}
        for at in chain(range(start, len(self._ends)), range(start)):
            found[self._seq[at]] = None
            if len(found) == wanted:
                break
        return tuple(self.names[index] for index in found)

    def shares(self) -> dict[str, float]:
        """Return the exact share of the key space that each node owns; together 1."""
        owned = Counter(dict.fromkeys(range(len(self.nodes)), 0))
        for index, (before, end) in zip(
            self._seq, pairwise((self._ends[-1] - self.size, *self._ends)), strict=False
        ):
            owned[index] += end - before
        return {name: owned[index] / self.size for index, name in enumerate(self.names)}

    def moved(self, other: Self) -> Moves:
        """Return the shares of the key space that change owner from this ring to another.

        ``other``: the other ring.

        Raises `InvalidOption` if ``other`` hashes keys in another way, since they cannot be
        compared then.
        """
        if not isinstance(other, Circle) or not self._hashes_like(other):
            raise InvalidOption(
                f"expected another {type(self).__name__} that hashes keys alike, got {other!r:.200}"
            )
        cuts = sorted({*self._ends, *other._ends})
        widths: Counter[tuple[str, str]] = Counter()
        for before, end in pairwise((cuts[-1] - self.size, *cuts)):
            source = self.names[self._seq[bisect_left(self._ends, end)]]
            target = other.names[other._seq[bisect_left(other._ends, end)]]
            if source != target:
                widths[source, target] += end - before
        return Moves({pair: width / self.size for pair, width in widths.items()})

    def _hashes_like(self, other: "Circle") -> bool:
        return type(self) is type(other)

    def with_node(self, node: Node | str, *, weight: float | None = None) -> Self:
        """Return a ring with one more node, or with another one in place of the one of that name.

        ``node``: a `Node`, or a name. A name that is on the ring already keeps its address.
        ``weight``: the node's weight, above 0 and at most 1000; None (the default) keeps the one
            that it has, or 1.

        Raises `InvalidNode` for anything else.
        """
        known = {one.name: one for one in self.nodes}
        if isinstance(node, str):
            node = known.get(node) or Node(node)
        elif not isinstance(node, Node):
            raise InvalidNode(f"a node must be a Node or a name, got {node!r:.200}")
        known[node.name] = node if weight is None else replace(node, weight=weight)
        return type(self)(known.values(), **self._settings())

    def without_node(self, name: str) -> Self:
        """Return a ring without one of the nodes.

        ``name``: the name of the node.

        Raises `InvalidNode` if there is no such node, or if it is the last.
        """
        if name not in self.names:
            raise InvalidNode(
                f"no node is called {name!r:.200}; there are "
                f"{', '.join(map(repr, self.names)):.200}"
            )
        return type(self)([node for node in self.nodes if node.name != name], **self._settings())

    def __init__(self, nodes: Nodes, **settings: Any) -> None:
        raise NotImplementedError

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"a {type(self).__name__} cannot be changed; with_node and without_node make another"
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(
            f"a {type(self).__name__} cannot be changed; with_node and without_node make another"
        )

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, Circle):
            return NotImplemented
        return self.nodes == other.nodes and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.nodes, *self._settings().items()))

    def __len__(self) -> int:
        return len(self.nodes)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # The points follow from the names: nothing else travels, and what arrives is this version's
        # answer.
        return _rebuild, (type(self), self.nodes, self._settings())

    def __repr__(self) -> str:
        settings = "".join(f", {name}={value!r}" for name, value in self._settings().items())
        return f"{type(self).__name__}([{', '.join(map(repr, self.nodes))}]{settings})"


def _rebuild(ring: type[Circle], nodes: tuple[Node, ...], settings: dict[str, Any]) -> Circle:
    return ring(nodes, **settings)
