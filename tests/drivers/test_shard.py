"""Calls to one shard, with a fake clock and connections that do as they are told."""

import re

import pytest

from shardcache.errors import (
    AccessDenied,
    AuthenticationFailed,
    OutOfMemory,
    OutOfStep,
    ShardTimeout,
    ShardUnavailable,
    WrongTopology,
    WrongType,
)
from shardcache.resp import ErrorReply, OpGroup
from tests.drivers.fake_dialer import TWICE, FakeDialer, outcome, shard_of

PAIR = OpGroup(TWICE, TWICE)


@pytest.mark.parametrize(
    ("answers", "found", "connections"),
    [
        ([b"1", 2], [b"1", 2], 1),
        ([ConnectionResetError(), b"1", 2], [b"1", 2], 2),
        ([b"1", ConnectionResetError(), b"3", None], [b"3", None], 2),
        ([b"1", "text"], OutOfStep, 1),
        ([ConnectionResetError(), ConnectionResetError()], ShardUnavailable, 2),
        ([ConnectionResetError(), b"1", "text"], OutOfStep, 2),
    ],
    ids=["answered", "dead", "dead after one", "odd", "dead twice", "dead, then odd"],
)
def test_group(answers, found, connections) -> None:
    """A group has all its replies, checked each by its own kind; or one error, after one retry."""
    dialer = FakeDialer([b"first", *answers])
    shard = shard_of(dialer)
    shard.call(b"payload", 1.0, TWICE)
    if isinstance(found, list):
        assert shard.call(b"payload", 1.0, PAIR) == found
    else:
        with pytest.raises(found):
            shard.call(b"payload", 1.0, PAIR)
    assert len(dialer.connections) == connections
    assert dialer.connections[-1].open is isinstance(found, list)


def test_error_reply_in_a_group() -> None:
    """The error of one command stands in its place, and says of the shard what it says alone."""
    dialer = FakeDialer([b"1", ErrorReply("WRONGTYPE x"), ErrorReply("LOADING x"), b"2"])
    shard = shard_of(dialer)
    first = shard.call(b"payload", 1.0, PAIR)
    assert (first[0], type(first[1]), shard.breaker.failures) == (b"1", WrongType, 0)
    second = shard.call(b"payload", 1.0, PAIR)
    assert (type(second[0]), second[1], shard.breaker.failures) == (ShardUnavailable, b"2", 1)


BROKEN = [ConnectionResetError(), BrokenPipeError(), ConnectionAbortedError(), OSError("odd")]


@pytest.mark.parametrize("error", BROKEN, ids=repr)
@pytest.mark.parametrize("idempotent", [True, False])
def test_dead_kept_connection(error, idempotent) -> None:
    """A kept connection that is dead is replaced once, only for idempotent commands."""
    dialer = FakeDialer([b"1", error, b"2"])
    shard = shard_of(dialer)
    assert [outcome(shard), outcome(shard, idempotent=idempotent)] == [
        b"1",
        b"2" if idempotent else ShardUnavailable,
    ]
    assert (dialer.sent, shard.tally.retries, shard.tally.failures) == (
        (3, 1, 0) if idempotent else (2, 0, 1)
    )
    assert dialer.connections[0].open is False


def test_fresh_connection_is_not_retried() -> None:
    """A connection opened for this call that breaks is a failure at once."""
    dialer = FakeDialer([ConnectionResetError()])
    assert (outcome(shard_of(dialer)), dialer.sent) == (ShardUnavailable, 1)


def test_retried_once_only() -> None:
    """The second break is the shard's failure."""
    dialer = FakeDialer([b"1", ConnectionResetError(), ConnectionResetError(), b"never"])
    shard = shard_of(dialer)
    assert [outcome(shard), outcome(shard)] == [b"1", ShardUnavailable]
    assert (dialer.sent, [connection.open for connection in dialer.connections]) == (
        3,
        [False, False],
    )


@pytest.mark.parametrize(
    ("error", "kind"), [(TimeoutError(), ShardTimeout), (OutOfStep("a", "odd"), OutOfStep)]
)
def test_no_retry_after_timeout_or_nonsense(error, kind) -> None:
    """After a timeout or a broken protocol nothing is sent again, and the connection is closed."""
    dialer = FakeDialer([b"1", error, b"never"])
    shard = shard_of(dialer)
    assert [outcome(shard), outcome(shard)] == [b"1", kind]
    assert (dialer.sent, dialer.connections[0].open, shard.idle()) == (2, False, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, GeneratorExit])
