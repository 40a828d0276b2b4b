"""Connections whose replies nobody waited for, and what is sent behind them."""

import pytest

from shardcache.drivers.sync.checkout import Checkout
from shardcache.errors import (
    ShardOut,
    ShardTimeout,
)
from shardcache.policy.breaker import State
from tests.drivers.checkouts import (
    TIMEOUT,
    UNDO,
    WORK,
    FakeDialer,
    on_trial,
    shard_of,
    used,
)


def test_in_order() -> None:
    """A broadcast goes behind overdue replies of its thread, and takes over their due time."""
    dialer = FakeDialer()
    shard = shard_of(dialer)
    use = used(shard)
    use.keep(1, 100.5)
    behind = Checkout(shard, 100.1, 101.1)
    assert behind.acquire_in_order(WORK, b"", 1) is dialer.made[0]
    assert (behind.owed, behind.due, len(shard.overdue)) == (1, 100.5, 0)


@pytest.mark.parametrize(
    ("batch", "sent"), [(WORK, []), (UNDO, [b"payload"])], ids=["work", "undo"]
)
def test_overdue(batch, sent) -> None:
    """An overdue reply is a timeout; only what compensates is sent behind it."""
    dialer = FakeDialer()
    shard = shard_of(dialer)
    used(shard).keep(1, 100.5)
    dialer.now = 100.6
    use = Checkout(shard, 100.6, 101.6)
    with pytest.raises(ShardTimeout):
        use.acquire_in_order(batch, b"payload", 1)
    connection = dialer.made[0]
    assert (use.over, connection.open, connection.sent) == (True, False, sent)
    assert shard.breaker.state is State.OPEN


def test_owes_too_much() -> None:
    """A connection that owes many replies is left alone, but by what compensates."""
    dialer = FakeDialer()
    shard = shard_of(dialer)
    on_trial(shard)
    used(shard).keep(8, 101.0)
    use = Checkout(shard, 100.1, 101.1)
    with pytest.raises(ShardOut, match="has 8 requests still to answer"):
        use.acquire_in_order(WORK, b"", 1)
    assert (use.over, len(shard.overdue), shard.breaker.trials) == (True, 1, 0)
    assert Checkout(shard, 100.1, 101.1).acquire_in_order(UNDO, b"", 1) is dialer.made[0]


@pytest.mark.parametrize("places", [1, 2])
def test_late_answer_has_no_place(places) -> None:
    """An answer that nobody waited for counts as one, and gives back nobody's place."""
    dialer = FakeDialer()
    shard = shard_of(dialer)
    on_trial(shard)
    used(shard).keep(1, 101.0)
    dialer.made[0].replies = [b"1"]
    uses = [Checkout(shard, 100.1, 101.1) for _ in range(places)]
    uses[0].acquire_in_order(WORK, b"", 1)
    assert (shard.breaker.allowance, shard.breaker.trials) == (16, places)


def test_what_undoes_waits_for_what_was_broken_off() -> None:
    """It is sent when the server has read all that came before; other commands do not wait."""
    shard = shard_of(dialer := FakeDialer())
    use = used(shard)
    use.abandon()
    use.abandon()
    [first] = dialer.made
    assert (first.finishing, first.open) == (True, True)
    now = dialer.now
    Checkout(shard, now, now + TIMEOUT).acquire_in_order(WORK, b"", 1)
    assert first.waits == []
    # With three shards still to be asked, this one has a quarter of the time.
    first.read_by = now + 0.25 * TIMEOUT
    Checkout(shard, now, now + TIMEOUT).acquire_in_order(UNDO, b"", 3)
    assert (first.waits, first.open) == ([now + 0.25 * TIMEOUT], False)
    Checkout(shard, now, now + TIMEOUT).acquire_in_order(UNDO, b"", 3)
    assert len(first.waits) == 1


def test_a_server_that_hangs_holds_up_nothing_for_long() -> None:
    """Then what undoes is sent all the same; the next one looks again."""
    shard = shard_of(dialer := FakeDialer())
    used(shard).abandon()
    [first] = dialer.made
    for _ in range(2):
        Checkout(shard, dialer.now, dialer.now + TIMEOUT).acquire_in_order(UNDO, b"", 1)
    assert (len(first.waits), first.open) == (2, True)
    shard.close()
    assert not first.open


def test_few_wait_to_be_read() -> None:
    """A storm of interruptions leaves few connections; the oldest are closed."""
    shard = shard_of(dialer := FakeDialer())
    for _ in range(10):
        used(shard).abandon()
    assert [made.open for made in dialer.made] == [False] * 6 + [True] * 4
