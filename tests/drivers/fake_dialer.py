"""A dialer whose connections do as they are told, and shards that connect by it."""

import threading

from shardcache.drivers import Shard
from shardcache.policy.breaker import Breaker, BreakerPolicy
from shardcache.resp import ErrorReply, Op
from shardcache.urls import Address

__all__ = ("ONCE", "TWICE", "FakeConnection", "FakeDialer", "outcome", "prober_lives", "shard_of")


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

    def call_many(self, payload: bytes, number: int, deadline: float, values: int = 0):
        return [self.call(payload, deadline, values) for _ in range(number)]

    def stale(self) -> bool:
        return False

    def close(self) -> None:
        self.open = False

    finish = close


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
        self.address = Address("127.0.0.1", 1)

    def move(self, address: Address) -> None:
        self.address = address

    def watch(self, user) -> None:
        """There is no name to look up."""

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

    __slots__ = ("probes_asked",)

    def start_probing(self) -> None:
        if self._prober is None:
            self._prober = object()
            self.probes_asked = getattr(self, "probes_asked", 0) + 1

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


def prober_lives(name: str) -> bool:
    return any(thread.name.endswith(f"prober of {name}") for thread in threading.enumerate())
