"""Space-saving: which items come most often, in bounded memory (Metwally et al., ICDT 2005).

A sketch has at most ``capacity`` counters. What has none when it comes, while all are in use, takes
the place of the least one, and begins with its count, because it may have come as often before:
that part is the ``error`` of the new one. With n for all that was counted, it follows:

- error ≤ n / capacity, and upper - error ≤ what was counted of the item ≤ upper;
- every item that was counted more often than n / capacity has a counter.

Items come in batches: new ones of a batch get the least count as it was before, then the least
counters of all go. That holds the same bounds (each counter that goes has at least that count), and
a batch costs one sort of a list that is nearly in order. A sketch never changes; it makes another.
So threads need no lock: of two that add at once, one batch is lost.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

__all__ = ("Estimate", "SpaceSaving")


class Estimate(NamedTuple):
    """How often one item came.

    ``upper``: at most so often.
    ``error``: it was so much less at most.
    """

    upper: float
    error: float


@dataclass(frozen=True, slots=True)
class SpaceSaving:
    """The counters, the highest first.

    ``capacity``: how many there may be, at least 1.
    ``total``: all that was counted.
    ``estimates``: the counters by their items.
    """

    capacity: int
    total: float = 0.0
    estimates: Mapping[bytes, Estimate] = field(default_factory=dict)

    def added(self, items: Iterable[bytes], fading: float = 1.0) -> Self:
        """Return the sketch with these items counted too.

        ``items``: each counts 1, as often as it is there.
        ``fading``: what all former counts are multiplied by, 0 to 1. Default: 1.
        """
        faded = {
            item: Estimate(count * fading, error * fading)
            for item, (count, error) in self.estimates.items()
        }
        full = len(faded) >= self.capacity
        least = min((one.upper for one in faded.values()), default=0.0) if full else 0.0
        new = Counter(items)
        for item, times in new.items():
            count, error = faded.get(item, (least, least))
            faded[item] = Estimate(count + times, error)
        ordered = sorted(faded.items(), key=lambda one: one[1].upper, reverse=True)
        return type(self)(
            self.capacity, self.total * fading + new.total(), dict(ordered[: self.capacity])
        )
