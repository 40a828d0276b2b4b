"""Many missing keys on a slow machine: real flows, simulated servers, virtual time."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest

from shardcache import LoadPolicy, Options
from shardcache.errors import ShardTimeout
from shardcache.flows.budget import Budget
from shardcache.flows.context import ClientContext
from shardcache.flows.load import LoadContext
from shardcache.flows.lock.planner import LockPlanner
from shardcache.flows.steps import (
    Broadcast,
    Exchange,
    FlightResult,
    Flow,
    Load,
    ServerRun,
    SingleFlight,
    Step,
    gather,
)
from shardcache.loading.loader_base import LoaderBase
from shardcache.stats import LoadTally
from shardcache.testing.simulation.database import Database
from shardcache.testing.simulation.load_scripts import execute
from shardcache.topology.nodes import members

TIMEOUT = 0.5


class Machine:
    """Three servers and one process.

    Each exchange takes as many seconds as ``takes`` says next; a call of the loader, ``loading``.
    """

    def __init__(
        self, takes: Iterable[float], loading: float = 0.0, options: Options | None = None
    ) -> None:
        self.now = 1000.0
        self.takes = iter(takes)
        self.loading = loading
        self.out: list[float] = []  # what took longer than a server may
        self.batches: list[int] = []
        self.dbs = [Database() for _ in range(3)]
        self.client_context = context = ClientContext(
            members([f"redis://{name}" for name in ("one", "two", "three")]),
            namespace="",
            default_ttl=60,
            serializer="safe",
            compression=None,
            timeout=TIMEOUT,
            on_unavailable="degrade",
            options=options,
        )
        numbers = iter(range(10**9))
        self.context = LoadContext(
            codec=context.codec,
            reply_policy=context.reply_policy,
            planner=LockPlanner(context),
            clock=lambda: self.now,
            random=lambda: 0.5,
            new_token=lambda kind: b"%b-%d" % (kind.encode(), next(numbers)),
            version=lambda: bytes(16),
            tally=LoadTally(),
            timeout=TIMEOUT,
            batch=context.options.load_batch,
            salt=lambda: bytes(16),
        )

    def load_many(self, keys: list[str]) -> dict[Any, Any]:
        budget = self.context.budget()
        flow = LoaderBase(self.client_context, self.context).loaded_many(
            keys, self.loader, 60, LoadPolicy(), None, budget
        )
        return self.run(flow, budget)

    def loader(self, keys: list[str]) -> dict[str, str]:
        self.batches.append(len(keys))
        return dict.fromkeys(keys, "value")

    @property
    def stored(self) -> int:
        return sum(1 for db in self.dbs for key in db.values if key.startswith(b"key:"))

    def run(self, flow: Flow[Any], budget: Budget | None) -> Any:
        outcome: Any = None
        try:
            while True:
                outcome = self.do(flow.send(outcome), budget)
        except StopIteration as end:
            return end.value

    def do(self, step: Step, budget: Budget | None) -> Any:
        match step:
            case Exchange(batches):
                asking, outcomes = gather(batches, TIMEOUT)
                self.do(asking, budget)
                return outcomes
            case Broadcast():
                if budget is None:
                    return self.ask(step)
                with budget.spent() as limit:
                    return self.ask(replace(step, limit=min(step.limit, limit)))
            case SingleFlight():
                return FlightResult(self.run(step.work(step.wires), step.budget))
            case Load():
                end = self.now + self.loading
                while self.now + step.gap < end:
                    self.now += step.gap
                    self.run(step.renew(), None)
                self.now = max(self.now, end)
                return step.loader()
        raise AssertionError(step)

    def ask(self, step: Broadcast) -> None:
        """Everything arrives halfway, and is answered at the end, if anybody still waits for it."""
        takes = next(self.takes)
        waits = min(step.timeout, step.limit)
        if takes > step.timeout:
            self.out.append(takes)
        began = self.now
        answers = []
        for batch in step.batches:
            db = self.dbs[batch.shard]
            db.now = int((began + takes / 2) * 1e6)
            answers.append([execute(db, command) for command in batch.commands])
        if step.on_reply is None:
            return
        self.now = began + min(takes, waits)
        for place, (batch, replies) in enumerate(zip(step.batches, answers, strict=True)):
            name = self.client_context.topology.known[batch.shard].node.name
            if takes > waits:
                step.on_reply(place, ShardTimeout(name, "late"), None)
            elif step.on_reply(place, replies, ServerRun(b"life-%d" % batch.shard, 1e6)):
                return


def lasting(seconds: float, longest: float, every: int) -> Callable[[], Iterable[float]]:
    return lambda: cycle([*[seconds] * (every - 1), longest])


@pytest.mark.parametrize(
    "takes",
    [lasting(0.49, 0.49, 1), lasting(0.1, 1.3, 7), lasting(0.01, 0.45, 2)],
    ids=["each-takes-long", "some-take-longer-than-a-call-may", "uneven"],
)
@pytest.mark.parametrize("keys", [150, 1100])
def test_everything_is_stored(takes: Callable[[], Iterable[float]], keys: int) -> None:
    """A slow exchange of many keys costs no value and takes no server out of service."""
    machine = Machine(takes())
    names = [f"key:{number}" for number in range(keys)]
    assert machine.load_many(names) == dict.fromkeys(names, "value")
    assert (
        machine.stored,
        machine.out,
        machine.context.tally.not_stored,
        machine.context.tally.alone,
    ) == (
        keys,
        [],
        0,
        0,
    )


def test_a_slow_loader_keeps_its_locks() -> None:
    """A call with a thousand keys that takes a minute, with slow renewals, stores them all."""
    machine = Machine(cycle([0.2]), loading=60.0)
    names = [f"key:{number}" for number in range(1000)]
    machine.load_many(names)
    assert (machine.batches, machine.stored, machine.context.tally.not_stored) == ([1000], 1000, 0)


@pytest.mark.parametrize(
    ("batch", "sizes"), [(1000, [1000, 210]), (7, [7] * 172 + [6]), (10_000, [1210])]
)
def test_how_many_keys_a_loader_gets(batch: int, sizes: list[int]) -> None:
    """As many as `Options.load_batch` says, whatever goes out to servers at once."""
    machine = Machine(cycle([0.001]), options=Options(load_batch=batch))
    names = [f"key:{number}" for number in range(1210)]
    assert len(machine.load_many(names)) == machine.stored == 1210
    assert machine.batches == sizes
