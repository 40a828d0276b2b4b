"""Freshness: every row of the table, and the probability and bounds of an early refresh."""

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shardcache.policy.freshness import (
    LONGEST_DRAW,
    Freshness,
    jittered,
    judge,
    lock_ttl_ms,
    version_draw,
)
from shardcache.policy.load_policy import LoadPolicy

NEVER_EARLY = LoadPolicy(beta=0, stale_ttl=60)
EAGER = LoadPolicy(beta=1)

pttls = st.integers(0, 10**9)
graces = st.integers(0, 10**9)
deltas = st.integers(0, 10**6)
lucks = st.floats(0, 1, exclude_min=True)
policies = st.builds(
    LoadPolicy, beta=st.floats(0, 10), stale_ttl=st.floats(0, 10**6), lock_ttl=st.floats(0.1, 3600)
)


@pytest.mark.parametrize(
    ("pttl", "grace", "expected"),
    [
        pytest.param(-2, 0, Freshness.GONE, id="not there"),
        pytest.param(-1, 0, Freshness.FRESH, id="no expiry"),
        pytest.param(-1, 5000, Freshness.FRESH, id="no expiry, though a grace is stored"),
        pytest.param(1, 0, Freshness.FRESH, id="without grace to the end"),
        pytest.param(0, 0, Freshness.FRESH, id="in its last millisecond"),
        pytest.param(5001, 5000, Freshness.FRESH, id="a millisecond left"),
        pytest.param(5000, 5000, Freshness.STALE, id="just over"),
        pytest.param(1, 5000, Freshness.STALE, id="in grace to the end"),
        pytest.param(0, 5000, Freshness.STALE, id="in the grace's last millisecond"),
    ],
)
def test_table(pttl, grace, expected):
    """What remains of the ttl after the grace decides."""
    assert judge(pttl, grace, 1000, NEVER_EARLY, 1e-300) is expected


@pytest.mark.parametrize(
    ("stale_ttl", "expected"), [(0, Freshness.GONE), (3, Freshness.GONE), (3.001, Freshness.STALE)]
)
def test_reader_decides_how_stale_is_too_stale(stale_ttl, expected):
    """A value stored with a long grace is gone for a caller whose policy allows less."""
    assert judge(2000, 5000, 100, LoadPolicy(stale_ttl=stale_ttl), 0.5) is expected


@given(pttls, graces, deltas, policies, lucks)
def test_early_is_the_formula(pttl, grace, delta, policy, random):
    """Early exactly when -delta · beta · ln(u) is at least the time left, if both are known."""
    left = pttl - grace
    assume(left > 0 or grace == 0)
    early = delta * policy.beta > 0 and -delta * policy.beta * math.log(random) >= left
    assert judge(pttl, grace, delta, policy, random) is (
        Freshness.EARLY if early else Freshness.FRESH
    )


@given(pttls, graces, deltas, policies, lucks, lucks)
def test_less_luck_is_never_later(pttl, grace, delta, policy, random, other):
    """A lower draw refreshes wherever a higher one does, and chance decides about nothing else."""
    low, high = (judge(pttl, grace, delta, policy, draw) for draw in sorted((random, other)))
    assert (low, high) == (high, high) or (low, high) == (Freshness.EARLY, Freshness.FRESH)


@given(pttls, graces, deltas, policies, lucks, st.integers(0, 10**6))
def test_age_only_goes_one_way(pttl, grace, delta, policy, random, passed):
    """As time passes a value goes from fresh to early to stale to gone, never back."""
    assume(pttl - passed >= 0)
    order = list(Freshness)
    before, after = (judge(p, grace, delta, policy, random) for p in (pttl, pttl - passed))
    assert order.index(before) <= order.index(after)


@given(pttls, graces, policies, lucks)
def test_unknown_delta_is_never_early(pttl, grace, policy, random):
    """A value stored by set, whose loading nobody has timed, lives to its end."""
    assert judge(pttl, grace, 0, policy, random) is not Freshness.EARLY


@given(pttls, deltas, lucks)
def test_beta_0_is_never_early(pttl, delta, random):
    """Early refresh can be turned off."""
    assert judge(pttl, 0, delta, NEVER_EARLY, random) is Freshness.FRESH


@pytest.mark.parametrize("beta", [0.5, 1, 2])
@pytest.mark.parametrize("left", [100, 400, 800, 2000])
def test_probability_of_an_early_refresh(left, beta):
    """P(early | r left) = exp(-r / (beta · delta)), within five deviations of 40,000 draws."""
    policy, delta, draws = LoadPolicy(beta=beta), 400, 40_000
    chance = random.Random(f"{left} {beta}")
    early = sum(
        judge(left, 0, delta, policy, 1 - chance.random()) is Freshness.EARLY for _ in range(draws)
    )
    expected = math.exp(-left / (beta * delta))
    assert abs(early / draws - expected) <= 5 * math.sqrt(expected * (1 - expected) / draws)


