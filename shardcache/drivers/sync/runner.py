"""The sync driver: runs flows and single requests over a topology of shards, by the real clock."""

import inspect
import random
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Self, TypeVar

from shardcache.drivers.node_discovery import NodeDiscovery
from shardcache.drivers.shard_table import ShardTable
from shardcache.drivers.sync.broadcast import run_broadcast, run_exchange
from shardcache.drivers.sync.loaders import Loads
from shardcache.drivers.sync.shard import Shard
from shardcache.drivers.sync.single_flight import Flights
from shardcache.drivers.undo_log import UndoLog
from shardcache.errors import ShardError, ShardOut
from shardcache.events import Hook
from shardcache.flows.budget import Budget
from shardcache.flows.context import ClientContext
from shardcache.flows.operations import invalidated
from shardcache.flows.steps import (
    Batch,
    Broadcast,
    Exchange,
    Flow,
    Listen,
    Load,
    Outcome,
    SingleFlight,
    Sleep,
    Step,
    gather,
    last_reply,
)
from shardcache.policy.breaker import Breaker
from shardcache.policy.near_store import NearStore
from shardcache.request_deadline import TIME_IS_OVER, caller_end, time_left
from shardcache.resp import Command, Op, OpGroup, Reply
from shardcache.stats import ShardStats
from shardcache.system.forked import ForkedObjects
from shardcache.system.queue import LocalQueue
from shardcache.topology.nodes import Member
from shardcache.urls import Address
from shardcache.wire import Dialer, pack, unpack
from shardcache.wire.credentials import Login, subscribe

__all__ = ("Runner",)

T = TypeVar("T")
_forked = ForkedObjects()


