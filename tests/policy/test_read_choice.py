"""Which server a read goes to: replicas in turns, or the nearest; none that is out."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shardcache.policy.read_choice import FIRST, INTERVAL, ReadChoice

PRIMARY = 0
replicas = st.lists(st.integers(1, 9), unique=True, max_size=4)
outs = st.sets(st.integers(0, 9))
seconds = st.floats(1e-6, 10)


class Clock:
    """Stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.booleans(), replicas, st.lists(st.tuples(outs, seconds), max_size=40))
def test_none_that_is_out(nearest, servers, reads) -> None:
    """Whatever was measured: a server of that slot that is in service, or else the primary."""
    clock = Clock()
    choice = ReadChoice(nearest=nearest, clock=clock)
    for out, took in reads:
        chosen = choice.pick(PRIMARY, servers, out.__contains__)
        up = set(servers) - out
        if nearest and PRIMARY not in out:
            up.add(PRIMARY)
        assert chosen in (up or {PRIMARY})
        clock.now += took
        choice.measured(chosen, took)


@given(replicas.filter(bool), st.integers(1, 5), st.integers(1, 3))
def test_turns(servers, rounds, primaries) -> None:
    """All replicas of a primary have equally many reads, whatever is read of other primaries."""
    choice = ReadChoice(nearest=False, clock=Clock())
    found = [Counter[int]() for _ in range(primaries)]
    for _ in range(rounds * len(servers)):
        for primary, counted in enumerate(found):
            counted[choice.pick(-primary, servers, set().__contains__)] += 1
    assert found == [dict.fromkeys(servers, rounds)] * primaries


def read(choice: ReadChoice, clock: Clock, trips: list[float]) -> int:
    """Read once, from servers that take so long; return which one it was."""
    chosen = choice.pick(PRIMARY, range(1, len(trips)), set().__contains__)
    clock.now += trips[chosen]
    choice.measured(chosen, trips[chosen])
    return chosen


@given(st.lists(st.floats(1e-4, 1e-2), min_size=2, max_size=5, unique=True))
def test_nearest(trips) -> None:
    """Behind the first reads all go to the nearest."""
    clock = Clock()
    choice = ReadChoice(nearest=True, clock=clock)
    first = Counter(read(choice, clock, trips) for _ in range(FIRST * len(trips)))
    assert first == dict.fromkeys(range(len(trips)), FIRST)
    assert {read(choice, clock, trips) for _ in range(50)} == {trips.index(min(trips))}


@given(st.lists(st.floats(1e-4, 1e-2), min_size=2, max_size=5), st.integers(0, 4))
def test_each_is_measured_again(trips, changed) -> None:
    """A way that has become much shorter is found after the interval, by one read of each."""
    clock = Clock()
    choice = ReadChoice(nearest=True, clock=clock)
    for _ in range(FIRST * len(trips) + 1):
        read(choice, clock, trips)
    changed %= len(trips)
    trips = [*trips]
    trips[changed] = 1e-5
    clock.now += INTERVAL
    again = Counter(read(choice, clock, trips) for _ in trips)
    assert again == dict.fromkeys(range(len(trips)), 1)
    assert {read(choice, clock, trips) for _ in range(50)} == {changed}


def test_way_that_becomes_longer() -> None:
    """It is left after some reads; one slow read alone changes nothing."""
    clock = Clock()
    choice = ReadChoice(nearest=True, clock=clock)
    for _ in range(2 * FIRST + 1):
        read(choice, clock, [0.001, 0.002])
    read(choice, clock, [0.005, 0.002])
    assert read(choice, clock, [0.001, 0.002]) == 0
    found = [read(choice, clock, [0.01, 0.002]) for _ in range(10)]
    assert found[0] == 0
    assert found[-1] == 1


def test_many_reads_at_once() -> None:
    """Of reads that are sent before any is answered, few go to measure."""
    clock = Clock()
    choice = ReadChoice(nearest=True, clock=clock)
    for _ in range(2 * FIRST):
        read(choice, clock, [0.001, 0.002])
    clock.now += INTERVAL
    found = Counter(choice.pick(PRIMARY, [1], set().__contains__) for _ in range(64))
    assert found == {0: 63, 1: 1}