def test_interrupt_closes_the_link(error) -> None:
    """An interrupt in a call closes the connection: its reply is still to come (G1)."""
    dialer = FakeDialer([b"1", error(), b"2"])
    shard = shard_of(dialer)
    shard.call(b"", 1.0, TWICE)
    with pytest.raises(error):
        shard.call(b"", 1.0, TWICE)
    assert (dialer.connections[0].open, shard.idle(), outcome(shard), len(dialer.connections)) == (
        False,
        0,
        b"2",
        2,
    )


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("WRONGTYPE x", WrongType),
        ("OOM x", OutOfMemory),
        ("NOPERM x", AccessDenied),
        ("NOAUTH x", AuthenticationFailed),
        ("LOADING x", ShardUnavailable),
        ("MASTERDOWN x", ShardUnavailable),
        ("ERR value is not an integer or out of range", WrongType),
        (
            (
                "ERR Error running script (call to f_1): @user_script:6: WRONGTYPE "
                "Operation against a key"
            ),
            WrongType,
        ),
    ],
)
def test_error_replies(reply, kind) -> None:
    """An error reply leaves the connection in use; only "not serving" counts against the shard."""
    dialer = FakeDialer([ErrorReply(reply), b"1"])
    shard = shard_of(dialer)
    assert (outcome(shard), shard.breaker.failures) == (kind, int(kind is ShardUnavailable))
    assert (outcome(shard), len(dialer.connections), shard.breaker.failures) == (b"1", 1, 0)


def test_refused_connections_are_named() -> None:
    """A connection that cannot be made names the shard, says why, and carries the cause."""
    dialer = FakeDialer([])
    dialer.refuses = ConnectionRefusedError(111, "Connection refused")
    with pytest.raises(ShardUnavailable, match=r"shard 'a': cannot connect: .*refused") as caught:
        shard_of(dialer).call(b"", 1.0, TWICE)
    assert caught.value.__cause__ is dialer.refuses


@pytest.mark.parametrize("kind", [WrongTopology, AuthenticationFailed])
def test_configuration_errors(kind) -> None:
    """At the first connection a wrong role or login is an error; later it puts the shard out."""
    dialer = FakeDialer([b"1", OutOfStep("a", "x")])
    dialer.refuses = kind("a", "no")
    shard = shard_of(dialer)
    first = outcome(shard)
    dialer.refuses = None
    assert (first, outcome(shard), outcome(shard)) == (kind, b"1", OutOfStep)
    dialer.refuses = kind("a", "no")
    assert outcome(shard) is ShardUnavailable


def test_link_in_use_at_close_is_closed_when_it_comes_back() -> None:
    """A call under way at close ends with its answer; its connection is not kept."""
    dialer = FakeDialer([])
    shard = shard_of(dialer)

    def answer():
        shard.close()
        return b"1"

    dialer.next = answer
    assert (outcome(shard), shard.idle(), dialer.connections[0].open) == (b"1", 0, False)


@pytest.mark.parametrize(
    ("answer", "suspects"),
    [
        (ConnectionResetError("gone"), True),
        (TimeoutError(), True),
        (ErrorReply("READONLY You can't write against a read only replica."), True),
        (ErrorReply("LOADING Redis is loading the dataset in memory"), True),
        (OutOfStep("a", "nonsense"), False),
        (ErrorReply("WRONGTYPE Operation against a key holding the wrong kind"), False),
        (b"PONG", False),
    ],
    ids=["lost", "silent", "replica", "loading", "out of step", "wrong type", "answer"],
)
def test_suspicion(answer, suspects) -> None:
    """What may mean that the server has moved, or is a replica now, is told; nothing else is."""
    told = []
    shard = shard_of(FakeDialer([answer]))
    shard.suspect = lambda: told.append(1)
    outcome(shard)
    assert bool(told) is suspects


def test_suspicion_of_another_role() -> None:
    """A server that is a replica when it is connected to raises the suspicion too."""
    told = []
    dialer = FakeDialer([])
    dialer.refuses = WrongTopology("a", "is a replica")
    shard = shard_of(dialer)
    shard.suspect = lambda: told.append(1)
    assert outcome(shard) is WrongTopology
    assert told


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (0.1, "within the 0.1 s that it has in this step of the call"),
        (None, r"within the deadline \(\d+ s for the whole call\)"),
    ],
    ids=["a voter", "a call"],
)
@pytest.mark.parametrize("dialled", [True, False])
def test_timeout_says_what_was_over(given, says, dialled) -> None:
    """The time of one voter is not called that of the whole call."""
    shard = shard_of(FakeDialer([]))
    deadline = 5.0 + (shard.timeout if given is None else given)
    found = shard.record_failure(TimeoutError(), dialled=dialled, began=5.0, deadline=deadline)
    assert isinstance(found, ShardTimeout)
    assert re.search(f"no {'connection' if dialled else 'reply'} {says}", str(found))
