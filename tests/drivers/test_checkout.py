"""The checkout of a shard: every row of its table, and what holds in any order of events.

A place on trial is given back exactly once, and a connection ends in one place: in the pool, kept
as overdue, or closed.
"""

from contextlib import suppress

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shardcache.drivers.sync.checkout import Checkout
from shardcache.errors import (
    ClientClosed,
    OutOfStep,
    ReplyTooLarge,
    ShardError,
    ShardOut,
    ShardTimeout,
    ShardUnavailable,
)
from shardcache.policy.breaker import State
from shardcache.resp import ErrorReply
from tests.drivers.checkouts import (
    TIMEOUT,
    WORK,
    FakeConnection,
    FakeDialer,
    end_of,
    on_trial,
    shard_of,
    used,
)

RESET = ConnectionResetError()


ERRORS = [RESET, TimeoutError(), OutOfStep("a", "odd"), ReplyTooLarge("a", "much")]


# name: what ends the checkout, where its connection goes, the breaker's state and allowance after
ROWS = {
    "answer": (lambda use: use.succeed([b"1"]), "pool", (State.HALF_OPEN, 16)),
    "error reply": (
        lambda use: use.succeed([ErrorReply("WRONGTYPE x")]),
        "pool",
        (State.HALF_OPEN, 16),
    ),
    "does not serve": (
        lambda use: use.succeed([ErrorReply("LOADING x")]),
        "closed",  # with all that were idle in the pool
        (State.OPEN, 8),
    ),
    "kept": (lambda use: use.keep(1, 200.0), "overdue", (State.HALF_OPEN, 8)),
    "reset": (lambda use: use.fail(RESET), "closed", (State.OPEN, 8)),
    "timeout": (lambda use: use.fail(TimeoutError()), "closed", (State.OPEN, 8)),
    "nonsense": (lambda use: use.fail(OutOfStep("a", "odd")), "closed", (State.OPEN, 8)),
    "too much": (
        lambda use: use.fail(ReplyTooLarge("a", "much")),
        "closed",
        (State.HALF_OPEN, 8),
    ),
    "interrupt": (
        lambda use: use.recover(KeyboardInterrupt(), idempotent=True),
        "broken off",
        (State.HALF_OPEN, 8),
    ),
    "no second try": (
        lambda use: use.recover(RESET, idempotent=False),
        "closed",
        (State.OPEN, 8),
    ),
    "abandoned": (lambda use: use.abandon(), "broken off", (State.HALF_OPEN, 8)),
}


@pytest.mark.parametrize(("end", "where", "after"), ROWS.values(), ids=ROWS)
def test_end(end, where, after) -> None:
    """Each end gives back the place once, of several that are taken, and sees to the connection."""
    dialer = FakeDialer()
    shard = shard_of(dialer)
    on_trial(shard)
    others = [used(shard) for _ in range(2)]
    use = used(shard, kept=True)
    connection = dialer.made[-1]
    with suppress(ShardError, KeyboardInterrupt):
        end(use)
    breaker = shard.breaker
    assert (use.over, end_of(connection, shard)) == (True, where)
    assert (breaker.state, breaker.allowance) == after
    assert breaker.state is State.OPEN or breaker.trials == len(others)
    use.abandon()  # which has no effect any more
    assert breaker.state is State.OPEN or breaker.trials == len(others)
    assert end_of(connection, shard) == where


@pytest.mark.parametrize(
    ("error", "raised", "trials"),
    [
        (ConnectionRefusedError(), ShardUnavailable, None),
        (TimeoutError(), ShardTimeout, None),
        (ClientClosed("closed"), ClientClosed, 0),
        (KeyboardInterrupt(), KeyboardInterrupt, 0),
    ],
    ids=["refused", "timeout", "client closed", "interrupt"],
)
def test_no_connection(error, raised, trials) -> None:
    """A checkout that gets no connection is over; what is not the shard's doing is not counted."""
    dialer = FakeDialer()
    shard = shard_of(dialer)
    on_trial(shard)
    dialer.error = error
    use = Checkout(shard, 100.0, 101.0)
    with pytest.raises(raised):
        use.acquire()
    assert use.over
    assert shard.breaker.state is (State.OPEN if trials is None else State.HALF_OPEN)
    assert trials is None or shard.breaker.trials == trials


