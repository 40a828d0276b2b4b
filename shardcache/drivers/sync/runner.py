"""The sync driver: runs flows and single requests over a topology of shards, by the real clock."""

import inspect
import os
import random
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Self, TypeVar

from shardcache.drivers.local_queue import LocalQueue
from shardcache.drivers.replies import check_replies
from shardcache.drivers.sync.broadcast import run_broadcast
from shardcache.drivers.sync.shard import Shard, may_retry
from shardcache.drivers.sync.single_flight import Flights, Loads
from shardcache.errors import ShardError, ShardOut
from shardcache.events import Hook
from shardcache.flows.budget import Budget
from shardcache.flows.context import ClientContext
from shardcache.flows.operations import invalidated
from shardcache.flows.reply_checks import fit_of
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
    limited,
)
from shardcache.policy.breaker import Breaker, BreakerPolicy, State
from shardcache.resp import Command, Op, OpGroup, Reply
from shardcache.stats import ShardStats
from shardcache.wire import Dialer, Turn, pack, pack_all, transfer
from shardcache.wire.credentials import Login, subscribe

__all__ = ("Runner", "breakers", "check_replies")

T = TypeVar("T")


class Runner:
    """Carries out what the flows ask for. Thread-safe; usable in a forked child."""

    __slots__ = (
        "__weakref__",
        "_clock",
        "_finalizer",
        "_flights",
        "_hook",
        "_loads",
        "_max_loads",
        "_sleep",
        "_timeout",
        "line",
        "shards",
    )

    def __init__(
        self,
        shards: Sequence[Shard],
        timeout: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None] | None = None,
        max_loads: int = 64,
        hook: Hook | None = None,
    ) -> None:
        self.shards = tuple(shards)
        self._timeout = timeout
        self._clock = clock
        self._sleep = sleep
        self.line = LocalQueue()
        self._max_loads = max_loads
        self._hook = hook
        self._begin()
        self._finalizer = weakref.finalize(self, _close_all, self.shards)
        self._finalizer.atexit = False
        _runners.add(self)

    @classmethod
    def of(
        cls,
        context: ClientContext,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> Self:
        """Return a runner for the members of ``context``, in their order. Opens no connection."""
        options = context.options
        shards = [
            Shard(
                Dialer(
                    node.name, address, options if tls is None else replace(options, tls=tls), clock
                ),
                breaker,
                max_idle=options.max_idle,
                timeout=context.timeout,
                hook=options.on_event,
                random=random,
                echo_check=options.echo_check,
                keys=context.keys.glob,
            )
            for (node, address, tls, _), breaker in zip(
                context.members, breakers(context), strict=True
            )
        ]
        runner = cls(
            shards, context.timeout, clock, max_loads=options.max_loads, hook=options.on_event
        )
        subscribe(options.credential_provider, runner)
        return runner

    def close(self) -> None:
        self._finalizer()

    def _begin(self) -> None:
        self._flights = Flights(self.run, self._clock, self._hook, self._max_loads)
        self._loads = Loads(self._max_loads, self.run, self._clock, self._flights, self._hook)

    def forget_flights(self, wires: Iterable[bytes] | None = None) -> None:
        """Let nobody join loads of these keys (None: of any) that are under way: something newer has been written."""
        self._flights.forget(wires)

    def forget(self) -> None:
        """In a forked child: the threads that wait or load are the parent's."""
        self.line = LocalQueue()
        self._begin()

    def reauthenticate(self, login: Login) -> None:
        """Log in anew with renewed credentials, on all shards, in the provider's thread."""
        for shard in self.shards:
            shard.reauthenticate(login)

    def states(self) -> list[str]:
        """Return the breakers' states, in the order of the members."""
        return [shard.breaker.state.value for shard in self.shards]

    def stats(self) -> dict[str, ShardStats]:
        """Return the shards' counters by name."""
        return {shard.name: shard.stats() for shard in self.shards}

    def ping_all(self) -> dict[str, float | ShardError]:
        """Knock at every shard; return seconds or what went wrong. One deadline for all, each with its share."""
        deadline = self._clock() + self._timeout
        found: dict[str, float | ShardError] = {}
        for left, shard in zip(range(len(self.shards), 0, -1), self.shards, strict=True):
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
        """Send one command to one shard, and ``void`` before it; return its reply or raise `ShardError`."""
        if invalidates is None:
            return self.shards[shard].call(pack(command), self._clock() + self._timeout, op)
        outcome = self.call_many(shard, pack(invalidates) + pack(command), invalidated(op))
        if isinstance(outcome, ShardError):
            raise outcome
        for reply in reversed(outcome):
            if isinstance(reply, ShardError):
                raise reply
        return outcome[1]

    def call_many(self, shard: int, payload: bytes, ops: OpGroup) -> Outcome:
        """Send several packed commands to one shard: `exchange` in short."""
        known = self.shards[shard]
        try:
            replies = known.call_many(payload, self._clock() + self._timeout, ops)
        except ShardError as error:
            return error
        return check_replies(known, replies)

    def run(self, flow: Flow[T], budget: Budget | None = None) -> T:
        """Run a flow to its end and return its result; an error in a step is thrown into the flow.

        So is what a signal handler raises here, between two steps: the flow has to tidy up (a lock that it was granted, say).
        ``budget``: what all its exchanges may take together; None: each has the timeout of a call.
        """
        try:
            return self._drive(flow, budget, None)
        except BaseException as error:
            if inspect.getgeneratorstate(flow) == inspect.GEN_CLOSED:
                raise
            return self._drive(flow, budget, error)

    def _drive(self, flow: Flow[T], budget: Budget | None, error: BaseException | None) -> T:
        outcome: Any = None
        try:
            while True:
                step = flow.send(outcome) if error is None else flow.throw(error)
                outcome = error = None
                try:
                    outcome = self._do(step) if budget is None else self._do_within(step, budget)
                except BaseException as caught:  # noqa: BLE001 - the flow decides
                    error = caught
        except StopIteration as end:
            result: T = end.value
            return result

    def _do(self, step: Step) -> Any:
        match step:
            case Exchange(batches):
                return self.exchange(batches)
            case Broadcast():
                return run_broadcast(self.shards, step, self._clock)
            case Listen(shard, command, patience):
                return self.shards[shard].listen(pack(command), patience)
            case Sleep(seconds):
                return (self._sleep or time.sleep)(
                    seconds
                )  # by its module's name, which gevent may have patched
            case Load():
                return self._loads(step)
            case SingleFlight():
                return self._flights(step)

    def _do_within(self, step: Step, budget: Budget) -> Any:
        if isinstance(step, Exchange) and step.batches:
            asking, outcomes = gather(step.batches, self._timeout, budget.limit())
            with budget.spent():
                run_broadcast(self.shards, asking, self._clock)
            return outcomes
        if isinstance(step, Broadcast):
            with budget.spent():
                return run_broadcast(self.shards, limited(step, budget.limit()), self._clock)
        return self._do(step)

    def exchange(self, batches: list[Batch]) -> list[Outcome]:
        """Send every batch to its shard, all at once, within one deadline; return an outcome for each."""
        deadline = self._clock() + self._timeout
        outcomes: list[Outcome | None] = [None] * len(batches)
        again = self._round(batches, outcomes, range(len(batches)), deadline, last=False)
        if again:
            self._round(batches, outcomes, again, deadline, last=True)
        return outcomes  # type: ignore[return-value]  # every place is filled by now

    def _round(
        self,
        batches: list[Batch],
        outcomes: list[Outcome | None],
        places: Sequence[int],
        deadline: float,
        *,
        last: bool,
    ) -> list[int]:
        """Try the batches at ``places``; fill in their outcomes; return those worth another round."""
        turns: list[Turn] = []
        taken: list[tuple[int, Shard, bool]] = []
        again: list[int] = []
        fatal: Exception | None = None
        try:
            left = len(places)
            for place in places:
                batch = batches[place]
                shard = self.shards[batch.shard]
                try:
                    if shard.breaker.state is not State.CLOSED and not last:
                        shard.admit()
                    # Connections are made one after the other: each may use its share of what is left.
                    now = self._clock()
                    share = deadline if left == 1 else now + (deadline - now) / left
                    connection, fresh = shard.pool.acquire(share)
                except (OSError, ShardError) as error:
                    if isinstance(error, ShardOut):
                        outcomes[place] = error
                    else:
                        outcomes[place] = shard.record_failure(
                            error,
                            dialled=True,
                            hurried=left > 1,
                            began=deadline - self._timeout,
                            deadline=deadline,
                        )
                    continue
                except BaseException:
                    shard.release_trial()
                    raise
                finally:
                    left -= 1
                commands = batch.commands
                turns.append(
                    Turn(
                        connection,
                        pack_all(commands),
                        len(commands),
                        commands,
                        validate=fit_of(batch),
                    )
                )
                taken.append((place, shard, fresh))
            transfer(turns, deadline, self._clock)
        except BaseException:
            for turn in turns:
                turn.connection.close()
            for _, shard, _ in taken:
                shard.release_trial()
            raise
        for turn, (place, shard, fresh) in zip(turns, taken, strict=True):
            broken = turn.error
            if broken is None:
                shard.pool.release(turn.connection)
                shard.latest = deadline
                outcomes[place] = check_replies(shard, turn.replies)
                continue
            turn.connection.close()
            if not last and not fresh and batches[place].idempotent and may_retry(broken):
                shard.record_retry()
                again.append(place)
            elif isinstance(broken, (OSError, ShardError)):
                outcomes[place] = shard.record_failure(
                    broken, dialled=False, began=deadline - self._timeout, deadline=deadline
                )
            else:
                shard.release_trial()
                fatal = broken  # a MemoryError, say: raised when the other links are seen to
        if fatal is not None:
            raise fatal
        return again


def breakers(context: ClientContext) -> list[Breaker]:
    """Return a breaker for each member, under one cap on how many may be open at once."""
    options = context.options
    policy = BreakerPolicy(options.failures, options.first_probe, options.max_probe)
    most_out = max(options.max_out > 0, int(options.max_out * len(context.members)))
    made: list[Breaker] = []

    def may_open() -> bool:
        return sum(breaker.state is not State.CLOSED for breaker in made) < most_out

    made += [Breaker(policy, may_open) for _ in context.members]
    return made


def _close_all(shards: Sequence[Shard]) -> None:
    for shard in shards:
        shard.close()


_runners: "weakref.WeakSet[Runner]" = weakref.WeakSet()


def _after_fork() -> None:
    for runner in list(_runners):
        runner.forget()
        for shard in runner.shards:
            shard.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
