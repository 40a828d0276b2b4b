"""The asyncio side of `Canvass`: ask many shards, and wait for no more of them than are needed.

Every shard has one connection for all, in whose queue an answer that nobody waits for keeps its place: so there is nothing to
keep apart, and what is sent later takes effect later.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from shardcache.commands import Command
from shardcache.drivers.ashard import AsyncShard
from shardcache.drivers.replies import answered
from shardcache.errors import ShardError, ShardOut, ShardTimeout
from shardcache.flows.steps import Canvass, Outcome
from shardcache.wire import pack_all

__all__ = ("canvass",)

Part = asyncio.Future[Any]


async def canvass(shards: Sequence[AsyncShard], step: Canvass) -> None:
    """Carry out one `Canvass`; return when ``take`` has said that enough is known, or patience is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + step.patience
    take = step.take
    over: asyncio.Future[None] = loop.create_future()
    left = len(step.batches)
    out: dict[int, AsyncShard] = {}
    commands: list[Command] | None = None
    payload = b""

    def heard(place: int, shard: AsyncShard, single: bool, part: Part) -> None:
        """Give the outcome to ``take``, unless it is known by now, or the caller has gone."""
        nonlocal left
        left -= 1
        out.pop(place, None)
        error = None if part.cancelled() else part.exception()  # looked at in any case, or asyncio complains
        outcome: Outcome
        if error is None:
            # In any case too: a shard that was on trial has proved something.
            outcome = answered(shard, [part.result()] if single else part.result())
        elif isinstance(error, ShardError):
            outcome = error
        else:
            if not over.done():
                over.set_exception(error)
            return
        if take is None or over.done():
            return
        try:
            enough = take(place, outcome, None if error is not None else shard.run)
        except Exception as fault:  # noqa: BLE001  raised where it is waited for, or nobody would ever wake up
            over.set_exception(fault)
            return
        if enough or not left:
            over.set_result(None)

    def expire() -> None:
        """Wait no more, though answers may still come in time for their shards."""
        if not over.done():
            for place, shard in list(out.items()):
                if take is not None:
                    take(place, ShardTimeout(shard.name, "did not answer in time"), None)
            over.set_result(None)

    for place, batch in enumerate(step.batches):
        shard = shards[batch.shard]
        if batch.commands is not commands:
            commands = batch.commands
            payload = pack_all(commands)
        try:
            part = shard.start(payload, len(commands), deadline, batch.twice, bulk=False)
        except ShardOut as error:
            left -= 1
            if batch.undo:
                shard.push(payload, len(commands), deadline)
            if take is not None and not over.done() and take(place, error, None):
                over.set_result(None)
        else:
            out[place] = shard
            part.add_done_callback(partial(heard, place, shard, len(commands) == 1))
    if take is None or not left:
        await asyncio.sleep(0)  # or a caller that asks in a loop would never let the probers run
        return
    timer = None if step.limit is None or step.limit >= step.patience else loop.call_later(step.limit, expire)
    try:
        await over
    finally:
        if timer is not None:
            timer.cancel()
