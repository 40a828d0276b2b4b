"""The budget of a call: what its exchanges may take, and what waiting adds to that."""

import pytest

from shardcache.flows.budget import Budget


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def spend(budget: Budget, clock: Clock, seconds: float) -> float:
    """Let an exchange take so long; return what it might have taken."""
    with budget.spent() as limit:
        clock.now += seconds
    return limit


def test_exchanges_share_it() -> None:
    """Each may take what those before it have left, and what passes between them costs nothing."""
    clock = Clock()
    budget = Budget(0.5, clock)
    limits = [spend(budget, clock, seconds) for seconds in (0.2, 0.4)]
    clock.now += 60
    assert limits == pytest.approx([0.5, 0.3])
    assert spend(budget, clock, 0.1) == 0.0


def test_a_call_that_has_begun_before() -> None:
    """What a call has taken before it had a budget counts."""
    clock = Clock()
    assert spend(Budget(0.5, clock, clock.now - 0.3), clock, 0) == pytest.approx(0.2)


def test_an_exchange_that_fails_is_counted() -> None:
    """Whatever ends it."""
    clock = Clock()
    budget = Budget(0.5, clock)
    with pytest.raises(KeyError), budget.spent():
        clock.now += 0.4
        raise KeyError
    assert spend(budget, clock, 0) == pytest.approx(0.1)


def test_waiting_costs_nothing_until_it_is_over() -> None:
    """While the call waits, an exchange may take the wait on top; what is above that is counted."""
    clock = Clock()
    budget = Budget(0.5, clock)
    budget.wait_until(clock.now + 2)
    assert spend(budget, clock, 1) == pytest.approx(2.5)
    assert spend(budget, clock, 1.2) == pytest.approx(1.5)
    assert spend(budget, clock, 0) == pytest.approx(0.3)
    budget.renew()
    assert spend(budget, clock, 0) == pytest.approx(0.5)


def test_next_part() -> None:
    """A part of many has a deadline of its own, and longer if it needs that."""
    clock = Clock()
    budget = Budget(0.5, clock)
    spend(budget, clock, 3)
    budget.renew(1.5)
    assert spend(budget, clock, 0) == pytest.approx(1.5)
