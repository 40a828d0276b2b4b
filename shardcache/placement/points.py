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
from collections.abc import Iterable
from hashlib import shake_128

__all__ = ("BITS", "SLOTS", "scatter", "tabulate")

SLOTS = 2**20
BITS = 12  # of a place within its slot

# Sorting is most of the work, and CPython sorts floats twice as fast as ints of this size. The bits
# of a double 2⁵² + (point << 16 | node) are the exponent, the point and the node side by side, so
# doubles are put together and taken apart by moving bytes, a whole ring at a time.
_EXPONENT = struct.pack("<d", 2.0**52)[6:]


def scatter(nodes: Iterable[tuple[str, int]]) -> tuple["array[int]", "array[int]"]:
    """Return the slot and the node of every point, clockwise, for nodes of (name, number of points) in name order."""
    packed = b"".join(_doubles(name, index, count) for index, (name, count) in enumerate(nodes))
    amount = len(packed) // 8
    inorder = struct.pack(f"<{amount}d", *sorted(struct.unpack(f"<{amount}d", packed)))
    slots = (int.from_bytes(inorder, "little") >> (16 + BITS)) & _in_each(amount, SLOTS - 1)
    owners = bytearray(2 * amount)
    owners[0::2], owners[1::2] = inorder[0::8], inorder[1::8]
    return (
        array("I", struct.unpack(f"<{amount}Q", slots.to_bytes(8 * amount, "little"))),
        array("H", struct.unpack(f"<{amount}H", owners)),
    )


def tabulate(slots: "array[int]", owners: "array[int]", nodes: int) -> "bytes | array[int]":
    """Return the owner of every slot: a byte each up to 256 nodes, else 16 bits each."""
    pieces = _Pieces(1 if nodes <= 256 else 2)
    amount = len(slots)
    words = int.from_bytes(struct.pack(f"<{amount}Q", *slots), "little")
    # Each word minus the one before it; slot 0 is itself one slot wide.
    gaps = (words + 1) - (words << 64 & (1 << 64 * amount) - 1)
    nodes_of = int.from_bytes(struct.pack(f"<{amount}Q", *owners), "little")
    codes = struct.unpack(f"<{amount}Q", (gaps << 16 | nodes_of).to_bytes(8 * amount + 8, "little")[: 8 * amount])
    table = b"".join(map(pieces.__getitem__, codes))
    table += pieces[SLOTS - 1 - slots[-1] << 16 | owners[0]]
    return table if nodes <= 256 else array("H", table)


def _doubles(name: str, index: int, count: int) -> bytearray:
    stream = shake_128(name.encode("utf-8", "surrogatepass")).digest(4 * count)
    doubles = bytearray((index.to_bytes(2, "little") + bytes(4) + _EXPONENT) * count)
    for at in range(4):
        doubles[2 + at :: 8] = stream[at::4]
    return doubles


def _in_each(amount: int, word: int) -> int:
    return int.from_bytes(word.to_bytes(8, "little") * amount, "little")


class _Pieces(dict[int, bytes]):
    """The table's entries for ``gap << 16 | node``: few different ones, so each is made once."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def __missing__(self, code: int) -> bytes:
        piece = self[code] = (code & 0xFFFF).to_bytes(self._width, sys.byteorder) * (code >> 16)
        return piece
