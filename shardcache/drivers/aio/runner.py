"""The asyncio driver: runs flows and single requests over the shards of the running event loop."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from threading import get_ident
from time import monotonic
from typing import Any, TypeVar

from shardcache.drivers.aio.broadcast import run_broadcast, run_exchange
from shardcache.drivers.aio.loaders import AsyncLoads
from shardcache.drivers.aio.local_queue import AsyncLocalQueue
from shardcache.drivers.aio.loop_shards import LoopShards, thread_of
from shardcache.drivers.aio.shard import BULK, AsyncShard
from shardcache.drivers.aio.single_flight import AsyncFlights
from shardcache.drivers.node_discovery import NodeDiscovery
from shardcache.errors import ClientClosed, ShardError, ShardOut
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
from shardcache.policy.breaker import State
from shardcache.request_deadline import TIME_IS_OVER, caller_end, time_left
from shardcache.resp import Command, Op, OpGroup, Reply
from shardcache.stats import ShardStats
from shardcache.urls import Address
from shardcache.wire import pack, unpack
from shardcache.wire.credentials import Login, subscribe

__all__ = ("AsyncRunner",)

T = TypeVar("T")
_CLOSED = State.CLOSED


class AsyncRunner:
    """Carries out what the flows ask for. Each event loop has connections and breakers of its own.

    ``table``: returns the shards of the running loop, by number.
    """

    __slots__ = ("__weakref__", "_context", "_loops", "_timeout", "discovery", "line", "table")

    def __init__(self, context: ClientContext, random: Callable[[], float] = random.random) -> None:
        self._context = context
        self.discovery: NodeDiscovery | None = None  # if a source names the nodes
        self._timeout = context.timeout
        self._loops = LoopShards(context, random)
        self.table = self._loops.shards
        self.line = AsyncLocalQueue()
        subscribe(context.options.credential_provider, self)

    def reauthenticate(self, login: Login) -> None:
        """Log in anew with renewed credentials, on all shards of all loops."""
        self._loops.reauthenticate(login)

    def shards(self) -> tuple[AsyncShard, ...]:
        """Return the shards of the present topology on the running loop."""
        return self.table().in_service

    def follow(self) -> None:
        """Have all shards do what the present topology says of them; from any thread."""
        self._loops.follow()

    def address_of(self, shard: int) -> Address:
        """Return where new connections to a shard go, on the running loop."""
        return self.table()[shard].address

    async def has_nodes(self) -> bool:
        """Wait for the first answer of a source; return whether the nodes are known."""
        return self.discovery is None or await self.discovery.wait_async()

    def forget_flights(self, wires: Iterable[bytes] | None = None) -> None:
        """Let no task join loads of these keys that are under way: something newer was written.

        wires: None for all keys.
        """
        if self._context.near is not None:
            self._context.near.drop(None if wires is None else list(wires))
        for found in self._loops.every():
            if found.loading is not None:
                found.loading[0].forget(wires)

    def _loading(self) -> tuple[AsyncFlights, AsyncLoads]:
        """Return what loads on the running loop."""
        here = self._loops.here()
        if here.loading is None:
            most = self._context.options.max_loads
            flights = AsyncFlights(self.run, most)
            here.loading = (flights, AsyncLoads(most, self.run, flights))
        return here.loading

    async def one(
        self, shard: int, command: Command, op: Op, invalidates: Command | None = None
    ) -> Reply:
        """Send one command to one shard, and ``invalidates`` before it; return its reply.

        Raises `ShardError`.
        """
        if invalidates is None:
            return await self.ask(shard, pack(command), op)
        payload = pack(invalidates) + pack(command)
        return last_reply(await self.call_many(shard, payload, invalidated(op)))

    def ask(self, shard: int, payload: bytes, op: Op) -> Awaitable[Reply]:
        """Send one packed command; return what to await for its reply.

        It does what `one` does, with no coroutine of its own.
        """
        if caller_end() is not None:
            return self._ask_by_deadline(shard, payload, op)
        loop, shards = self._loops.current
        if loop is None or thread_of(loop) != get_ident():  # as in `LoopShards.shards`
            shards = self.table()
        known = shards[shard]
        deadline = known.clock() + self._timeout
        if known.breaker.state is _CLOSED and len(payload) < BULK:
            return known.main.send(payload, deadline, op, op.idempotent)  # `known.ask`, in short
        return known.ask(payload, deadline, op)

    def place_of_read(self, shard: int) -> int:
        """Return the number of the shard that is asked in the place of a key's own.

        It is for reads that may be asked of a replica; here they are not.
        """
        return shard

    def call_many(self, shard: int, payload: bytes, ops: OpGroup) -> Awaitable[Outcome]:
        """Send several packed commands to one shard; return what to await for their outcome."""
        if caller_end() is not None:
            return self._call_by_deadline(shard, payload, ops)
        known = self.table()[shard]
        return known.call_many(payload, known.clock() + self._timeout, ops)

    async def _ask_by_deadline(self, shard: int, payload: bytes, op: Op) -> Reply:
        return last_reply(await self._call_by_deadline(shard, payload, OpGroup(op)))

    async def _call_by_deadline(self, shard: int, payload: bytes, ops: OpGroup) -> Outcome:
        batch = Batch(shard, unpack(payload), ops.idempotent, ops.accepts, reads=ops.reads)
        return (await self._by_deadline([batch]))[0]

    async def _by_deadline(self, batches: list[Batch]) -> list[Outcome]:
        """Carry out an `Exchange` within what is left of the caller's `deadline`."""
        left = time_left()
        if batches and left is not None and left > 0:
            budget = Budget(min(left, self._timeout), monotonic)
            outcomes: list[Outcome] = await self._do_within(Exchange(batches), budget)
            return outcomes
        table = self.table()
        return [ShardOut(table[batch.shard].name, TIME_IS_OVER) for batch in batches]

    async def run(self, flow: Flow[T], budget: Budget | None = None) -> T:
        """Run a flow to its end and return its result; an error in a step is thrown into the flow.

        budget: what all its exchanges may take together; None: each has the timeout of a call.
        """
        if self.discovery is not None:
            await self.discovery.wait_async()
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
                return await (
                    run_exchange(self.table(), batches, self._timeout)
                    if caller_end() is None
                    else self._by_deadline(batches)
                )
            case Broadcast():
                return await run_broadcast(self.table(), step)
            case Listen(shard, command, timeout):
                return await self.table()[shard].listen(command, timeout)
            case Sleep(seconds):
                return await asyncio.sleep(seconds)
            case Load():
                return await self._loading()[1](step)
            case SingleFlight():
                return await self._loading()[0](step)

    async def _do_within(self, step: Step, budget: Budget) -> Any:
        if isinstance(step, Exchange) and step.batches:
            asking, outcomes = gather(step.batches, self._timeout)
            await self._do_within(asking, budget)
            return outcomes
        if isinstance(step, Broadcast):
            with budget.spent() as limit:
                return await run_broadcast(self.table(), step, limit)
        return await self._do(step)

    async def ping_all(self) -> dict[str, float | ShardError]:
        """Ping every shard, all at once; see `ping`."""
        if self.discovery is not None and not await self.discovery.wait_async():
            refusal = self.discovery.refusal()
            return {refusal.shard: refusal}
        shards = self.shards()
        found = await asyncio.gather(*map(self.ping, shards))
        return dict(zip([shard.name for shard in shards], found, strict=True))

    async def ping(self, shard: AsyncShard) -> float | ShardError:
        """Return the seconds that a new connection and a PING took, or what went wrong."""
        start = shard.clock()
        try:
            connection = await shard.prober.connect()
        except (OSError, ShardError) as error:
            return shard.named_error(error, dialled=True)
        connection.end(ConnectionError("only a ping"))
        return shard.clock() - start

    def stats(self) -> dict[str, ShardStats]:
        """Return the shards' counters, added up over all event loops."""
        return self._loops.stats()

    def states(self) -> dict[str, str]:
        """Return the breakers' states by name, as the running loop sees them."""
        try:
            return {shard.name: shard.breaker.state.value for shard in self.shards()}
        except (RuntimeError, ClientClosed):
            return dict.fromkeys(self._context.topology.number_of, State.CLOSED.value)

    @property
    def open(self) -> bool:
        """Whether connections are left that have not been closed."""
        return self._loops.open

    async def close(self) -> None:
        """Close everything on the running loop, and tell the other loops to do the same."""
        if self.discovery is not None:
            self.discovery.close()
        await self._loops.close()

    def drop(self) -> None:
        """Let go of every connection without waiting: the last resort of an unclosed client."""
        if self.discovery is not None:
            self.discovery.close()
        self._loops.drop()
