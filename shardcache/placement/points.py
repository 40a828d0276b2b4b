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
from collections.abc import Sequence
from hashlib import shake_128

__all__ = ("BITS", "SLOTS", "lay_out")

SLOTS = 2**20
BITS = 12  # of a place within its slot

# Sorting is most of the work, and CPython sorts floats twice as fast as ints of this size. The bits
# of a double 2⁵² + (point << 16 | node) are the exponent, the point and the node side by side. So a
# point is one double, and a whole ring one long int of 64-bit words, taken apart by a few masks.
_EXPONENT = struct.pack("<d", 2.0**52)[6:]


def lay_out(nodes: Sequence[tuple[str, int]]) -> tuple["array[int]", "array[int]", Sequence[int]]:
    """Return the slot and the node of every point clockwise, and the node of every slot.

    ``nodes`` are names with their number of points, in the order of their names; a node is an index
    into them, of 8 bits in the table if that is enough, else of 16.
    """
    packed = b"".join(_doubles(name, index, count) for index, (name, count) in enumerate(nodes))
    amount = len(packed) // 8
    ordered = struct.pack(f"<{amount}d", *sorted(struct.unpack(f"<{amount}d", packed)))
    points = int.from_bytes(ordered, "little")
    owners = points & _in_each(amount, 0xFFFF)
    slots = points >> (16 + BITS) & _in_each(amount, SLOTS - 1)
    # How many slots each point owns: its slot minus the one before. The first owns its own as well.
    gaps = slots + 1 - (slots << 64 & (1 << 64 * amount) - 1)
    pieces = _Pieces(1 if len(nodes) <= 256 else 2)
    table = b"".join(map(pieces.__getitem__, _column("Q", gaps << 16 | owners, amount)))
    ends, sequence = _column("I", slots, amount), _column("H", owners, amount)
    table += pieces[SLOTS - 1 - ends[-1] << 16 | sequence[0]]
    return ends, sequence, table if len(nodes) <= 256 else array("H", table)


def _doubles(name: str, index: int, count: int) -> bytearray:
    stream = shake_128(name.encode("utf-8", "surrogatepass")).digest(4 * count)
    doubles = bytearray((index.to_bytes(2, "little") + bytes(4) + _EXPONENT) * count)
    for at in range(4):
        doubles[2 + at :: 8] = stream[at::4]
    return doubles


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