def test_figures_of_the_docstring():
    """One read in 148 at 2 s, more than one in three at 0.4 s, delta being 0.4 s."""
    assert [round(1 / math.exp(-left / 400)) for left in (2000, 400)] == [148, 3]
    assert [
        judge(left, 0, 400, EAGER, math.exp(-left / 400) * (1 - 1e-9)) for left in (2000, 400)
    ] == [Freshness.EARLY] * 2
    assert [
        judge(left, 0, 400, EAGER, math.exp(-left / 400) * (1 + 1e-9)) for left in (2000, 400)
    ] == [Freshness.FRESH] * 2


@given(st.integers(1, 10**13), st.floats(0, 1), lucks)
def test_jitter_shortens_by_its_share_at_most(ttl, jitter, random):
    """Never longer than asked for, never shorter than the share allows, and never "no ttl"."""
    result = jittered(ttl, jitter, random)
    assert max(1, math.floor(ttl * (1 - jitter) * (1 - 1e-9))) <= result <= ttl


@given(st.integers(0, 10**13) | st.none(), lucks)
def test_no_jitter_changes_nothing(ttl, random):
    """Without jitter the ttl is the ttl; without a ttl there is nothing to shorten."""
    assert jittered(ttl, 0.0, random) == ttl
    assert (jittered(None, 0.5, random), jittered(0, 0.5, random)) == (None, 0)


def test_jitter_spreads_evenly():
    """Values stored together do not expire together: a tenth of them in each tenth of the span."""
    chance = random.Random(5)
    tenths = [0] * 10
    for _ in range(20_000):
        tenths[min(9, (jittered(10_000, 0.5, 1 - chance.random()) - 5000) // 500)] += 1
    assert max(abs(count - 2000) for count in tenths) < 5 * math.sqrt(2000)


@given(deltas, deltas, policies)
def test_lock_ttl_is_bounded_and_grows_with_the_load(delta, other, policy):
    """Never below the policy's, never far above, and a slower loader never gets less."""
    low, high = (lock_ttl_ms(d, policy) for d in sorted((delta, other)))
    assert (
        round(policy.lock_ttl * 1000) <= low <= high <= max(60_000, round(policy.lock_ttl * 1000))
    )


@pytest.mark.parametrize(
    ("delta", "lock_ttl", "expected"),
    [
        (0, 10, 10_000),
        (1000, 10, 10_000),
        (5000, 10, 15_000),
        (100_000, 10, 60_000),
        (5000, 120, 120_000),
    ],
)
def test_lock_ttl(delta, lock_ttl, expected):
    """Three times the last load, between the policy's ttl and a minute."""
    assert lock_ttl_ms(delta, LoadPolicy(lock_ttl=lock_ttl)) == expected


@pytest.mark.parametrize(
    ("keys", "delta", "lock_ttl", "expected"),
    [
        (300, 0, 3, 3000),
        (1000, 0, 3, 10_000),
        (1000, 5000, 3, 15_000),
        (100_000, 0, 3, 60_000),
        (100_000, 0, 120, 120_000),
    ],
)
def test_lock_ttl_of_many(keys, delta, lock_ttl, expected):
    """A hundredth of a second for each key, within the same bounds."""
    assert lock_ttl_ms(delta, LoadPolicy(lock_ttl=lock_ttl), keys) == expected


@given(
    st.binary(max_size=2000), st.binary(min_size=1, max_size=100), st.sampled_from([b"", b"s" * 16])
)
def test_draw_of_a_version_is_the_same_for_all(raw, wire, salt):
    """It depends on nothing else, and lies between the longest draw and the end."""
    draw = version_draw(raw, wire, salt)
    assert draw == version_draw(bytes(raw), bytes(wire), salt)
    assert 1 <= -math.log(draw) <= LONGEST_DRAW
    assert judge(1000, 0, 1000, EAGER, draw) is Freshness.EARLY
    assert judge(int(1000 * LONGEST_DRAW) + 1, 0, 1000, EAGER, draw) is Freshness.FRESH


def test_draws_of_versions_are_spread():
    """Another value, key, salt or time of loading is another draw; the mean is 1.5 beta · delta."""
    one = version_draw(b"value", b"key")
    assert one not in {
        version_draw(b"other", b"key"),
        version_draw(b"value", b"other"),
        version_draw(b"value", b"key", b"process"),
    }
    waits = [-math.log(version_draw(b"%d" % n, b"key")) for n in range(5000)]
    assert 1.47 < sum(waits) / len(waits) < 1.53
    assert 0.45 < sum(wait < 1.35 for wait in waits) / len(waits) < 0.55