def test_caller_in_a_hurry_blames_nobody() -> None:
    """A connection that was not there within less than the timeout says nothing about the shard."""
    dialer = FakeDialer()
    shard = shard_of(dialer)
    on_trial(shard)
    dialer.error = TimeoutError()
    use = Checkout(shard, 100.0, 101.0, 100.1)
    with pytest.raises(ShardTimeout, match="did not answer in time"):
        use.acquire()
    assert (shard.breaker.state, shard.breaker.trials) == (State.HALF_OPEN, 0)
    assert shard.tally.failures == 0


def test_share_of_the_time_is_no_lonely_timeout() -> None:
    """A shard that had only a share of the time to connect has failed, but is not out for it."""
    dialer = FakeDialer()
    shard = shard_of(dialer)
    dialer.error = TimeoutError()
    with pytest.raises(ShardTimeout):
        Checkout(shard, 100.0, 101.0).acquire(parts=2)
    assert (shard.breaker.state, shard.breaker.failures) == (State.CLOSED, 1)


def test_breaker_says_no() -> None:
    """Nothing is taken of a shard that is out."""
    shard = shard_of(FakeDialer())
    shard.breaker.state = State.OPEN
    with pytest.raises(ShardOut):
        Checkout(shard, 100.0, 101.0)
    assert (shard.breaker.trials, shard.tally.refused_open) == (0, 1)


def test_second_try() -> None:
    """A dead kept connection is replaced by a new one, under the same place, once."""
    dialer = FakeDialer()
    shard = shard_of(dialer)
    on_trial(shard)
    use = used(shard, kept=True)
    again = use.recover(RESET, idempotent=True)
    assert (use.over, shard.breaker.trials, shard.tally.retries) == (False, 1, 1)
    assert [connection.open for connection in dialer.made] == [False, True]
    assert again is dialer.made[1]
    with pytest.raises(ShardUnavailable):
        use.recover(RESET, idempotent=True)
    assert (use.over, shard.breaker.state, shard.tally.failures) == (True, State.OPEN, 1)
    assert not dialer.made[1].open


@pytest.mark.parametrize(
    ("error", "kept", "idempotent"),
    [
        (RESET, False, True),
        (RESET, True, False),
        (TimeoutError(), True, True),
        (OutOfStep("a", "odd"), True, True),
    ],
    ids=["new connection", "not twice", "timeout", "nonsense"],
)
def test_no_second_try(error, kept, idempotent) -> None:
    """Only a dead kept connection, and only of commands that may be sent twice, is replaced."""
    dialer = FakeDialer()
    shard = shard_of(dialer)
    use = used(shard, kept=kept)
    with pytest.raises(ShardError):
        use.recover(error, idempotent=idempotent)
    assert (use.over, len(dialer.made), dialer.made[0].open) == (True, 1, False)


def test_second_try_without_a_connection() -> None:
    """A second try that cannot connect ends the checkout by that error."""
    dialer = FakeDialer()
    shard = shard_of(dialer)
    on_trial(shard)
    use = used(shard, kept=True)
    dialer.error = ConnectionRefusedError("refused")
    with pytest.raises(ShardUnavailable, match="cannot connect: refused"):
        use.recover(RESET, idempotent=True)
    assert (use.over, shard.breaker.state) == (True, State.OPEN)


def test_place_of_an_earlier_period() -> None:
    """Who was let through before the shard went out again has no place of the next trials."""
    shard = shard_of(FakeDialer())
    on_trial(shard)
    old, new = used(shard), used(shard)
    new.fail(RESET)
    on_trial(shard)
    new = used(shard)
    old.abandon()
    assert shard.breaker.trials == 1
    new.abandon()
    assert shard.breaker.trials == 0


def test_call_that_began_before_the_outage_has_no_place() -> None:
    """Who was let through while all was well gives back nothing, however it ends."""
    for end in (
        lambda use: use.abandon(),
        lambda use: use.succeed([b"1"]),
        lambda use: use.fail(ReplyTooLarge("a", "much")),
        lambda use: use.keep(1, 101.0),
    ):
        shard = shard_of(FakeDialer())
        old = used(shard)
        on_trial(shard)
        new = used(shard)
        end(old)
        assert shard.breaker.trials == 1
        new.abandon()


