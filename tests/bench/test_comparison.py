"""What two runs say of each other: slower is what their quartiles agree on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.bench.comparison import Verdict, compare, judge, other_conditions
from shardcache.bench.figure import Figure
from shardcache.bench.race import Spread
from shardcache.bench.record import Record, Setting

OPPOSITE = {Verdict.SLOWER: Verdict.FASTER, Verdict.FASTER: Verdict.SLOWER}
SPREADS = st.lists(st.floats(0, 1e6), min_size=3, max_size=3).map(
    lambda values: Spread(sorted(values)[1], min(values), max(values))
)


def setting(**changed) -> Setting:
    plain = {
        "command": "bench one",
        "date": "2026-01-01T00:00:00+00:00",
        "clock": "wall clock",
        "rounds": 5,
        "machine": {"cores": "2"},
        "versions": {"redis": "8"},
    }
    return Setting(**{**plain, **changed})


def record(**figures: Spread) -> Record:
    """Return a run whose figures are named ``subject__what``."""
    named = {tuple(name.split("__")): spread for name, spread in figures.items()}
    return Record(setting(), {name: Figure(name[1], spread) for name, spread in named.items()})


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        pytest.param((1, 0.9, 1.1), (1.3, 1.2, 1.4), Verdict.SLOWER, id="above"),
        pytest.param((1.3, 1.2, 1.4), (1, 0.9, 1.1), Verdict.FASTER, id="below"),
        pytest.param((1, 0.9, 1.1), (1.2, 1.1, 1.3), Verdict.SAME, id="touching"),
        pytest.param((1, 0.9, 1.1), (1.3, 1.0, 1.4), Verdict.SAME, id="overlapping"),
        pytest.param((1, 1, 1), (1.3, 1.2, 1.4), Verdict.SLOWER, id="one-value-before"),
        pytest.param((4, 4, 4), (5, 5, 5), Verdict.UNKNOWN, id="one-value-each"),
        pytest.param((4, 4, 4), (4, 4, 4), Verdict.SAME, id="the-same-value"),
    ],
)
def test_verdict(old: tuple[float, ...], new: tuple[float, ...], verdict: Verdict) -> None:
    """Only quartiles that do not overlap are a change, and one value alone is no noise to beat."""
    assert judge(Spread(*old), Spread(*new)) is verdict


@given(SPREADS, SPREADS)
def test_verdicts_mirror(old: Spread, new: Spread) -> None:
    """What is slower one way is faster the other way; all else reads the same both ways."""
    there, back = judge(old, new), judge(new, old)
    assert back is OPPOSITE.get(there, there)


def test_figures_of_one_run_alone_are_named() -> None:
    """A figure that came or went is said; a subject that was not asked for now is not."""
    old = record(one__a=Spread(1, 1, 1), one__b=Spread(1, 1, 1), two__c=Spread(1, 1, 1))
    new = record(one__d=Spread(1, 1, 1), one__a=Spread(1, 1, 1))
    found = [(change.what, change.verdict) for change in compare(old, new)]
    assert found == [("d", Verdict.NEW), ("a", Verdict.SAME), ("b", Verdict.GONE)]


def test_change_says_both_sides() -> None:
    """A line of the report has the verdict, the figure, and both spreads."""
    [change] = compare(record(one__a=Spread(1, 0.9, 1.1)), record(one__a=Spread(20, 19, 21)))
    assert str(change) == "slower: one: a: 1.00 [0.90 … 1.10] -> 20.0 [19.0 … 21.0]"


def test_other_conditions_are_said() -> None:
    """What differs between the settings may be the reason."""
    new = setting(rounds=7, clock="CPU", machine={"cores": "4"}, versions={"redis": "8", "x": "1"})
    assert list(other_conditions(setting(), new)) == [
        "clock: wall clock -> CPU",
        "rounds: 5 -> 7",
        "cores: 2 -> 4",
        "x: none -> 1",
    ]
    assert list(other_conditions(setting(), setting())) == []
