"""A shard that goes out, is probed, and comes back."""

import pytest

from shardcache.drivers import Shard
from shardcache.drivers.sync.broadcast import run_exchange
from shardcache.errors import (
    AuthenticationFailed,
    ClientClosed,
    ShardOut,
    ShardTimeout,
    ShardUnavailable,
    WrongTopology,
    WrongType,
)
from shardcache.flows import Batch
from shardcache.policy.breaker import State
from shardcache.resp import ErrorReply
from tests.drivers.fake_dialer import TWICE, FakeDialer, outcome, prober_lives, shard_of
from tests.waiting import until


def test_breaker_opens_after_failures_in_a_row() -> None:
    """Three failures in a row open the breaker, an answer in between starts the count again."""
    reset = ConnectionResetError
    dialer = FakeDialer([reset(), reset(), b"1", reset(), reset(), reset()])
    events = []
    shard = shard_of(dialer, events=events)
    found = [outcome(shard, idempotent=False) for _ in range(8)]
    down = ShardUnavailable
    assert found == [down, down, b"1", down, down, down, ShardOut, ShardOut]
    assert (shard.probes_asked, [event.kind for event in events], dialer.sent) == (
        1,
        ["shard_out"],
        6,
    )


def test_one_timeout_opens() -> None:
    """After one timeout of a whole deadline the breaker opens and idle connections are closed."""
    dialer = FakeDialer([TimeoutError()])
    shard = shard_of(dialer)
    assert [outcome(shard), outcome(shard)] == [ShardTimeout, ShardOut]
    assert (shard.tally.timeouts, shard.tally.ejections, shard.tally.refused_open) == (1, 1, 1)


def test_one_lost_request_among_many_does_not_open() -> None:
    """A timeout beside answered calls counts as one failure in a row, until the next answer."""
    dialer = FakeDialer([b"1", TimeoutError(), b"2"])
    shard = shard_of(dialer)
    shard.call(b"", 5.0, TWICE)  # it began at 4.0
    with pytest.raises(ShardTimeout):
        shard.call(b"", 4.5, TWICE)  # it began at 3.5
    assert (shard.breaker.state, shard.breaker.failures) == (State.CLOSED, 1)
    assert (shard.call(b"", 6.0, TWICE), shard.breaker.failures) == (b"2", 0)


def test_answer_to_an_earlier_call_is_no_excuse() -> None:
    """Who began before us may have been answered before the shard began to hang."""
    dialer = FakeDialer([b"1", TimeoutError()])
    shard = shard_of(dialer)
    shard.call(b"", 4.5, TWICE)
    with pytest.raises(ShardTimeout):
        shard.call(b"", 5.0, TWICE)
    assert shard.breaker.state is State.OPEN


def test_own_pause_is_not_blamed_on_the_shard() -> None:
    """All calls that a pause of the process delayed count as one failure; repeated ones add up."""
    dialer = FakeDialer([TimeoutError()] * 12)
    shard = shard_of(dialer)
    states = []
    for pause in range(3):
        dialer.now = 10.0 * (pause + 1)
        for _ in range(4):
            with pytest.raises(ShardTimeout):
                shard.call(b"", dialer.now - 1, TWICE)
            states.append((shard.breaker.state, shard.breaker.failures))
            if shard.breaker.state is State.OPEN:
                break
    assert states == [(State.CLOSED, 1)] * 4 + [(State.CLOSED, 2)] * 4 + [(State.OPEN, 3)]


def test_back_in_steps() -> None:
    """After an answered probe one call is sent, then two, then four, until the shard is back."""
    dialer = FakeDialer([TimeoutError(), *[b"1"] * 10])
    events = []
    shard = shard_of(dialer, events=events)
    outcome(shard)
    shard.probe_succeeded()
    states = []
    for _ in range(5):
        outcome(shard)
        states.append((shard.breaker.state, shard.breaker.allowance))
    half = State.HALF_OPEN
    assert states == [(half, 2), (half, 4), (half, 8), (half, 16), (State.CLOSED, 0)]
    assert [event.kind for event in events] == ["shard_out", "shard_back"]


