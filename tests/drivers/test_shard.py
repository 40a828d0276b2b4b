"""One shard and its runner, with a fake clock and connections that do as they are told."""

import threading

import pytest

from shardcache.drivers import Runner, Shard
from shardcache.errors import (
    AccessDenied,
    AuthenticationFailed,
    ClientClosed,
    OutOfMemory,
    OutOfStep,
    ShardOut,
    ShardTimeout,
    ShardUnavailable,
    WrongTopology,
    WrongType,
)
from shardcache.flows import Batch
from shardcache.policy.breaker import Breaker, BreakerPolicy, State
from shardcache.resp import ErrorReply, Op


class FakeConnection:
    """A connection that answers, or raises, what the script says next."""

    def __init__(self, dialer, generation: int) -> None:
        self.dialer = dialer
        self.generation = generation
        self.open = True

    def call(self, payload: bytes, deadline: float, values: int = 0):
        assert self.open
        self.dialer.sent += 1
        return self.dialer.next()

    def stale(self) -> bool:
        return False

    def close(self) -> None:
        self.open = False


class FakeDialer:
    """Opens fake connections; connecting itself fails while ``refuses`` is set."""

    shard = "a"

    def __init__(self, script) -> None:
        self.script = list(script)
        self.connections: list[FakeConnection] = []
        self.refuses: BaseException | None = None
        self.refuses_later: BaseException | None = None  # every connection but the first
        self.sent = 0
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def next(self):
        answer = self.script.pop(0)
        if isinstance(answer, BaseException) and not isinstance(answer, ErrorReply):
            raise answer
        return answer

    def __call__(self, deadline: float, generation: int = 0) -> FakeConnection:
        if self.refuses is not None:
            raise self.refuses
        self.refuses = self.refuses_later
        connection = FakeConnection(self, generation)
        self.connections.append(connection)
        return connection


class Quiet(Shard):
    """A shard whose prober is the test."""

    __slots__ = ("knocked",)

    def start_probing(self) -> None:
        if self._prober is None:
            self._prober = object()
            self.knocked = getattr(self, "knocked", 0) + 1

    def probe_succeeded(self) -> None:
        self._prober = None
        super().probe_succeeded()


def shard_of(dialer: FakeDialer, kind=Quiet, failures: int = 3, events=None) -> Shard:
    hook = None if events is None else events.append
    policy = BreakerPolicy(failures, 0.001, 0.001)
    return kind(dialer, Breaker(policy), max_idle=8, timeout=1.0, hook=hook, random=lambda: 0.0)


KINDS = frozenset({bytes, int, type(None), ErrorReply})
TWICE = Op(
    "idempotent",
    idempotent=True,
    writes=False,
    degraded=None,
    read=lambda reply: reply,
    reply_types=KINDS,
)
ONCE = Op(
    "once",
    idempotent=False,
    writes=False,
    degraded=None,
    read=lambda reply: reply,
    reply_types=KINDS,
)


def outcome(shard: Shard, *, idempotent: bool = True):
    try:
        return shard.call(b"payload", 1.0, ONCE if not idempotent else TWICE)
    except Exception as error:
        return type(error)


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


def test_breaker_opens_after_failures_in_a_row() -> None:
    """Three failures in a row open the breaker, an answer in between starts the count again."""
    reset = ConnectionResetError
    dialer = FakeDialer([reset(), reset(), b"1", reset(), reset(), reset()])
    events = []
    shard = shard_of(dialer, events=events)
    found = [outcome(shard, idempotent=False) for _ in range(8)]
    down = ShardUnavailable
    assert found == [down, down, b"1", down, down, down, ShardOut, ShardOut]
    assert (shard.knocked, [event.kind for event in events], dialer.sent) == (1, ["shard_out"], 6)


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
    assert [outcome(shard), outcome(shard), shard.knocked] == [ShardUnavailable, ShardOut, 2]


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
    runner = Runner([shard], 1.0, dialer.clock)
    with pytest.raises(KeyboardInterrupt):
        runner.exchange([Batch(0, [(b"GET", b"k")], True)])
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
    assert [outcome(shard), outcome(shard), shard.knocked] == [ShardOut, ShardOut, 2]


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


def prober_lives(name: str) -> bool:
    return any(thread.name.endswith(f"prober of {name}") for thread in threading.enumerate())


def wait_for(condition) -> None:
    """Wait until another thread has done its part; the limit on each test ends it."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.001)


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
    wait_for(lambda: shard.tally.probes >= 3 or not prober_lives(dialer.shard))
    dialer.refuses_later = dialer.refuses = None
    wait_for(lambda: shard.breaker.state is State.HALF_OPEN or not prober_lives(dialer.shard))
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
    wait_for(lambda: not prober_lives(dialer.shard))
    assert outcome(shard) in (ClientClosed, ShardOut)


def test_link_in_use_at_close_is_closed_when_it_comes_back() -> None:
    """A call under way at close ends with its answer; its connection is not kept."""
    dialer = FakeDialer([])
    shard = shard_of(dialer)

    def answer():
        shard.close()
        return b"1"

    dialer.next = answer
    assert (outcome(shard), shard.idle(), dialer.connections[0].open) == (b"1", 0, False)
