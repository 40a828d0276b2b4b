"""Asking several shards at once: `run_broadcast`, and `run_exchange`, which waits for every answer.

Every shard has one connection for all callers. A reply that nobody waits for keeps its place in the
queue of that connection. So nothing has to be kept apart for it, and what is sent later takes
effect later. This is also true where the connection has been replaced (`Replaced`): commands that
are ``in_order`` go on behind what the old connection owes, until that is answered or the
connection is closed.

One future ends the wait. Where three answers of five are enough, only the third wakes the caller.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from math import inf
from typing import Any

from shardcache.drivers.aio.loop_table import LoopTable
from shardcache.drivers.aio.shard import BULK, AsyncShard
from shardcache.drivers.aio.shard_call import ShardCall
from shardcache.errors import ShardError, ShardOut
from shardcache.flows.reply_checks import validator_of
from shardcache.flows.steps import Batch, Broadcast, OnReply, Outcome
from shardcache.policy.breaker import State
from shardcache.resp import Command
from shardcache.wire import pack_all
from shardcache.wire.aio.pending_reply import ReplyBatch

__all__ = ("run_broadcast", "run_exchange")

_BULK_KEYS = 200  # commands or keys above which a batch goes over the connection for bulk
_CLOSED = State.CLOSED
_NONE = ReplyBatch(0)


class _Exchange:
    """One exchange under way.

    ``calls``: the batches that were sent.
    ``left``: how many outcomes have not come yet.
    ``outcomes``: what came of each batch, by its place.
    ``over``: is done when enough is known, which is here every outcome.
    """

    __slots__ = ("calls", "left", "outcomes", "over")

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self.calls: list[_Call] = []
        self.left = size
        self.outcomes: list[Any] = [None] * size
        self.over: asyncio.Future[None] = loop.create_future()
        if not size:
            self.over.set_result(None)

    async def run(
        self,
        shards: LoopTable,
        batches: Sequence[Batch],
        timeout: float,
        limit: float = inf,
    ) -> list[Outcome]:
        """Send every batch, and wait until enough is known.

        The parameters are those of `Broadcast`.
        """
        over = self.over
        timer = None
        try:
            self.post(shards, batches, shards.loop.time() + timeout)
            if over.done():
                # Without this, a caller that asks in a loop would never let the probers run.
                await asyncio.sleep(0)
            elif limit < timeout:
                timer = shards.loop.call_later(limit, self.expire)
            await over
        except BaseException:
            # Answers that come later find that the wait is over.
            if not over.cancel() and not over.cancelled():
                over.exception()
            self.break_off()
            raise
        finally:
            if timer is not None:
                timer.cancel()
        return self.outcomes

    def post(self, shards: LoopTable, batches: Sequence[Batch], deadline: float) -> None:
        """Send every batch, or note why it cannot be sent."""
        commands: list[Command] | None = None
        payload, owed, bulk = b"", _NONE, False
        for place, batch in enumerate(batches):
            shard = shards[batch.shard]
            if batch.commands is not commands:  # those that share one list are packed once
                commands = batch.commands
                payload = batch.packed or pack_all(commands)
                owed, bulk = self.owed(batch)
                bulk = bulk or len(payload) >= BULK
            call = None
            try:
                call = _Call(self, place, shard, owed.number == 1)
                self.calls.append(call)
                shared = shard.bulk if bulk else shard.main
                send = shared.send_in_order if owed.in_order else shared.send
                send(payload, deadline, owed, batch.idempotent, call)
            except ShardOut as error:
                if call is not None:  # the breaker has let it out, but there is no room for it
                    call.abandon()
                if batch.compensates:
                    shard.push(payload, owed, deadline)
                self.note(place, shard, error)

    def owed(self, batch: Batch) -> tuple[ReplyBatch, bool]:
        """Return the replies that are due for a batch, and whether it is bulk."""
        commands = batch.commands
        bulk = batch.bulk or len(commands) > _BULK_KEYS or max(map(len, commands)) > _BULK_KEYS
        return ReplyBatch(len(commands), validator_of(batch), commands, reads=batch.reads), bulk

    # `_Broadcast` has use for the shard.
    def note(self, place: int, shard: AsyncShard, outcome: Outcome) -> None:  # noqa: ARG002
        """Take an outcome, unless enough is known by now or the caller has gone."""
        self.outcomes[place] = outcome
        self.left -= 1
        if not self.left and not self.over.done():
            self.over.set_result(None)

    def fail(self, error: Exception) -> None:
        """Raise an error that is not the shard's where it is waited for."""
        if not self.over.done():
            self.over.set_exception(error)

    def expire(self) -> None:
        """Wait no more, though answers may still come in time for their shards."""
        for call in self.calls:
            if not call.done():
                self.note(call.place, call.shard, call.shard.overdue_error())

    def break_off(self) -> None:
        """Let go of what is under way: the caller has gone."""
        for call in self.calls:
            if not call.done():
                call.abandon()


