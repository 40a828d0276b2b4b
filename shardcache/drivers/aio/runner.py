"""The asyncio driver: runs flows and single requests over the shards of the running event loop."""

import asyncio
import os
import random
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import get_ident
from typing import Any, TypeVar

from shardcache.drivers.aio.broadcast import run_broadcast
from shardcache.drivers.aio.loop_end import at_loop_end
from shardcache.drivers.aio.shard import BULK, AsyncShard
from shardcache.drivers.aio.single_flight import AsyncFlights, AsyncLoads
from shardcache.drivers.local_queue import AsyncLocalQueue
from shardcache.drivers.sync.runner import breakers, check_replies
from shardcache.errors import ClientClosed, ShardError, ShardOut
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
from shardcache.policy.breaker import State
from shardcache.resp import Command, Op, OpGroup, Reply
from shardcache.stats import ShardStats
from shardcache.wire import pack, pack_all
from shardcache.wire.aio.dialer import AsyncDialer
from shardcache.wire.aio.pending_reply import ReplyBatch
from shardcache.wire.credentials import Login, subscribe

__all__ = ("AsyncRunner",)

T = TypeVar("T")
Loop = asyncio.AbstractEventLoop
_CLOSED = State.CLOSED
BULK_KEYS = 200  # items from which a batch goes over the bulk connection


