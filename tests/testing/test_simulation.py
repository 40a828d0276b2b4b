"""The lock in the simulated fleet keeps its promises, and the judge sees a broken one."""

from dataclasses import replace

import pytest

from shardcache.testing.simulation import OUTSIDE, draw, play, replay
from shardcache.testing.simulation.__main__ import main
from shardcache.testing.simulation.ablations import ABLATIONS, ablated
from shardcache.testing.simulation.campaign import run_campaign, story
from shardcache.testing.simulation.scripts import SCRIPTS
from shardcache.testing.simulation.stories import STORIES

pytestmark = pytest.mark.long

HISTORIES = 3000
# What each fault outside the assumptions may break, as docs/guarantees.md says: never the order of
# fencing tokens, nor the store.
BROKEN = {
    "clock-jumps": {"two-holders", "fence-late", "left-behind"},
    "eviction": {"two-holders", "fence-late"},
    "mass-amnesia": {"two-holders", "fence-late"},
}
# What shows that a part of the lock is missing.
SIGNS = {
    "no-write-back": "fence-order",
    "no-owner-check": "two-holders",
    "no-drift": "two-holders",
    "no-guard": "two-holders",
    "no-second-look": "two-holders",
    "no-swap": "two-holders",
    "adopt-unmet": "two-holders",
    "extend-unmet": "two-holders",
    "by-uptime": "two-holders",
    "no-birth": "two-holders",
    "no-floor": "fence-order",
    "one-answer": "two-holders",
    "some-answers": "two-holders",
    "no-unsure": "two-holders",
    "own-list": "two-holders",
    "no-former": "two-holders",
    "median": "two-holders",
}
# Histories with the plot in which it shows.
PLOTS = {
    "no-guard": "missed",
    "no-second-look": "late",
    "adopt-unmet": "handed-over",
    "extend-unmet": "unheard",
    "by-uptime": "failed-over",
    "no-birth": "forgotten",
    "no-floor": "rolled-back",
    "one-answer": "late",
    "some-answers": "missed",
    "no-unsure": "missed",
    "own-list": "rolled-out",
    "no-former": "rolled-out",
}


def last(*args, **options):
    """Return the tally of a whole campaign."""
    *_, total = run_campaign(*args, **options)
    return total


def test_nothing_is_violated() -> None:
    """Within the assumptions: one holder, growing tokens, nothing left, every acquire ends."""
    total = last(HISTORIES, 0)
    assert total.failed == {}, total.first
    assert total.histories == HISTORIES
    assert total.acquisitions > 2 * HISTORIES
    assert total.refused > 0, "no late writer was ever there to be refused"


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablation_is_caught(name: str) -> None:
    """With any part of the lock's argument taken out, the judge finds what that part prevents."""
    plot = PLOTS.get(name)
    tally = next(
        total
        for total in run_campaign(8 * HISTORIES, 0, ablate=name, plot=plot)
        if SIGNS[name] in total.failed
    )
    assert tally.histories <= HISTORIES
    seed = tally.first[SIGNS[name]]
    assert play(draw(seed, plot=plot)).violations == ()


def test_ablation_is_undone() -> None:
    """An ablation leaves nothing behind."""
    scripts = dict(SCRIPTS)
    for name in ABLATIONS:
        with ablated(name):
            pass
    assert scripts == SCRIPTS
    assert play(draw(0)).violations == ()


@pytest.mark.parametrize(
    "seed",
    [50196154, 50577114],
    ids=["confirmed by an old snapshot", "paused while it notes voters"],
)
def test_histories_that_broke_it_once(seed: int) -> None:
    """Two of 840,000 histories gave a token out of order; both rules that came of them hold."""
    assert play(draw(seed)).violations == ()


@pytest.mark.parametrize("seed", range(20))
def test_seed_is_the_history(seed: int) -> None:
    """The same seed gives the same history to the last word, whether it is written down or not."""
    first, second, silent = replay(seed), replay(seed), play(draw(seed))
    assert first == second
    assert replace(first, notes=()) == silent


def test_processes_agree() -> None:
    """A campaign in two processes counts the same as in one."""
    assert last(600, 0, processes=2, ablate="no-write-back") == last(600, 0, ablate="no-write-back")


@pytest.mark.parametrize(
    ("plot", "part", "seed"),
    [("handed-over", "adopt-unmet", 825), ("unheard", "extend-unmet", 45)],
    ids=["a text that came twice", "voters that were not met"],
)
def test_who_has_forgotten_says_nothing(plot: str, part: str, seed: int) -> None:
    """Histories in which a forgetful voter made a second holder: by adoption, by extensions."""
    assert play(draw(seed, plot=plot)).violations == ()
    with ablated(part):
        assert {one.kind for one in play(draw(seed, plot=plot)).violations} == {"two-holders"}


@pytest.mark.parametrize("plot", STORIES)
def test_no_story_ends_badly(plot: str) -> None:
    """Faults in the order that would do harm if a part were missing do none."""
    total = last(300, 0, plot=plot)
    assert total.failed == {}, total.first
    assert total.acquisitions > 300


@pytest.mark.parametrize("name", OUTSIDE)
def test_outside_the_assumptions(name: str) -> None:
    """Faults outside the assumptions break mutual exclusion, never the fenced store."""
    total = last(2000, 0, outside=(name,))
    assert set(total.failed) <= BROKEN[name], total.first
    assert "two-holders" in total.failed


def test_lost_counters_and_clocks_set_back_break_the_order() -> None:
    """Evicted counters start from the clock; if that is set back too, tokens may fall."""
    assert "fence-order" in last(2000, 0, outside=("eviction", "clock-jumps")).failed


def test_failing_history_is_told_in_short(capsys: pytest.CaptureFixture[str]) -> None:
    """The command line prints figures, and the first failing seed as a history that fails."""
    assert main(["--histories", "20", "--ablate", "no-write-back"]) == 1
    out = capsys.readouterr().out
    assert "20 histories in" in out
    assert "violations: fence-order" in out
    assert "*** fence-order" in out


def test_clean_history_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Without violations the exit code is 0; one seed can be replayed."""
    assert main(["--histories", "20"]) == 0
    assert "violations: none" in capsys.readouterr().out
    assert main(["--seed", "3", "--replay"]) == 0
    assert "ACQUIRE" in capsys.readouterr().out


def test_shrunk_history_is_no_longer() -> None:
    """Shrinking keeps the violation and adds nothing."""
    seed = last(20, 0, ablate="no-write-back").first["fence-order"]
    full = draw(seed)
    short = story(seed, "fence-order", ablate="no-write-back")
    assert "fence-order" in {violation.kind for violation in short.violations}
    assert len(short.scenario.faults) <= len(full.faults)
    assert sum(one.cycles for one in short.scenario.clients) <= sum(
        one.cycles for one in full.clients
    )