class _ToldExchange(_Exchange):
    """An exchange of which ``on_reply`` is told each outcome as it comes."""

    __slots__ = ("_on_reply",)

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int, on_reply: OnReply) -> None:
        super().__init__(loop, size)
        self._on_reply = on_reply

    def note(self, place: int, shard: AsyncShard, outcome: Outcome) -> None:
        self._on_reply(place, outcome, None)
        super().note(place, shard, outcome)


class _Broadcast(_Exchange):
    """One broadcast under way. It is over when `on_reply` of the step says that enough is known."""

    __slots__ = ("_on_reply",)

    def __init__(self, loop: asyncio.AbstractEventLoop, step: Broadcast) -> None:
        super().__init__(loop, len(step.batches))
        self._on_reply = step.on_reply
        if step.on_reply is None and not self.over.done():
            self.over.set_result(None)

    def owed(self, batch: Batch) -> tuple[ReplyBatch, bool]:
        commands, reads = batch.commands, batch.reads
        fit = validator_of(batch)
        return ReplyBatch(len(commands), fit, commands, reads=reads, in_order=not reads), False

    def note(self, place: int, shard: AsyncShard, outcome: Outcome) -> None:
        self.left -= 1
        if self._on_reply is not None and not self.over.done():
            run = shard.run if outcome.__class__ is list else None
            if self._on_reply(place, outcome, run) or not self.left:
                self.over.set_result(None)

    def break_off(self) -> None:
        """Leave what is under way: what undoes it goes out behind it."""


class _Call(ShardCall):
    """The batch of one shard on its way: a `ReplySink` in the queue of a connection.

    Its replies are looked at as soon as they arrive, for they tell how the shard is, whoever waits.

    ``single``: there is one command, so the connection hands over the bare reply.
    """

    __slots__ = ("_asked", "_over", "_single", "place")
    shard: AsyncShard

    def __init__(self, asked: _Exchange, place: int, shard: AsyncShard, single: bool) -> None:
        # What `ShardCall` does, without another call: there is one of these for each batch.
        self.shard = shard
        self._period = 0 if shard.breaker.state is _CLOSED else shard.admit()
        self._asked = asked
        self._over = False
        self.place = place
        self._single = single

    def done(self) -> bool:
        """Whether nobody waits for a reply any more."""
        return self._over

    def set_result(self, reply: Any, /) -> None:
        self._over = True
        try:
            # What `answered` does, without another call.
            period, self._period = self._period, 0
            outcome = self.shard.record_replies([reply] if self._single else reply, period)
            self._asked.note(self.place, self.shard, outcome)
        except Exception as fault:  # noqa: BLE001  other callers of the connection are not to blame
            self._asked.fail(fault)

    def set_exception(self, error: Any, /) -> None:
        self._over = True
        self.give_back()
        try:
            if not isinstance(error, ShardError):
                raise error
            self._asked.note(self.place, self.shard, error)
        except Exception as fault:  # noqa: BLE001  as above
            self._asked.fail(fault)

    def abandon(self) -> None:
        """Wait no more: what has not been sent is not sent, what has been is read and dropped."""
        self._over = True
        self.give_back()


def run_exchange(
    shards: LoopTable,
    batches: Sequence[Batch],
    timeout: float,
    on_reply: OnReply | None = None,
) -> Coroutine[Any, Any, list[Outcome]]:
    """Carry out one `Exchange`: send every batch to its shard; return an outcome for each.

    ``on_reply``: is told of each outcome as it comes; what it says does not matter.
    """
    loop, size = shards.loop, len(batches)
    asked = _Exchange(loop, size) if on_reply is None else _ToldExchange(loop, size, on_reply)
    return asked.run(shards, batches, timeout)


def run_broadcast(
    shards: LoopTable, step: Broadcast, limit: float = inf
) -> Coroutine[Any, Any, object]:
    """Carry out one `Broadcast`: return as soon as enough is known, or its timeout is over.

    ``limit``: seconds that are left of the caller's budget.
    """
    asked = _Broadcast(shards.loop, step)
    return asked.run(shards, step.batches, step.timeout, min(step.limit, limit))