class Runner:
    """Carries out what the flows ask for. Thread-safe; usable in a forked child."""

    __slots__ = (
        "__weakref__",
        "_clock",
        "_finalizer",
        "_flights",
        "_forks",
        "_hook",
        "_loads",
        "_max_loads",
        "_sleep",
        "_table",
        "_timeout",
        "discovery",
        "line",
        "near",
        "undo_log",
    )

    def __init__(
        self,
        shards: ShardTable[Shard],
        timeout: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None] | None = None,
        max_loads: int = 64,
        hook: Hook | None = None,
    ) -> None:
        self._table = shards
        self._timeout = timeout
        self._clock = clock
        self._sleep = sleep
        self.discovery: NodeDiscovery | None = None  # if a source names the nodes
        self.line = LocalQueue()
        self.near: NearStore | None = None  # what a write of this process makes invalid
        self.undo_log = UndoLog(clock)
        self._max_loads = max_loads
        self._hook = hook
        self._forks = 0  # of this process, since the runner was made
        self._begin()
        self._finalizer = weakref.finalize(self, _close_all, shards)
        self._finalizer.atexit = False
        _forked.add(self)

    @classmethod
    def of(
        cls,
        context: ClientContext,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> Self:
        """Return a runner for the topology of ``context``. Opens no connection."""
        options = context.options

        def make(member: Member, breaker: Breaker) -> Shard:
            # With TLS of its own if the member has any.
            node, address, tls, _, kind, _ = member
            own = options if tls is None else replace(options, tls=tls)
            return Shard(
                Dialer(node.name, address, own, clock, kind),
                breaker,
                max_idle=options.max_idle,
                timeout=context.timeout_of(member),
                hook=options.on_event,
                random=random,
                keys=context.keys.glob,
            )

        runner = cls(
            ShardTable(context, make),
            context.timeout,
            clock,
            max_loads=options.max_loads,
            hook=options.on_event,
        )
        runner.near = context.near
        # A provider of credentials tells when they are renewed.
        subscribe(options.credential_provider, runner)
        return runner

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards of the present topology."""
        return self._table.in_service

    def follow(self) -> None:
        """Have all shards do what the present topology says of them."""
        self._table.follow()

    def address_of(self, shard: int) -> Address:
        """Return where new connections to a shard go."""
        return self._table[shard].address

    def every(self) -> list[Shard]:
        """Return the shards that there are, those that have left the topology too."""
        return list(self._table.values())

    def has_nodes(self) -> bool:
        """Wait for the first answer of a source; return whether the nodes are known."""
        return self.discovery is None or self.discovery.wait()

    def close(self) -> None:
        """Close all connections, after undoing what calls that were broken off have left."""
        if self.discovery is not None:
            self.discovery.close()
        try:
            self.undo_log.recover()
        finally:
            self._finalizer()

    def _begin(self) -> None:
        most, log = self._max_loads, self.undo_log
        self._flights = Flights(self.run, self._clock, self._hook, most, log)
        self._loads = Loads(most, self.run, self._clock, self._flights, self._hook, log)

    def forget_flights(self, wires: Iterable[bytes] | None = None) -> None:
        """Let nobody join loads of these keys (None: of any): something newer has been written."""
        if self.near is not None:
            self.near.drop(None if wires is None else list(wires))
        self._flights.forget(wires)

    def after_fork(self) -> None:
        """Begin anew: the threads that wait or load are the parent's."""
        self._forks += 1
        self.line = LocalQueue()
        self.undo_log.forget()
        self._begin()
        for shard in self.every():
            shard.after_fork()

    def reauthenticate(self, login: Login) -> None:
        """Log in anew with renewed credentials, on all shards, in the provider's thread."""
        for shard in self.every():
            shard.reauthenticate(login)

    def states(self) -> dict[str, str]:
        """Return the breakers' states by name."""
        return {shard.name: shard.breaker.state.value for shard in self.shards}

    def stats(self) -> dict[str, ShardStats]:
        """Return the shards' counters by name."""
        shards = (*self.shards, *self._table.replicas)
        return {shard.name: shard.stats() for shard in shards}

    def ping_all(self) -> dict[str, float | ShardError]:
        """Probe every shard; return for each the seconds that it took, or what went wrong.

        All have one deadline, and each has its share of what is left.
        """
        if self.discovery is not None and not self.discovery.wait():
            refusal = self.discovery.refusal()
            return {refusal.shard: refusal}
        deadline = self._clock() + self._timeout
        found: dict[str, float | ShardError] = {}
        shards = self.shards
        for left, shard in zip(range(len(shards), 0, -1), shards, strict=True):
            start = self._clock()
            try:
                shard.pool.release(shard.probe(start + max(deadline - start, 0) / left))
            except (OSError, ShardError) as error:
                found[shard.name] = shard.named_error(error, dialled=True)
            else:
                found[shard.name] = self._clock() - start
        return found

    def one(
        self, shard: int, command: Command, op: Op, invalidates: Command | None = None
    ) -> Reply:
        """Send one command to one shard, and ``invalidates`` before it; return its reply.

        Raises `ShardError` or `ClientClosed`.
        """
        if caller_end() is not None:
            commands = [command] if invalidates is None else [invalidates, command]
            ops = OpGroup(op) if invalidates is None else invalidated(op)
            return last_reply(self._within_block(shard, commands, ops))
        deadline = self._clock() + self._timeout
        if invalidates is None:
            return self._table[shard].call(pack(command), deadline, op)
        payload = pack(invalidates) + pack(command)
        return last_reply(self._table[shard].call(payload, deadline, invalidated(op)))

    def place_of_read(self, shard: int) -> int:
        """Return the number of the shard that is asked in the place of a key's own.

        It is for reads that may be asked of a replica; here they are not.
        """
        return shard

    def call_many(self, shard: int, payload: bytes, ops: OpGroup) -> Outcome:
        """Send several packed commands to one shard; return what an `Exchange` would."""
        if caller_end() is not None:
            return self._within_block(shard, unpack(payload), ops)
        deadline = self._clock() + self._timeout
        try:
            replies: list[Reply] = self._table[shard].call(payload, deadline, ops)
        except ShardError as error:
            return error
        return replies

    def _within_block(self, shard: int, commands: list[Command], ops: OpGroup) -> Outcome:
        """Do as `call_many`, within what is left of the caller's `deadline`."""
        batch = Batch(shard, commands, ops.idempotent, ops.accepts, reads=ops.reads)
        outcomes: list[Outcome] = self._do(Exchange([batch]))
        return outcomes[0]

    def run(self, flow: Flow[T], budget: Budget | None = None) -> T:
        """Run a flow to its end and return its result; an error in a step is thrown into the flow.

        So is what a signal handler raises here, between two steps: the flow has to tidy up (a lock
        that it was granted, say).

        ``budget``: what all its exchanges may take together; None: each has the timeout of a call.
        """
        if self.discovery is not None:
            self.discovery.wait()
        forks = self._forks
        try:
            return self._drive(flow, budget, None, forks)
        except BaseException as error:
            if inspect.getgeneratorstate(flow) == inspect.GEN_CLOSED:
                raise
            return self._drive(flow, budget, error, forks)

    def _drive(
        self, flow: Flow[T], budget: Budget | None, error: BaseException | None, forks: int
    ) -> T:
        """Carry out the steps of a flow.

        ``error``: what has come out of its last step.
        ``forks``: how many forks there had been when the flow began. In a child that was forked
            since then, the flow is a copy: the parent goes on with it, and what it has taken is the
            parent's. So nothing of it is undone here.
        """
        outcome: Any = None
        try:
            while True:
                if error is not None and forks != self._forks:
                    flow.close()
                    raise error
                step = flow.send(outcome) if error is None else flow.throw(error)
                outcome = error = None
                if forks != self._forks and isinstance(step, Broadcast) and step.on_reply is None:
                    continue
                try:
                    outcome = self._do(step) if budget is None else self._do_within(step, budget)
                except BaseException as caught:  # noqa: BLE001 - the flow decides
                    error = caught
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            error = None  # or this frame and its traceback would keep each other alive

    def _do(self, step: Step) -> Any:
        match step:
            case Exchange(batches):
                return (
                    run_exchange(self._table, batches, self._timeout, self._clock)
                    if caller_end() is None
                    else self._by_deadline(batches)
                )
            case Broadcast():
                return run_broadcast(self._table, step, self._clock)
            case Listen(shard, command, timeout):
                return self._table[shard].listen(command, timeout)
            case Sleep(seconds):
                # Looked up in its module, which gevent may have patched.
                return (self._sleep or time.sleep)(seconds)
            case Load():
                return self._loads(step)
            case SingleFlight():
                return self._flights(step)

    def _by_deadline(self, batches: list[Batch]) -> list[Outcome]:
        """Carry out an `Exchange` within what is left of the caller's `deadline`."""
        left = time_left()
        if batches and left is not None and left > 0:
            budget = Budget(min(left, self._timeout), self._clock)
            outcomes: list[Outcome] = self._do_within(Exchange(batches), budget)
            return outcomes
        return [ShardOut(self._table[batch.shard].name, TIME_IS_OVER) for batch in batches]

    def _do_within(self, step: Step, budget: Budget) -> Any:
        """Carry out a step within a budget.

        An `Exchange` becomes a `Broadcast`, which can end before an answer is overdue. A `Listen`
        or a `Sleep` takes nothing of the budget.
        """
        if isinstance(step, Exchange) and step.batches:
            asking, outcomes = gather(step.batches, self._timeout)
            self._do_within(asking, budget)
            return outcomes
        if isinstance(step, Broadcast):
            with budget.spent() as limit:
                return run_broadcast(self._table, step, self._clock, limit)
        return self._do(step)


def _close_all(shards: ShardTable[Shard]) -> None:
    for shard in shards.close():
        shard.close()
