"""The breaker: every row of its table, and what holds whatever happens."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shardcache.policy.breaker import FULL, Breaker, BreakerPolicy, State

POLICY = BreakerPolicy(failures=3, first_delay=0.1, max_delay=2.0)


def opened() -> Breaker:
    breaker = Breaker(POLICY)
    breaker.failed(timeout=True)
    return breaker


def test_opens_after_failures_in_a_row() -> None:
    """The third failure in a row opens it; a success in between starts the count anew."""
    breaker = Breaker(POLICY)
    assert [breaker.failed(), breaker.failed()] == [False, False]
    breaker.succeeded()
    assert [breaker.failed(), breaker.failed(), breaker.failed()] == [False, False, True]
    assert breaker.state is State.OPEN


def test_one_timeout_opens() -> None:
    """A timeout has cost a whole deadline already: one is enough."""
    breaker = Breaker(POLICY)
    assert breaker.failed(timeout=True)
    assert not breaker.admit()


def test_timeout_that_is_not_lonely_counts_as_any_failure() -> None:
    """A lost request of a shard that answers others counts as any other failure in a row."""
    breaker = Breaker(POLICY)
    assert [breaker.failed(timeout=True, lonely=False) for _ in range(2)] == [False, False]
    breaker.succeeded()
    assert [breaker.failed(timeout=True, lonely=False) for _ in range(3)] == [False, False, True]


def test_lost_request_on_trial() -> None:
    """On trial too, one lost request among answered ones only gives its place back."""
    breaker = opened()
    breaker.probed(answered=True)
    assert breaker.admit()
    breaker.succeeded()
    assert (breaker.admit(), breaker.admit(), breaker.admit()) == (True, True, False)
    assert not breaker.failed(timeout=True, lonely=False)
    assert (breaker.state, breaker.trials, breaker.allowance) == (State.HALF_OPEN, 1, 2)
    assert breaker.failed(timeout=True)


def test_cap_keeps_it_closed() -> None:
    """With too many shards out it stays closed, and opens as soon as it may."""
    room = False
    breaker = Breaker(POLICY, lambda: room)
    assert not breaker.failed(timeout=True)
    assert breaker.admit()
    room = True
    assert breaker.failed()


def test_half_open_lets_in_one_then_more() -> None:
    """After a good probe the load returns in doubling steps, not in a burst."""
    breaker = opened()
    breaker.probed(answered=True)
    widths = []
    while breaker.state is State.HALF_OPEN:
        width = 0
        while breaker.admit():
            width += 1
        widths.append(width)
        back = False
        for _ in range(width):
            back = breaker.succeeded() or back
            if breaker.state is State.CLOSED:
                break
    assert widths[0] == 1
    assert widths == sorted(widths)
    assert max(widths) <= FULL


def test_half_open_failure_opens_again() -> None:
    """One failure on trial, of any kind, sends it out again."""
    breaker = opened()
    breaker.probed(answered=True)
    assert breaker.admit()
    assert breaker.failed()
    assert breaker.state is State.OPEN


def test_failed_probe_keeps_it_open() -> None:
    """No answer, no change."""
    breaker = opened()
    breaker.probed(answered=False)
    assert breaker.state is State.OPEN


def test_late_results_do_not_count_while_open() -> None:
    """Calls that were under way when it opened change nothing."""
    breaker = opened()
    assert not breaker.failed()
    assert not breaker.succeeded()
    assert breaker.state is State.OPEN


def test_abandoned_trial_gives_its_place_back() -> None:
    """A cancelled call does not block the trial for ever."""
    breaker = opened()
    breaker.probed(answered=True)
    assert breaker.admit()
    assert not breaker.admit()
    breaker.abandoned()
    assert breaker.admit()


def test_place_is_of_its_period() -> None:
    """A call gives back a place of the period in which it was let in, and of no other."""
    breaker = opened()
    breaker.probed(answered=True)
    breaker.admit()
    first = breaker.period
    breaker.failed(period=first)
    breaker.probed(answered=True)
    breaker.admit()
    for period in (first, 0):
        breaker.abandoned(period)
        breaker.succeeded(period)
        breaker.failed(timeout=True, lonely=False, period=period)
        assert (breaker.state, breaker.trials) == (State.HALF_OPEN, 1)
    breaker.abandoned(breaker.period)
    assert breaker.trials == 0


def test_delays_grow_to_the_cap_and_are_jittered() -> None:
    """Delays double from the first to the longest; chance takes off up to a half."""
    breaker = opened()
    assert [round(breaker.next_delay(0.0), 3) for _ in range(7)] == [
        0.1,
        0.2,
        0.4,
        0.8,
        1.6,
        2.0,
        2.0,
    ]
    assert breaker.next_delay(0.999) < 1.01


def test_flapping_does_not_reset_the_delay() -> None:
    """Only full recovery brings back the short first delay."""
    breaker = opened()
    for _ in range(3):
        breaker.next_delay(0.0)
    breaker.probed(answered=True)
    breaker.admit()
    breaker.failed()
    assert breaker.next_delay(0.0) == 0.8


def test_moved_shard_is_tried_at_once() -> None:
    """Out or on trial, it is on trial from its beginning; in service it has no failures."""
    breaker = opened()
    breaker.next_delay(0.0)
    breaker.moved()
    assert (breaker.state, breaker.allowance, breaker.probes) == (State.HALF_OPEN, 1, 0)
    assert breaker.admit()
    former = breaker.period
    breaker.moved()
    breaker.abandoned(former)
    assert (breaker.trials, breaker.admit(), breaker.admit()) == (0, True, False)
    serving = Breaker(POLICY)
    serving.failed()
    serving.moved()
    assert (serving.state, serving.failures) == (State.CLOSED, 0)


class AnyOrder(RuleBasedStateMachine):
    """Events in any order never leave the table."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(POLICY)

    @rule(timeout=st.booleans(), lonely=st.booleans())
    def fail(self, timeout: bool, lonely: bool) -> None:
        before = self.breaker.state
        opened_now = self.breaker.failed(timeout=timeout, lonely=lonely)
        assert opened_now == (before is not State.OPEN and self.breaker.state is State.OPEN)

    @rule()
    def succeed(self) -> None:
        before = self.breaker.state
        back = self.breaker.succeeded()
        assert back == (before is State.HALF_OPEN and self.breaker.state is State.CLOSED)

    @rule()
    def abandon(self) -> None:
        self.breaker.abandoned()

    @rule(answered=st.booleans())
    def probe(self, answered: bool) -> None:
        before = self.breaker.state
        self.breaker.probed(answered=answered)
        assert self.breaker.state is (
            State.HALF_OPEN if before is State.OPEN and answered else before
        )

    @rule()
    def move(self) -> None:
        before = self.breaker.state
        self.breaker.moved()
        assert self.breaker.state is (before if before is State.CLOSED else State.HALF_OPEN)

    @rule()
    def admit(self) -> None:
        self.breaker.admit()

    @precondition(lambda self: self.breaker.state is State.OPEN)
    @rule()
    def refuse(self) -> None:
        assert not self.breaker.admit()

    @invariant()
    def bounded(self) -> None:
        assert 0 <= self.breaker.trials <= max(self.breaker.allowance, 0)
        assert self.breaker.allowance <= FULL
        assert (self.breaker.allowance > 0) <= (self.breaker.state is not State.CLOSED)


TestAnyOrder = AnyOrder.TestCase
