"""A race: peers take turns on one track, and only laps of the same round are compared.

A shared machine is now fast, now slow, for seconds at a time. So nobody runs alone: in every round
each racer runs one short lap, in an order drawn anew, and what counts is the ratio (or the
difference) within the round. The median over the rounds is the result; the quartiles say how much
to trust it.
"""

import gc
import random
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, islice
from statistics import median, quantiles
from time import perf_counter
from typing import Any, NamedTuple

__all__ = ("Laps", "Race", "Racer", "Spread")

LAP = 0.005  # seconds: short against the machine's moods, long against the clock
ORDER = 1  # seed of the order of laps: the same race each time


class Racer(NamedTuple):
    """Calls ``call`` with one of ``inputs`` after the other, round and round."""

    name: str
    call: Callable[[Any], object]
    inputs: Sequence[Any]


class Spread(NamedTuple):
    """A median between its quartiles."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        found = list(values)
        if len(found) == 1:
            return cls(found[0], found[0], found[0])
        low, _, high = quantiles(found, n=4)
        return cls(median(found), low, high)


class Laps:
    """Seconds per call of each racer, one figure per round."""

    def __init__(self, seconds: dict[str, list[float]]) -> None:
        self.seconds = seconds

    def micros(self, name: str) -> float:
        """Return the median, in microseconds per call."""
        return median(self.seconds[name]) * 1e6

    def costs(self, *names: str, calls: int = 1) -> dict[str, Spread]:
        """Return the microseconds of each, per call; what was timed as one is ``calls`` calls."""
        micros = 1e6 / calls
        return {name: Spread.of(one * micros for one in self.seconds[name]) for name in names}

    def ratio(self, name: str, peer: str) -> Spread:
        """Return how many times the peer's time ``name`` takes."""
        return Spread.of(ours / theirs for ours, theirs in self._rounds(name, peer))

    def excess(self, name: str, peer: str) -> Spread:
        """Return how many microseconds ``name`` takes more than the peer."""
        return Spread.of((ours - theirs) * 1e6 for ours, theirs in self._rounds(name, peer))

    def _rounds(self, name: str, peer: str) -> Iterable[tuple[float, float]]:
        return zip(self.seconds[name], self.seconds[peer], strict=True)


class Race:
    """How races are run: ``rounds`` rounds, laps of about ``lap`` seconds by ``clock``.

    With `time.thread_time` as the clock only this thread's own work counts, not its waiting for a
    server. That is steadier on a busy machine, and another figure: the round trip, which all peers
    share, is left out.
    """

    def __init__(
        self, rounds: int, clock: Callable[[], float] = perf_counter, lap: float = LAP
    ) -> None:
        self.rounds = rounds
        self._clock = clock
        self._lap = lap

    def __call__(self, racers: Sequence[Racer], *, share: float = 1.0) -> Laps:
        """Run the rounds (or a ``share`` of them) and return the laps.

        Every input is run over once before, untimed.
        """
        tracks = [(racer, cycle(racer.inputs), self._calls(racer)) for racer in racers]
        seconds: dict[str, list[float]] = {racer.name: [] for racer in racers}
        order = random.Random(ORDER)
        gc.collect()
        for _ in range(max(3, round(self.rounds * share))):
            for racer, inputs, calls in order.sample(tracks, len(tracks)):
                lap = list(islice(inputs, calls))
                seconds[racer.name].append(self._time(racer.call, lap) / calls)
        return Laps(seconds)

    def _calls(self, racer: Racer) -> int:
        """Return how many calls make a lap."""
        # The first run pays for connections and caches, so the number is taken from a second one.
        calls = max(
            1, min(len(racer.inputs), round(self._lap * len(racer.inputs) / self._time(*racer[1:])))
        )
        return max(1, round(self._lap * calls / self._time(racer.call, racer.inputs[:calls])))

    def _time(self, call: Callable[[Any], object], inputs: Iterable[Any]) -> float:
        started = self._clock()
        for one in inputs:
            call(one)
        return max(self._clock() - started, 1e-9)
