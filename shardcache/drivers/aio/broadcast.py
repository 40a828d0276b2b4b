"""The asyncio side of `Broadcast`: ask many shards, and wait for no more of them than are needed.

Every shard has one connection for all, in whose queue an answer that nobody waits for keeps its place: so there is nothing to
keep apart, and what is sent later takes effect later. Also where that connection has been replaced (`Replaced`): what is ``in_order``
goes on behind what the old one owes, until that is answered or the connection is closed.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from shardcache.drivers.aio.shard import AsyncShard
from shardcache.drivers.replies import check_replies
from shardcache.errors import ShardError, ShardOut
from shardcache.flows.reply_checks import fit_of
from shardcache.flows.steps import Broadcast, Outcome
from shardcache.resp import Command
from shardcache.wire import pack_all
from shardcache.wire.aio.pending_reply import ReplyBatch

__all__ = ("run_broadcast",)

_NONE = ReplyBatch(0)


class _Round:
    """One canvass under way. ``over`` ends when enough is known."""

    __slots__ = ("left", "on_reply", "out", "over")

    def __init__(self, step: Broadcast, over: "asyncio.Future[None]") -> None:
        self.on_reply = step.on_reply
        self.left = len(step.batches)
        self.out: dict[int, AsyncShard] = {}
        self.over = over

    def hear(self, place: int, shard: AsyncShard, found: list[Any] | ShardError) -> None:
        """Give what came to ``take``, unless enough is known by now, or the caller has gone."""
        self.left -= 1
        self.out.pop(place, None)
        # Looked at in any case: a shard that was on trial has proved something.
        outcome: Outcome = found if isinstance(found, ShardError) else check_replies(shard, found)
        if self.on_reply is None or self.over.done():
            return
        run = None if isinstance(outcome, ShardError) else shard.run
        if self.on_reply(place, outcome, run) or not self.left:
            self.over.set_result(None)

    def fail(self, error: Exception) -> None:
        """Raise where it is waited for."""
        if self.on_reply is not None and not self.over.done():
            self.over.set_exception(error)

    def expire(self) -> None:
        """Wait no more, though answers may still come in time for their shards."""
        if not self.over.done():
            for place, shard in list(self.out.items()):
                if self.on_reply is not None:
                    self.on_reply(place, shard.overdue_error(), None)
            self.over.set_result(None)


class _Part:
    """What stands in a shard's queue in the place of a future: of five answers three wake nobody, so none need go by the event loop."""

    __slots__ = ("_over", "_place", "_round", "_shard", "_single")

    def __init__(self, around: _Round, place: int, shard: AsyncShard, *, single: bool) -> None:
        self._round = around
        self._place = place
        self._shard = shard
        self._single = single
        self._over = False

    def done(self) -> bool:
        return self._over

    def set_result(self, found: Any, /) -> None:
        self._hear([found] if self._single else found)

    def set_exception(self, error: Any, /) -> None:
        if isinstance(error, ShardError):
            self._hear(error)
        else:
            self._over = True
            self._round.fail(error)

    def _hear(self, found: list[Any] | ShardError) -> None:
        self._over = True
        try:
            self._round.hear(self._place, self._shard, found)
        except Exception as fault:  # noqa: BLE001  the connection and its other callers have nothing to do with it
            self._round.fail(fault)


async def run_broadcast(shards: Sequence[AsyncShard], step: Broadcast) -> None:
    """Carry out one `Broadcast`; return when ``take`` has said that enough is known, or patience is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + step.timeout
    over: asyncio.Future[None] = loop.create_future()
    around = _Round(step, over)
    commands: list[Command] | None = None
    payload, owed = b"", _NONE
    for place, batch in enumerate(step.batches):
        shard = shards[batch.shard]
        if batch.commands is not commands:
            commands = batch.commands
            payload = pack_all(commands)
            owed = ReplyBatch(
                len(commands), fit_of(batch), commands, reads=batch.reads, in_order=not batch.reads
            )
        around.out[place] = shard
        try:
            shard.post(
                _Part(around, place, shard, single=owed.number == 1),
                payload,
                owed,
                deadline,
                batch.idempotent,
            )
        except ShardOut as error:
            if batch.compensates:
                shard.push(payload, len(batch.commands), deadline)
            around.hear(place, shard, error)
    if step.on_reply is None or over.done():
        await asyncio.sleep(0)  # or a caller that asks in a loop would never let the probers run
    if step.on_reply is None:
        return
    timer = (
        None
        if step.limit is None or step.limit >= step.timeout
        else loop.call_later(step.limit, around.expire)
    )
    try:
        await over
    finally:
        if timer is not None:
            timer.cancel()