def test_half_open_failure_opens_again() -> None:
    """A failure on trial takes the shard out again, and the prober starts again."""
    dialer = FakeDialer([TimeoutError(), ConnectionResetError()])
    shard = shard_of(dialer)
    outcome(shard)
    shard.probe_succeeded()
    assert [outcome(shard), outcome(shard), shard.probes_asked] == [ShardUnavailable, ShardOut, 2]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), ErrorReply("WRONGTYPE x"), WrongTopology("a", "x")]
)
def test_trial_place_is_given_back(error) -> None:
    """A call on trial that ends in any other way gives its place back to the breaker."""
    dialer = FakeDialer([TimeoutError(), error, b"1"])
    shard = shard_of(dialer)
    outcome(shard)
    shard.probe_succeeded()
    with pytest.raises((KeyboardInterrupt, WrongType, ShardUnavailable, WrongTopology)):
        shard.call(b"", 1.0, TWICE)
    if shard.breaker.state is State.HALF_OPEN:
        assert shard.breaker.trials == 0


def test_trial_place_is_given_back_by_an_interrupted_fan_out() -> None:
    """An interrupt while a fan-out connects gives back the trial place of the next shard."""
    dialer = FakeDialer([TimeoutError(), b"1"])
    shard = shard_of(dialer)
    outcome(shard)
    shard.probe_succeeded()
    dialer.refuses = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run_exchange([shard], [Batch(0, [(b"GET", b"k")], True)], 1.0, dialer.clock)
    assert (shard.breaker.state, shard.breaker.trials) == (State.HALF_OPEN, 0)


def test_trials_of_the_parent_do_not_bind_a_fork() -> None:
    """A call on trial in a thread of the parent takes no place in a forked child."""
    dialer = FakeDialer([TimeoutError(), b"1"])
    shard = shard_of(dialer)
    outcome(shard)
    shard.probe_succeeded()
    shard.admit()
    shard.after_fork()
    assert outcome(shard) == b"1"


def test_child_starts_a_prober_of_its_own() -> None:
    """In a fork of a process whose shard was out, the first call starts to probe."""
    shard = shard_of(FakeDialer([TimeoutError()]))
    outcome(shard)
    shard.after_fork()
    assert [outcome(shard), outcome(shard), shard.probes_asked] == [ShardOut, ShardOut, 2]


@pytest.mark.parametrize(
    "error",
    [ConnectionRefusedError(), AuthenticationFailed("a", "x"), RuntimeError("the vault is sealed")],
    ids=["refused", "login", "credential provider"],
)
# A thread that dies of an exception is reported as a warning; what matters here is that the shard
# comes back.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_prober_outlives_any_failure(error) -> None:
    """Whatever a probe meets, the prober goes on, and the shard comes back when it can."""
    dialer = FakeDialer([TimeoutError(), b"PONG"])
    dialer.shard = "probed for " + type(error).__name__
    shard = shard_of(dialer, Shard)
    dialer.refuses_later = error
    first = outcome(shard)
    until(lambda: shard.tally.probes >= 3 or not prober_lives(dialer.shard))
    dialer.refuses_later = dialer.refuses = None
    until(lambda: shard.breaker.state is State.HALF_OPEN or not prober_lives(dialer.shard))
    shard.close()
    assert (first, shard.breaker.state) == (ShardTimeout, State.HALF_OPEN)


def test_close_ends_the_prober() -> None:
    """After close nothing probes, and every call raises."""
    dialer = FakeDialer([TimeoutError()])
    dialer.shard = "closed"
    shard = shard_of(dialer, Shard)
    dialer.refuses_later = ConnectionRefusedError()
    outcome(shard)
    shard.close()
    until(lambda: not prober_lives(dialer.shard))
    assert outcome(shard) in (ClientClosed, ShardOut)
