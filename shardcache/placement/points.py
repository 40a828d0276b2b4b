"""The points of nodes on a circle of 2³² places, and the table of who owns which slot of it.

The points of a node are the first words of the SHAKE-128 stream of its name (FIPS 202;
UTF-8), little endian, 32 bits each. A longer stream begins with the shorter one, so a
heavier node keeps all its points and gets some more; nothing else enters, so no node
knows of another (G5). They are independent and uniform: shares are true to the weights.

The circle is cut into 2²⁰ slots of 2¹² places. A slot belongs to the first point
clockwise from its start; between equal points the smaller name comes first.
"""

import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from hashlib import shake_128
from itertools import chain

__all__ = ("BITS", "SLOTS", "lay_out")

SLOTS = 2**20
BITS = 12  # of a place within its slot
_FIRST = 2.0**52  # the double of point 0 of node 0
_PART = 4096  # points that are laid out at once

# Sorting is most of the work, and CPython sorts floats twice as fast as ints of this size. The bits
# of a double 2⁵² + (point << 16 | node) are the exponent, the point and the node side by side. So a
# point is one double, and a whole ring one long int of 64-bit words, taken apart by a few masks.
_EXPONENT = struct.pack("<d", 2.0**52)[6:]


def lay_out(nodes: Sequence[tuple[str, int]]) -> tuple["array[int]", "array[int]", Sequence[int]]:
    """Return the slot and the node of every point clockwise, and the node of every slot.

    ``nodes`` are names with their number of points, in the order of their names; a node is an index
    into them, of 8 bits in the table if that is enough, else of 16.
    """
    ends, sequence = array("I"), array("H")
    pieces = _Pieces(1 if len(nodes) <= 256 else 2)
    # Part by part: the numbers of all points at once would take several times the memory of the
    # ring, and the process would keep it.
    table = bytearray()
    before = -1
    for part in _in_parts(nodes):
        slots, owners, gaps = _columns(part, before)
        before = slots[-1]
        ends += slots
        sequence += owners
        table += b"".join(map(pieces.__getitem__, gaps))
    # Behind the last point comes the first again.
    table += pieces[SLOTS - 1 - before << 16 | sequence[0]]
    return ends, sequence, bytes(table) if len(nodes) <= 256 else array("H", bytes(table))


def _in_parts(nodes: Sequence[tuple[str, int]]) -> Iterator[bytes]:
    """Yield the points of all nodes, in order and in parts, as the doubles described above."""
    # The points of each node in order, so that those of a part lie side by side.
    columns = [
        array("d", sorted(_doubles(name, index, count)))
        for index, (name, count) in enumerate(nodes)
    ]
    parts = -(-sum(map(len, columns)) // _PART)
    begins = [0] * len(columns)
    for part in range(parts):
        # The low bits of a double are a point above the number of its node.
        border = _FIRST + (2**48 * (part + 1) // parts)
        finishes = [bisect_left(column, border) for column in columns]
        rows = zip(columns, begins, finishes, strict=True)
        merged = sorted(chain.from_iterable(column[at:end] for column, at, end in rows))
        begins = finishes
        if merged:
            yield struct.pack(f"<{len(merged)}d", *merged)


def _columns(ordered: bytes, before: int) -> tuple["array[int]", "array[int]", "array[int]"]:
    """Return slot, node, and ``gap << 16 | node`` of each of some points.

    A gap is how many slots a point owns: its slot minus the one before.

    ``ordered``: the points.
    ``before``: the slot of the point before the first of them; -1 if there is none.
    """
    amount = len(ordered) // 8
    points = int.from_bytes(ordered, "little")
    owners = points & _in_each(amount, 0xFFFF)
    slots = points >> (16 + BITS) & _in_each(amount, SLOTS - 1)
    # One more than each slot, so that no difference is below 0 where no point was before.
    later = slots + _in_each(amount, 1)
    gaps = later - ((later << 64 | before + 1) & (1 << 64 * amount) - 1)
    codes = _column("Q", gaps << 16 | owners, amount)
    return _column("I", slots, amount), _column("H", owners, amount), codes


def _doubles(name: str, index: int, count: int) -> "array[float]":
    stream = shake_128(name.encode("utf-8", "surrogatepass")).digest(4 * count)
    doubles = bytearray((index.to_bytes(2, "little") + bytes(4) + _EXPONENT) * count)
    for at in range(4):
        doubles[2 + at :: 8] = stream[at::4]
    found = array("d", bytes(doubles))
    if sys.byteorder == "big":
        found.byteswap()
    return found


def _in_each(amount: int, word: int) -> int:
    return int.from_bytes(word.to_bytes(8, "little") * amount, "little")


def _column(code: str, words: int, amount: int) -> "array[int]":
    """Return the low part of each 64-bit word, as wide as ``code`` says."""
    column = array(code, words.to_bytes(8 * amount, "little"))
    if sys.byteorder == "big":
        column.byteswap()
    return column[:: 8 // column.itemsize]


class _Pieces(dict[int, bytes]):
    """The table's entries for ``gap << 16 | node``: few different ones, so each is made once."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def __missing__(self, code: int) -> bytes:
        piece = self[code] = (code & 0xFFFF).to_bytes(self._width, sys.byteorder) * (code >> 16)
        return piece