def test_nothing_is_kept_for_a_client_that_is_closed() -> None:
    """A waiter that gives up after the client was closed leaves no connection."""
    shard = shard_of(dialer := FakeDialer())
    use = used(shard)
    shard.close()
    use.abandon()
    assert [made.open for made in dialer.made] == [False]


class AnyOrder(RuleBasedStateMachine):
    """Checkouts that begin and end in any order, while the shard goes out and comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.dialer = FakeDialer()
        self.shard = shard_of(self.dialer)
        self.uses: list[tuple[Checkout, FakeConnection, int]] = []

    @rule(in_order=st.booleans(), reachable=st.booleans())
    def begin(self, in_order: bool, reachable: bool) -> None:
        self.dialer.error = None if reachable else ConnectionRefusedError()
        try:
            use = Checkout(self.shard, self.dialer.now, self.dialer.now + TIMEOUT)
        except ShardOut:
            return
        breaker = self.shard.breaker
        period = breaker.period if breaker.state is State.HALF_OPEN else 0
        try:
            connection = use.acquire_in_order(WORK, b"", 1) if in_order else use.acquire()
        except ShardError:
            assert use.over
        else:
            self.uses.append((use, connection, period))
        self.dialer.error = None

    def one(self, data: st.DataObject) -> tuple[Checkout, FakeConnection]:
        at = data.draw(st.integers(0, len(self.uses) - 1))
        use, connection, _ = self.uses.pop(at)
        return use, connection

    @precondition(lambda self: self.uses)
    @rule(data=st.data(), reply=st.sampled_from([b"1", ErrorReply("LOADING x"), None]))
    def succeed(self, data, reply) -> None:
        self.one(data)[0].succeed([reply])

    @precondition(lambda self: self.uses)
    @rule(data=st.data(), error=st.sampled_from(ERRORS))
    def fail(self, data, error) -> None:
        use, connection = self.one(data)
        assert isinstance(use.fail(error), ShardError)
        assert not connection.open

    @precondition(lambda self: self.uses)
    @rule(data=st.data(), idempotent=st.booleans(), reachable=st.booleans())
    def recover(self, data, idempotent: bool, reachable: bool) -> None:
        at = data.draw(st.integers(0, len(self.uses) - 1))
        use, connection, period = self.uses.pop(at)
        self.dialer.error = None if reachable else ConnectionRefusedError()
        try:
            self.uses.append((use, use.recover(RESET, idempotent=idempotent), period))
        except ShardError:
            assert use.over
        self.dialer.error = None
        assert not connection.open

    @precondition(lambda self: self.uses)
    @rule(data=st.data(), patience=st.floats(0.0, 2.0))
    def keep(self, data, patience: float) -> None:
        self.one(data)[0].keep(1, self.dialer.now + patience)

    @precondition(lambda self: self.uses)
    @rule(data=st.data())
    def abandon(self, data) -> None:
        use, connection = self.one(data)
        use.abandon()
        assert connection.finishing or not connection.open

    @rule(seconds=st.floats(0.0, 1.0))
    def pass_time(self, seconds: float) -> None:
        self.dialer.now += seconds

    @rule()
    def probe(self) -> None:
        self.shard.probe_succeeded()

    @rule()
    def late_answers(self) -> None:
        for late in self.shard.overdue.by_thread.values():
            late.connection.replies = [b"1"] * late.owed

    @invariant()
    def places_are_those_of_calls_under_way(self) -> None:
        breaker = self.shard.breaker
        if breaker.state is State.HALF_OPEN:
            assert breaker.trials == sum(period == breaker.period for *_, period in self.uses)

    @invariant()
    def connections_are_in_one_place(self) -> None:
        held = [connection for _, connection, _ in self.uses]
        kept = [late.connection for late in self.shard.overdue.by_thread.values()]
        known = [*held, *kept, *self.shard.pool._idle, *self.shard.overdue.broken_off]
        assert len(set(map(id, known))) == len(known)
        assert all(connection.open for connection in known)
        left = {id(made) for made in self.dialer.made if made.open} - set(map(id, known))
        assert left == set()


TestAnyOrder = AnyOrder.TestCase