class AsyncRunner:
    """Carries out what the flows ask for. Each event loop has connections and breakers of its own."""

    __slots__ = (
        "__weakref__",
        "_closed",
        "_context",
        "_current",
        "_ends",
        "_inherited",
        "_loading",
        "_past",
        "_random",
        "_shards",
        "_timeout",
        "line",
    )

    def __init__(self, context: ClientContext, random: Callable[[], float] = random.random) -> None:
        self._context = context
        self._random = random
        self._timeout = context.timeout
        self._closed = False
        self._shards: dict[Loop, tuple[AsyncShard, ...]] = {}
        self._loading: dict[Loop, tuple[AsyncFlights, AsyncLoads]] = {}
        self._ends: dict[Loop, object] = {}  # what closes the connections of each loop when it ends
        self._inherited: frozenset[Loop] = frozenset()  # loops of the process that forked this one
        self.line = AsyncLocalQueue()
        self._past: list[list[ShardStats]] = []  # what the shards of ended loops had counted
        # The last loop and its shards, read and replaced as one so that two threads cannot mix them up.
        self._current: tuple[Any, tuple[AsyncShard, ...]] = (None, ())
        _runners.add(self)
        subscribe(context.options.credential_provider, self)

    def shards(self) -> tuple[AsyncShard, ...]:
        """Return the shards of the running loop."""
        loop, shards = self._current
        # get_running_loop() would do, but in CPython 3.11 it asks the kernel whether the process has forked.
        if loop is not None and loop._thread_id == get_ident():
            return shards
        return self._find(asyncio.get_running_loop())

    def _find(self, loop: Loop) -> tuple[AsyncShard, ...]:
        found = self._shards.get(loop)
        if found is None:
            if self._closed:
                raise ClientClosed("the client is closed")
            self._forget_closed()
            found = self._shards[loop] = self._make(loop)
            self._ends[loop] = at_loop_end(partial(_disconnect, found))
        if isinstance(
            loop, asyncio.BaseEventLoop
        ):  # others do not tell the thread that they run in
            self._current = (loop, found)
        return found

    def after_fork(self) -> None:
        """Forget which loop runs: this process has another one, and the connections of the others are not its to close."""
        self._current = (None, ())
        self._inherited = frozenset(self._shards)

    def reauthenticate(self, login: Login) -> None:
        """Log in anew with renewed credentials, on all shards of all loops. Called from any thread."""
        for loop, shards in list(self._shards.items()):
            for shard in shards:
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(shard.reauthenticate, login)

    def forget_flights(self, wires: Iterable[bytes] | None = None) -> None:
        """Let nobody join loads of these keys (None: of any) that are under way: something newer has been written."""
        for flights, _ in list(self._loading.values()):
            flights.forget(wires)

    def _loads(self) -> tuple[AsyncFlights, AsyncLoads]:
        """Return what loads on the running loop."""
        loop = asyncio.get_running_loop()
        found = self._loading.get(loop)
        if found is None:
            self.shards()  # or the client is closed
            flights = AsyncFlights(self.run, self._context.options.max_loads)
            found = self._loading[loop] = (
                flights,
                AsyncLoads(self._context.options.max_loads, self.run, flights),
            )
        return found

    def _forget_closed(self) -> None:
        """Let go of loops that have ended, but not of their counters."""
        for loop in [loop for loop in list(self._shards) if loop.is_closed()]:
            self._loading.pop(loop, None)
            self._ends.pop(loop, None)
            # Nothing is left of them but what they counted: no connection, and no breaker that is open.
            row = [
                replace(shard.stats(), state=_CLOSED.value, idle=0)
                for shard in self._shards.pop(loop, ())
            ]
            if not row:  # another thread was faster
                continue
            last = self._past.pop() if self._past else row
            self._past = [
                row
                if last is row
                else [ShardStats.total(pair) for pair in zip(last, row, strict=True)]
            ]

    def _make(self, loop: Loop) -> tuple[AsyncShard, ...]:
        context, options = self._context, self._context.options
        return tuple(
            AsyncShard(
                AsyncDialer(
                    node.name, address, options if tls is None else replace(options, tls=tls)
                ),
                breaker,
                loop=loop,
                timeout=context.timeout,
                hook=options.on_event,
                random=self._random,
                max_calls=options.max_in_flight,
                max_bytes=options.max_bytes_in_flight,
                keys=context.keys.glob,
            )
            for (node, address, tls, _), breaker in zip(
                context.members, breakers(context), strict=True
            )
        )

    async def one(
        self, shard: int, command: Command, op: Op, invalidates: Command | None = None
    ) -> Reply:
        """Send one command to one shard, and ``void`` before it; return its reply or raise `ShardError`."""
        if invalidates is None:
            return await self.ask(shard, pack(command), op)
        outcome = await self.call_many(shard, pack(invalidates) + pack(command), invalidated(op))
        if isinstance(outcome, ShardError):
            raise outcome
        for reply in reversed(outcome):
            if isinstance(reply, ShardError):
                raise reply
        return outcome[1]

    def ask(self, shard: int, payload: bytes, op: Op) -> Awaitable[Reply]:
        """Send one packed command; return what to await for its reply: `one` with no coroutine of its own."""
        loop, shards = self._current
        if loop is None or loop._thread_id != get_ident():  # as in `shards`
            shards = self.shards()
        known = shards[shard]
        deadline = known.clock() + self._timeout
        if known.breaker.state is _CLOSED and len(payload) < BULK:
            return known.main.send(payload, deadline, op, op.idempotent)  # `known.ask`, in short
        return known.ask(payload, deadline, op)

    async def call_many(self, shard: int, payload: bytes, ops: OpGroup) -> Outcome:
        """Send several packed commands to one shard: `exchange` in short."""
        known = self.shards()[shard]
        try:
            part = known.start(
                payload,
                ReplyBatch(ops.number, ops.validate, ops.values, reads=ops.reads),
                known.clock() + self._timeout,
                ops.idempotent,
            )
        except ShardOut as error:
            await asyncio.sleep(0)  # as in `exchange`
            return error
        try:
            return check_replies(known, await part)
        except ShardError as error:
            return error

    async def run(self, flow: Flow[T], budget: Budget | None = None) -> T:
        """Run a flow to its end and return its result; an error in a step is thrown into the flow.

        ``budget``: what all its exchanges may take together; None: each has the timeout of a call.
        """
        try:
            step = next(flow)
            while True:
                try:
                    outcome = await (
                        self._do(step) if budget is None else self._do_within(step, budget)
                    )
                except BaseException as error:  # noqa: BLE001 - the flow decides
                    step = flow.throw(error)
                else:
                    step = flow.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _do(self, step: Step) -> Any:
        match step:
            case Exchange(batches):
                return await self.exchange(batches)
            case Broadcast():
                return await run_broadcast(self.shards(), step)
            case Listen(shard, command, patience):
                return await self.shards()[shard].blocking.listen(command, patience)
            case Sleep(seconds):
                return await asyncio.sleep(seconds)
            case Load():
                return await self._loads()[1](step)
            case SingleFlight():
                return await self._loads()[0](step)

    async def _do_within(self, step: Step, budget: Budget) -> Any:
        if isinstance(step, Exchange) and step.batches:
            asking, outcomes = gather(step.batches, self._timeout, budget.limit())
            with budget.spent():
                await run_broadcast(self.shards(), asking)
            return outcomes
        if isinstance(step, Broadcast):
            with budget.spent():
                return await run_broadcast(self.shards(), limited(step, budget.limit()))
        return await self._do(step)

    async def exchange(self, batches: list[Batch]) -> list[Outcome]:
        """Send every batch to its shard, all at once, within one deadline; return an outcome for each."""
        shards = self.shards()
        deadline = shards[0].clock() + self._timeout
        parts: list[Part] = []
        outcomes: list[Outcome] = []
        try:
            for batch in batches:
                commands = batch.commands
                bulk = (
                    batch.bulk or len(commands) > BULK_KEYS or max(map(len, commands)) > BULK_KEYS
                )
                try:
                    owed = ReplyBatch(len(commands), fit_of(batch), commands, reads=batch.reads)
                    part = shards[batch.shard].start(
                        pack_all(commands), owed, deadline, batch.idempotent, bulk=bulk
                    )
                except ShardOut as error:
                    parts.append(error)
                else:
                    parts.append(part)
            if all(isinstance(part, ShardOut) for part in parts):
                await asyncio.sleep(
                    0
                )  # or a caller that asks in a loop would never let the probers run
            for batch, each in zip(batches, parts, strict=True):
                outcomes.append(await _outcome(shards[batch.shard], each, len(batch.commands)))
            return outcomes
        finally:
            # Broken off: what nobody waits for any more is drained by its connection.
            left = slice(len(outcomes), len(parts))
            for batch, each in zip(batches[left], parts[left], strict=True):
                _abandon(shards[batch.shard], each, len(batch.commands))

    async def ping_all(self) -> dict[str, float | ShardError]:
        """Knock at every shard, all at once; see `ping`."""
        shards = self.shards()
        return dict(
            zip(
                [shard.name for shard in shards],
                await asyncio.gather(*map(self.ping, shards)),
                strict=True,
            )
        )

    async def ping(self, shard: AsyncShard) -> float | ShardError:
        """Return the seconds that a new connection and a PING took, or what went wrong."""
        start = shard.clock()
        try:
            connection = await shard.probe()
        except (OSError, ShardError) as error:
            return shard.named_error(error, dialled=True)
        connection.end(ConnectionError("only a ping"))
        return shard.clock() - start

    def stats(self) -> dict[str, ShardStats]:
        """Return the shards' counters, added up over all event loops; the state is the worst on those that are left."""
        self._forget_closed()
        names = [member.node.name for member in self._context.members]
        rows = [
            *self._past,
            *([shard.stats() for shard in shards] for shards in list(self._shards.values())),
        ]
        if not rows:
            return {name: ShardStats("closed", *[0] * 8) for name in names}
        return {name: ShardStats.total([row[at] for row in rows]) for at, name in enumerate(names)}

    def states(self) -> list[str]:
        """Return the breakers' states as the running loop sees them."""
        try:
            return [shard.breaker.state.value for shard in self.shards()]
        except (RuntimeError, ClientClosed):
            return ["closed"] * len(self._context.members)

    @property
    def open(self) -> bool:
        """Whether connections are left that nobody has closed."""
        return any(
            shard.busy
            for loop, shards in list(self._shards.items())
            if loop not in self._inherited
            for shard in shards
        )

    async def close(self) -> None:
        """Close everything on the running loop, and tell other loops to do the same."""
        self._closed = True
        here = asyncio.get_running_loop()
        if here in self._loading:
            await self._loading[here][0].close()
            del self._loading[here]
        self._current = (None, ())
        for loop, shards in list(self._shards.items()):
            if loop is here:
                await asyncio.gather(*(shard.close() for shard in shards))
            elif not loop.is_closed() and loop not in self._inherited:
                for shard in shards:
                    loop.call_soon_threadsafe(shard.close_soon)
        self._shards.clear()
        end = self._ends.pop(here, None)
        self._ends.clear()
        if isinstance(end, AsyncGenerator):
            await end.aclose()

    def drop(self) -> None:
        """Let go of every connection without waiting, as the last resort of an unclosed client."""
        for loop, known in list(self._shards.items()):
            for shard in known:
                if not loop.is_closed() and loop not in self._inherited:
                    loop.call_soon_threadsafe(shard.close_soon)


async def _disconnect(shards: tuple[AsyncShard, ...]) -> None:
    await asyncio.gather(*(shard.disconnect() for shard in shards))


Part = asyncio.Future[Any] | ShardOut


async def _outcome(shard: AsyncShard, part: Part, count: int) -> Outcome:
    """Wait for one shard's part of an exchange."""
    if isinstance(part, ShardOut):
        return part
    try:
        reply = await part
    except ShardError as error:
        return error
    return check_replies(shard, [reply] if count == 1 else reply)


def _abandon(shard: AsyncShard, part: Part, count: int) -> None:
    """Let go of a part whose caller is gone; if it has been answered, that counts all the same."""
    if (
        isinstance(part, ShardOut)
        or part.cancel()
        or part.cancelled()
        or part.exception() is not None
    ):
        return
    reply = part.result()
    check_replies(shard, [reply] if count == 1 else reply)


_runners: "weakref.WeakSet[AsyncRunner]" = weakref.WeakSet()


def _after_fork() -> None:
    for runner in list(_runners):
        runner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
