"""Checkouts of a shard that a test times, with connections of which it says what comes."""

from shardcache.drivers.sync.checkout import Checkout
from shardcache.drivers.sync.shard import Shard
from shardcache.flows import Batch
from shardcache.policy.breaker import Breaker, BreakerPolicy, State

__all__ = (
    "TIMEOUT",
    "UNDO",
    "WORK",
    "FakeConnection",
    "FakeDialer",
    "end_of",
    "on_trial",
    "shard_of",
    "used",
)


TIMEOUT = 1.0
WORK = Batch(0, [(b"SET", b"k", b"v")], True)
UNDO = WORK._replace(compensates=True)


class FakeConnection:
    """A connection of which nothing has come yet, unless ``replies`` or ``error`` says so."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.open = True
        self.replies: list[object] = []
        self.error: Exception | None = None
        self.sent: list[bytes] = []
        self.finishing = False
        self.read_by: float | None = None  # when the server closes it
        self.waits: list[float] = []

    def finish(self) -> None:
        self.finishing = True

    def is_finished(self, until: float) -> bool:
        self.waits.append(until)
        return self.read_by is not None and self.read_by <= until

    def stale(self) -> bool:
        return False

    def close(self) -> None:
        self.open = False

    def feed(self) -> None:
        if self.error is not None:
            raise self.error

    def drain(self, into: list[object], count: int) -> bool:
        into += self.replies[:count]
        return len(into) == count

    def send_some(self, payload: bytes) -> None:
        self.sent.append(payload)


class FakeDialer:
    """Opens fake connections, or raises ``error``."""

    shard = "a"

    def __init__(self) -> None:
        self.now = 100.0
        self.error: BaseException | None = None
        self.made: list[FakeConnection] = []

    def watch(self, user) -> None:
        """There is no name to look up."""

    def clock(self) -> float:
        return self.now

    def __call__(self, deadline: float, generation: int = 0) -> FakeConnection:
        if self.error is not None:
            raise self.error
        self.made.append(FakeConnection(generation))
        return self.made[-1]


class Unprobed(Shard):
    """A shard whose prober is the test."""

    def start_probing(self) -> None:
        """Start nothing."""


def shard_of(dialer: FakeDialer, failures: int = 3) -> Shard:
    breaker = Breaker(BreakerPolicy(failures, 0.001, 0.001))
    return Unprobed(dialer, breaker, max_idle=8, timeout=TIMEOUT, hook=None, random=lambda: 0.0)


def on_trial(shard: Shard, allowance: int = 8) -> None:
    """Have the breaker let that many calls through."""
    shard.breaker.state = State.OPEN
    shard.probe_succeeded()
    shard.breaker.allowance = allowance


def used(shard: Shard, *, kept: bool = False, until: float | None = None) -> Checkout:
    """Return a checkout with a connection: one of the pool if it is ``kept``."""
    now = shard.clock()
    if kept:
        shard.pool.release(shard.pool.open(now + TIMEOUT))
    use = Checkout(shard, now, now + TIMEOUT, until)
    use.acquire()
    return use


def end_of(connection: FakeConnection, shard: Shard) -> str:
    """Say where a connection has come to."""
    if not connection.open:
        return "closed"
    if any(late.connection is connection for late in shard.overdue.by_thread.values()):
        return "overdue"
    if connection in shard.overdue.broken_off:
        return "broken off"
    return "pool" if connection in list(shard.pool._idle) else "in use"
