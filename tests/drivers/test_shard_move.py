"""A shard whose address changes while it is used."""

import threading
from collections import deque

import pytest

from shardcache.drivers import Shard
from shardcache.errors import (
    ShardOut,
    ShardTimeout,
    ShardUnavailable,
)
from shardcache.policy.breaker import State
from shardcache.urls import Address
from tests.drivers.fake_dialer import (
    TWICE,
    FakeConnection,
    FakeDialer,
    outcome,
    prober_lives,
    shard_of,
)
from tests.waiting import until

ELSEWHERE = Address("127.0.0.2", 1)


def test_move_closes_what_lies_idle() -> None:
    """The next call goes to the new address, and the hook hears of the move, once."""
    dialer = FakeDialer([b"1", b"2"])
    events = []
    shard = shard_of(dialer, events=events)
    outcome(shard)
    shard.move(ELSEWHERE)
    shard.move(ELSEWHERE)
    assert (dialer.address, shard.idle(), dialer.connections[0].open) == (ELSEWHERE, 0, False)
    assert (outcome(shard), len(dialer.connections)) == (b"2", 2)
    assert [event.kind for event in events] == ["shard_moved"]
    assert shard.stats().moves == 1


@pytest.mark.parametrize("answer", [b"1", ConnectionResetError(), TimeoutError()], ids=repr)
@pytest.mark.parametrize("idempotent", [True, False])
def test_call_under_way_when_it_moves(answer, idempotent) -> None:
    """Its connection is not kept; what fails on it says nothing about the new address."""
    dialer = FakeDialer([b"0"])
    shard = shard_of(dialer, failures=1)
    outcome(shard)

    def move():
        dialer.now = 0.5
        shard.move(ELSEWHERE)
        dialer.next = lambda: b"2"
        if isinstance(answer, BaseException):
            raise answer
        return answer

    dialer.next = move
    again = isinstance(answer, ConnectionResetError) and idempotent
    assert outcome(shard, idempotent=idempotent) == (
        b"1"
        if answer == b"1"
        else b"2"
        if again
        else ShardTimeout
        if isinstance(answer, TimeoutError)
        else ShardUnavailable
    )
    assert (dialer.connections[0].open, shard.idle(), shard.breaker.state) == (
        False,
        int(again),
        State.CLOSED,
    )
    assert shard.breaker.failures == 0


def test_connection_that_was_being_opened_when_it_moved() -> None:
    """It may go to the former address, so it is used by the call that opened it, and closed."""

    class Slow(FakeDialer):
        def __call__(self, deadline: float, generation: int = 0) -> FakeConnection:
            connection = super().__call__(deadline, generation)
            shard.move(ELSEWHERE)
            return connection

    dialer = Slow([b"1"])
    shard = shard_of(dialer)
    assert (outcome(shard), shard.idle(), dialer.connections[0].open) == (b"1", 0, False)


def test_given_back_in_the_moment_of_the_move() -> None:
    """Between the look at the generation and the end of the release the shard may move."""
    dialer = FakeDialer([])
    shard = shard_of(dialer)
    connection = shard.pool.open(1.0)

    class Idle(deque):
        def append(self, item) -> None:
            shard.move(ELSEWHERE)
            super().append(item)

    shard.pool._idle = Idle()
    shard.pool.release(connection)
    assert (shard.idle(), connection.open) == (0, False)


def test_move_of_a_shard_that_is_out() -> None:
    """It is on trial at once: the first call goes to the new address, without waiting for a probe.

    The prober of the former address ends.
    """
    dialer = FakeDialer([TimeoutError(), b"1"])
    dialer.shard = "moved while out"
    shard = shard_of(dialer, Shard)
    dialer.refuses_later = ConnectionRefusedError()
    assert outcome(shard) is ShardTimeout
    assert outcome(shard) is ShardOut
    dialer.now = 2.0
    shard.move(ELSEWHERE)
    dialer.refuses_later = dialer.refuses = None
    assert shard.call(b"payload", 3.0, TWICE) == b"1"
    until(lambda: not prober_lives(dialer.shard))
    assert shard.breaker.state is State.HALF_OPEN
    shard.close()


def test_probe_of_the_former_address() -> None:
    """A probe that was under way when the shard moved puts nothing in service."""
    dialer = FakeDialer([TimeoutError(), b"PONG"])
    dialer.shard = "moved while probed"
    probed, go = threading.Event(), threading.Event()

    class Watched(Shard):
        __slots__ = ()

        def probe(self, deadline=None):
            connection = super().probe(deadline)
            probed.set()
            go.wait(20)
            return connection

    shard = shard_of(dialer, Watched)
    outcome(shard)
    assert probed.wait(20)
    former = shard._prober
    shard.move(ELSEWHERE)
    # The new address does not answer, so the shard is out again, and has another prober.
    dialer.refuses = TimeoutError()
    with pytest.raises(ShardTimeout):
        shard.call(b"payload", 4.0, TWICE)
    go.set()
    until(lambda: not former.is_alive())
    assert (shard.breaker.state, dialer.connections[1].open) == (State.OPEN, False)
    shard.close()
