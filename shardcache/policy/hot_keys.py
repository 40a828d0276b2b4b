"""Which keys this process reads most: a sample of its reads, counted by `SpaceSaving`.

A read counts one number down, and does nothing else in most cases. When that is below zero, the key
goes into a list, and the number of reads to skip is drawn anew: a fixed one would see the same key
of every page that reads its keys in a fixed order. The list is counted when it is long or a second
old, and when somebody asks; former counts have faded by half for each `HALF_LIFE` then.

Nothing here waits for a lock, since a signal handler or finalizer may read a key while this is at
work. What two threads do at once may cost a few of the samples, and nothing else.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from math import log

from shardcache.policy.space_saving import Estimate, SpaceSaving

__all__ = ("HALF_LIFE", "SAMPLE", "HotKeyCounter")

HALF_LIFE = 60.0  # seconds after which a read counts half
SAMPLE = 16  # one read in so many is counted, on average
_SECOND = 1.0  # after so long the samples are counted, as if they were all of its end
_ENOUGH = 8.0  # samples of a key, before it is said to be hot


class HotKeyCounter:
    """Counts some of the reads of one client.

    ``capacity``: how many keys have a counter. A key with more than this part of all reads has one.
    ``share``: the share of all reads from which a key is `hot`; 0: none is.
    ``sample``: one read in so many is counted, on average.
    ``clock``: the time in seconds.
    ``random``: a number from 0 to below 1.

    ``hot``: the keys that are hot now; one stays until it has less than half of ``share``.
    ``cooled``: what is called with the keys that are hot no longer.
    """

    __slots__ = (
        "__weakref__",
        "_batch",
        "_began",
        "_clock",
        "_counted",
        "_random",
        "_sample",
        "_sampled",
        "_samples",
        "_share",
        "_skip",
        "cooled",
        "hot",
    )

    def __init__(
        self,
        capacity: int,
        share: float,
        sample: int,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._share = share
        self._sample = sample
        self._clock = clock
        self._random = random
        # So many that a batch costs each of its samples the same, whatever the capacity.
        self._batch = max(capacity // 4, 16)
        self.cooled: Callable[[list[bytes]], object] = lambda _: None
        self._begin(capacity)

    def _begin(self, capacity: int) -> None:
        self._began = self._sampled = self._clock()  # and when a sample was taken last
        # The sketch, and up to when its counts have faded.
        self._counted = (SpaceSaving(capacity), self._began)
        self._samples: deque[bytes] = deque()
        self._skip = self._gap()
        self.hot: frozenset[bytes] = frozenset()

    def after_fork(self) -> None:
        """Begin anew: the reads of the parent are not those of this process."""
        self._begin(self._counted[0].capacity)

    def read(self, wire: bytes) -> None:
        """Note the read of a key, if it is one to be counted."""
        self._skip -= 1
        if self._skip < 0:
            self._skip = self._gap()
            self._take(wire)

    def read_many(self, wires: Sequence[bytes]) -> None:
        """Note the reads of keys, as `read` does each."""
        at = max(self._skip, 0)  # another thread may be about to take a sample
        while at < len(wires):
            self._take(wires[at])
            at += 1 + self._gap()
        self._skip = at - len(wires)

    def estimates(self) -> Iterator[tuple[bytes, Estimate, float, float]]:
        """Count what is still to be counted; return the keys, the one that is read most first.

        With each comes: how often it was read, with former reads faded; how often in a second; and
        its share of all reads.
        """
        self._count(self._sampled)
        now = self._clock()
        sketch = self._count(now)
        # What one read a second, from the beginning, would have come to.
        life = HALF_LIFE / log(2)
        second = max(life * (1 - self._left(now - self._began)), 1.0)
        for wire, (count, error) in sketch.estimates.items():
            reads = Estimate(count * self._sample, error * self._sample)
            if reads.upper < 0.5:
                return  # all that follow have cooled too
            yield wire, reads, reads.upper / second, count / sketch.total

    def _gap(self) -> int:
        """Return how many reads to skip before the next sample."""
        return int(self._random() * (2 * self._sample - 1))

    def _take(self, wire: bytes) -> None:
        self._samples.append(wire)
        self._sampled = now = self._clock()
        if len(self._samples) >= self._batch or now - self._counted[1] >= _SECOND:
            self._count(now)

    def _count(self, now: float) -> SpaceSaving:
        """Count the samples as of ``now``; return the sketch, faded up to then."""
        taken = []
        with suppress(IndexError):
            while True:
                taken.append(self._samples.popleft())
        sketch, then = self._counted
        now = max(now, then)
        sketch = sketch.added(taken, self._left(now - then))
        self._counted = sketch, now
        if self._share:
            self._sort_out(sketch)
        return sketch

    def _sort_out(self, sketch: SpaceSaving) -> None:
        """Say which keys are hot now."""
        enough = max(self._share * sketch.total, _ENOUGH)
        former = self.hot
        self.hot = frozenset(
            wire
            for wire, (count, error) in sketch.estimates.items()
            if count - error >= (enough / 2 if wire in former else enough)
        )
        cooled = former - self.hot
        if cooled:
            self.cooled(list(cooled))

    @staticmethod
    def _left(seconds: float) -> float:
        """Return what is left of a count after this time."""
        return float(0.5 ** (max(seconds, 0.0) / HALF_LIFE))
