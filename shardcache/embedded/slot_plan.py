"""Which slots move when the masters of a cluster are to have equally many. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

__all__ = ("SlotMove", "plan_moves")


class SlotMove(NamedTuple):
    """Slots that go from one node to another, by their ids."""

    source: str
    target: str
    slots: tuple[int, ...]


def plan_moves(
    owned: Mapping[str, Sequence[int]], leaving: Collection[str] = (), *, most: int = 64
) -> list[SlotMove]:
    """Return the fewest moves after which the numbers of slots differ by one at most.

    ``owned``: the slots of each master, by its id.
    ``leaving``: masters that are to have none. At least one must stay.
    ``most``: how many slots one move has at most.
    """
    total = sum(map(len, owned.values()))
    # Whoever has most keeps the odd slots, so that none moves without need.
    staying = sorted((name for name in owned if name not in leaving), key=lambda n: -len(owned[n]))
    base, odd = divmod(total, len(staying))
    wanted = {name: base + (at < odd) for at, name in enumerate(staying)}
    # Surplus is given from the end, so that what stays is one range where it was one.
    given = [
        (slot, name)
        for name, slots in owned.items()
        for slot in sorted(slots)[wanted.get(name, 0) :]
    ]
    takers = [name for name in staying for _ in range(wanted[name] - len(owned[name]))]
    pairs: dict[tuple[str, str], list[int]] = {}
    for (slot, source), target in zip(given, takers, strict=True):
        pairs.setdefault((source, target), []).append(slot)
    return [
        SlotMove(source, target, tuple(slots[at : at + most]))
        for (source, target), slots in pairs.items()
        for at in range(0, len(slots), most)
    ]
